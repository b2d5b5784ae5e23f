"""Every notebook runs from clean, and its saved file shows its figures without a kernel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT

from vmsnap_nb.course.ask import predict
from vmsnap_nb.course.index import LESSONS
from vmsnap_nb.course.shown import DATA

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def figures(notebook: Any) -> list[str]:
    return [output["data"]["text/plain"] for output in outputs(notebook) if "image/svg+xml" in output.get("data", {})]


def test_there_is_a_quickstart() -> None:
    assert ROOT / "notebooks" / "00-quickstart.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_frame_shows_a_temporary_path_or_one_without_its_end(path: Path) -> None:
    frames = [output["data"]["text/html"] for output in outputs(nbformat.read(path, as_version=4)) if is_frame(output)]
    cut = [cell for frame in frames for cell in re.findall(r"<t[dh]>(/.*?)</t[dh]>", frame) if cell.endswith("...")]
    assert not cut
    assert not [frame for frame in frames if "/tmp/vmsnap-" in frame]


def is_frame(output: Any) -> bool:
    return 'class="dataframe"' in output.get("data", {}).get("text/html", "")


def executed(path: Path, folder: Path, *, cells: slice = slice(None)) -> Any:
    """Return a notebook that was executed in a kernel of its own, or only some of its cells."""
    fresh = nbformat.read(path, as_version=4)
    fresh.cells = fresh.cells[cells]
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(fresh, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return fresh


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_clean_shows_what_was_saved_and_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    monkeypatch.setenv("VMSNAP_LAB", str(short / "lab"))
    saved = nbformat.read(path, as_version=4)
    fresh = executed(path, tmp_path)
    assert not [output for output in outputs(fresh) if output.output_type == "error"]
    assert len(figures(fresh)) == len(figures(saved)) > 0
    assert [*tmp_path.iterdir(), *short.iterdir()] == []
    told = [output["data"][DATA] for output in outputs(fresh) if DATA in output.get("data", {})]
    lesson = find_lesson(path)
    asked = [row.name for row in LESSONS[lesson][0]]
    assert sorted(one["name"] for one in told if one["kind"] == "question") == sorted(asked)
    assert sorted(one["name"] for one in told if one["kind"] == "outcome") == sorted(asked)
    for one in told:
        if one["kind"] == "outcome":
            assert predict(one["name"]).question.option(one["value"]), f"{one} is none of the options"
    assert told[-1] == {"kind": "quiz", "name": lesson}


def find_lesson(path: Path) -> str:
    """Return the name by which a notebook's questions are known."""
    return path.stem.split("-", 1)[1].removeprefix("a-")


@pytest.mark.notebook
@pytest.mark.parametrize("stem", ["04-merging", "06-offline-repair", "07-a-real-host"])
def test_it_runs_again_after_it_was_left_in_the_middle(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    """*Restart and run all*, in Chinese; the others leave only guests, which `test_lesson.py` begins anew."""
    monkeypatch.setenv("VMSNAP_LAB", str(short / "lab"))
    path = ROOT / "notebooks" / f"{stem}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    middle = len(cells) // 2
    executed(path, tmp_path, cells=slice(middle))
    assert (short / "lab-lesson").exists()
    monkeypatch.setenv("VMSNAP_LANG", "zh")  # what happens does not depend on the language in which it is told
    again = executed(path.parent / "zh" / path.name, tmp_path)
    assert [*tmp_path.iterdir(), *short.iterdir()] == []
    assert outcomes(again) == outcomes(nbformat.read(path, as_version=4))


def outcomes(notebook: Any) -> dict[str, Any]:
    """Return what happened, by question, but for the two that depend on the machine."""
    told = (output["data"][DATA] for output in outputs(notebook) if DATA in output.get("data", {}))
    found = {one["name"]: one["value"] for one in told if one["kind"] == "outcome"}
    return {
        name: found[name] for name in found if name not in ("real-host/overcommit", "real-host/start-without-format")
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_opens_with_its_question_and_closes_with_key_points(path: Path) -> None:
    text = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    for word in ("**The question**", "You will be able to", "Prerequisites", "Duration", "Key terms"):
        assert word in text[0], word
    assert any(cell.startswith("## Key points") for cell in text)
    assert "**Next**: " in text[-1]
    assert_linked(path, text[-1])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_so_does_the_chinese_edition(path: Path) -> None:
    saved = nbformat.read(path.parent / "zh" / path.name, as_version=4)
    text = [cell.source for cell in saved.cells if cell.cell_type == "markdown"]
    for word in ("**问题**", "学完能够", "预备知识", "时间", "关键术语"):
        assert word in text[0], word
    assert any(cell.startswith("## 要点") for cell in text)
    assert re.search(r"\*\*下一[课步]\*\*：", text[-1])
    assert_linked(path.parent / "zh" / path.name, text[-1])


def assert_linked(path: Path, text: str) -> None:
    """The last cell leads to what comes next."""
    [target, *_] = re.findall(r"\]\(([^)]+\.ipynb)\)", text)
    assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_saved_file_reads_without_a_kernel(path: Path) -> None:
    saved = nbformat.read(path, as_version=4)
    nbformat.validate(saved)
    assert all(cell.execution_count for cell in saved.cells if cell.cell_type == "code"), "save it executed"
    assert "widgets" not in saved.metadata, "save it without widget state"
    for output in outputs(saved):
        assert output.output_type != "error"
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
    drawn = figures(saved)
    assert drawn
    forms = ("'---", "guest reads", "Layers, base first")  # boxes, the strips of a block map, or changed files
    assert all(any(form in text for form in forms) for text in drawn), "a figure without its text form"
    assert path.stat().st_size < 1 << 20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_duration_is_that_of_its_words_cells_and_tasks(path: Path) -> None:
    """As `docs/teaching.md` says how it is computed; the Chinese edition and that page state the same."""
    minutes = computed_minutes(nbformat.read(path, as_version=4))
    chinese = nbformat.read(path.parent / "zh" / path.name, as_version=4).cells[0].source
    english = nbformat.read(path, as_version=4).cells[0].source
    teaching = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    stated = [
        int(match[1])
        for pattern, text in (
            (r"\| Duration \| (\d+) minutes", english),
            (r"\| 时间 \| (\d+) 分钟", chinese),
            (rf"\| {path.stem.replace('-', ' ')} \| (\d+) \|", teaching),
        )
        if (match := re.search(pattern, text))
    ]
    assert len(stated) == 3
    assert len(set(stated)) == 1
    assert abs(stated[0] - minutes) <= minutes / 4


def computed_minutes(notebook: Any) -> float:
    """Return how long a student needs: to read, to run, to predict, to type, and to wait for the guests."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    asked = [
        output["data"]["text/plain"] for output in outputs(notebook) if output.get("data", {}).get(DATA) is not None
    ]
    read = [re.sub(r"(?s)```.*?```", "", text) for text in prose] + asked
    words = sum(len(re.findall(r"[A-Za-z][\w'.-]*", text)) for text in read)
    typed = sum(
        len(re.findall(r"(?m)^#+ .*[Bb]y hand|^\*\*By mouse|^### (?:In your own|Try it)", text)) for text in prose
    )
    predicted = sum(cell.source.count("vs.predict(") for cell in code)
    return words / 180 + len(code) / 3 + predicted + 3 * typed + 1
