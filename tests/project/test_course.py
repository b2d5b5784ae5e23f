"""Every saved notebook has the cells of its source, and both languages have the same code and results."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from support.scripts import script

notebooks = script("notebooks")

SOURCES = sorted(notebooks.SOURCES.glob("*.md"))
TRANSLATED = sorted((notebooks.SOURCES / "zh").glob("*.md"))


def saved(path: Path) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]


def test_every_notebook_has_a_source() -> None:
    assert {path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb")} <= {path.stem for path in SOURCES}
    assert {path.stem for path in (notebooks.NOTEBOOKS / "zh").glob("*.ipynb")} == {path.stem for path in TRANSLATED}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_is_saved_is_what_the_source_says(source: Path) -> None:
    assert saved(notebooks.NOTEBOOKS / f"{source.stem}.ipynb") == notebooks.cells_of(source)


@pytest.mark.parametrize("translation", TRANSLATED, ids=lambda path: path.stem)
def test_the_chinese_edition_has_the_same_code_and_results(translation: Path) -> None:
    name = f"{translation.stem}.ipynb"
    english = nbformat.read(notebooks.NOTEBOOKS / name, as_version=4).cells
    chinese = nbformat.read(notebooks.NOTEBOOKS / "zh" / name, as_version=4).cells
    assert saved(notebooks.NOTEBOOKS / "zh" / name) == notebooks.translated(notebooks.SOURCES / translation.name)
    for ours, theirs in zip(english, chinese, strict=True):
        if ours.cell_type == "code":
            assert ours.source == theirs.source
            for output in ours.outputs:
                if "data" in output:
                    output["data"] = notebooks.asked_in("zh", output["data"])
            assert ours.outputs == theirs.outputs
        else:
            assert re.search(r"[\u4e00-\u9fff]", theirs.source), "not translated"


def test_code_in_a_translation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zh").mkdir()
    source = tmp_path / "x.md"
    source.write_text("Text\n\n```python\n1\n```\n")
    (tmp_path / "zh" / "x.md").write_text("文\n\n```python\n2\n```\n")
    with pytest.raises(ValueError, match="code of its own"):
        notebooks.translated(source)


def test_a_translation_with_a_cell_less_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zh").mkdir()
    source = tmp_path / "x.md"
    source.write_text("Text\n\n```python\n1\n```\n\nMore\n")
    (tmp_path / "zh" / "x.md").write_text("文\n\n<!-- code -->\n")
    with pytest.raises(ValueError, match="has not the cells"):
        notebooks.translated(source)
