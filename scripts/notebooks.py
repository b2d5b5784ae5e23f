"""Make the notebooks from their sources, execute them, and save them so that they read without a kernel.

Usage: ``python scripts/notebooks.py [SOURCE ...]``; all of ``notebooks/source/`` if none is named. The format of a
source is told in ``notebooks/README.md``.

What only a live page could show (progress bars and other widgets) is left out of the saved file; of a panel its static
picture stays.
"""

from __future__ import annotations

import base64
import copy
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbclient import NotebookClient

from vmsnap_nb.course.ask import shown_again
from vmsnap_nb.words.language import set_language

WIDGET = "application/vnd.jupyter.widget-view+json"
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
SOURCES = NOTEBOOKS / "source"
PICTURES = NOTEBOOKS.parent / "docs" / "images"
CODE = re.compile(r"(?ms)^```python\n(.*?)\n?^```$")
PLACE = re.compile(r"(?m)^<!-- code -->$")
PICTURE = re.compile(r"\(attachment:([\w-]+\.png)\)")


class Cell(NamedTuple):
    """One cell of a source; a translation has empty code."""

    kind: str
    text: str


def _split(text: str, mark: re.Pattern[str]) -> Iterator[Cell]:
    start = 0
    for match in mark.finditer(text):
        if prose := text[start : match.start()].strip():
            yield Cell("markdown", prose)
        yield Cell("code", match[1] if mark.groups else "")
        start = match.end()
    if prose := text[start:].strip():
        yield Cell("markdown", prose)


def cells_of(source: Path) -> list[Cell]:
    """Read the cells of an English source."""
    return list(_split(source.read_text(encoding="utf-8"), CODE))


def translated(source: Path) -> list[Cell] | None:
    """Read the cells of a source in Chinese, with the code of the English one; None where there is no translation.

    Raises
    ------
    ValueError
        The two have not the same kinds of cells in the same order, or the translation has code.
    """
    other = source.parent / "zh" / source.name
    if not other.exists():
        return None
    text = other.read_text(encoding="utf-8")
    if CODE.search(text):
        raise ValueError(f"{other} has code of its own; write <!-- code --> for each cell of {source}")
    english, chinese = cells_of(source), list(_split(text, PLACE))
    if [cell.kind for cell in english] != [cell.kind for cell in chinese]:
        raise ValueError(
            f"{other} has not the cells of {source}: {len(chinese)} and {len(english)}, or in another order"
        )
    return [ours if ours.kind == "code" else theirs for ours, theirs in zip(english, chinese, strict=True)]


def notebook_of(cells: list[Cell]) -> Any:
    """Make a notebook that was not executed."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        make[cell.kind](cell.text, id=f"cell-{number:02}", **attached(cell)) for number, cell in enumerate(cells, 1)
    ]
    notebook.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return notebook


def attached(cell: Cell) -> dict[str, Any]:
    """Return the pictures that a cell of prose shows, in the form of a notebook."""
    names = PICTURE.findall(cell.text) if cell.kind == "markdown" else []
    pictures = {name: {"image/png": base64.b64encode((PICTURES / name).read_bytes()).decode()} for name in names}
    return {"attachments": pictures} if pictures else {}


def cleaned(notebook: Any) -> Any:
    """Take out what a saved file cannot show, and what changes from run to run."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_static(output)]
    return notebook


def _is_static(output: Any) -> bool:
    data = output.get("data", {})
    if "data" in output and not any(data.values()):  # a line that was taken away in the end
        return False
    return data.pop(WIDGET, None) is None or "text/html" in data


def in_chinese(notebook: Any, cells: list[Cell]) -> Any:
    """Return an executed notebook with other prose, and with the questions of the course in Chinese."""
    other = copy.deepcopy(notebook)
    for cell, theirs in zip(other.cells, cells, strict=True):
        cell.source = theirs.text
        cell.update(attached(theirs))
        for output in cell.get("outputs", ()):
            if "data" in output:
                output["data"] = nbformat.from_dict(asked_in("zh", output["data"]))
    return other


def asked_in(code: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return what an output shows, a question of the course in another language."""
    set_language(code)
    try:
        return shown_again(data)
    finally:
        set_language(None)


def main() -> None:
    """Make the notebooks whose sources were named."""
    named = [Path(name).resolve() for name in sys.argv[1:]]
    # A translation holds prose alone: it is saved along with the source that it translates.
    sources = [source.parent.parent / source.name if source.parent.name == "zh" else source for source in named]
    for source in dict.fromkeys(sources) or sorted(SOURCES.glob("*.md")):
        chinese = translated(source)
        notebook = notebook_of(cells_of(source))
        with tempfile.TemporaryDirectory(prefix="vmsnap-", dir="/tmp") as folder:
            os.environ["VMSNAP_LAB"] = f"{folder}/lab"
            NotebookClient(
                notebook, timeout=300, coalesce_streams=True, resources={"metadata": {"path": folder}}
            ).execute()
        target = NOTEBOOKS / f"{source.stem}.ipynb"
        nbformat.write(cleaned(notebook), target)
        print(f"saved {target}")
        if chinese is not None:
            other = NOTEBOOKS / "zh" / target.name
            other.parent.mkdir(exist_ok=True)
            nbformat.write(in_chinese(notebook, chinese), other)
            print(f"saved {other}")


if __name__ == "__main__":
    main()
