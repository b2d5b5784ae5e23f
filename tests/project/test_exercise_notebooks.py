"""The notebooks of the exercises: no solution in the students', and all points for the teacher's when it is executed.

The rules for nbgrader's metadata are those of its schema 3:
https://nbgrader.readthedocs.io/en/stable/contributor_guide/metadata.html
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT, TESTS

from vmsnap_nb.lab.exercises.practice import EXERCISES
from vmsnap_nb.words.message import t

sys.path.append(str(ROOT / "scripts"))
try:
    exercises = importlib.import_module("exercises")
finally:
    sys.path.pop()

SOURCES = sorted(exercises.SOURCES.glob("*.md"))
EDITIONS = [
    pytest.param(source, language, cells, id=f"{source.stem}-{language or 'en'}")
    for source in SOURCES
    for language, cells in exercises.editions(source).items()
]
KEYS = {"schema_version", "grade_id", "grade", "locked", "solution", "task", "points"}


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def graded(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def test_every_exercise_is_in_one_notebook() -> None:
    places = [name for source in SOURCES for name in re.findall(r'reset_exercise\("([a-z-]+)"\)', source.read_text())]
    assert sorted(places) == sorted(EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebook_asks_for_what_the_exercise_asks(name: str) -> None:
    exercise = EXERCISES[name]
    text = plain("".join(source.read_text() for source in SOURCES))
    assert plain(exercise.task) in text
    assert f"## {exercise.title} *({exercise.level})*" in text
    chinese = plain("".join((source.parent / "zh" / source.name).read_text() for source in SOURCES)).replace(" ", "")
    for part in (exercise.title, exercise.task):
        assert plain(t(part).in_language("zh")).replace(" ", "") in chinese


@pytest.mark.parametrize("name", [name for name, exercise in EXERCISES.items() if exercise.lines])
def test_lines_to_put_in_order_are_shown_without_a_kernel(name: str) -> None:
    block = "\n".join(["```text", *(f"{line.letter}  {line.text}" for line in EXERCISES[name].lines), "```"])
    for language in ("", "zh"):
        saved = [nbformat.read(path, as_version=4) for path in sorted((exercises.EXERCISES / language).glob("*.ipynb"))]
        assert sum(block in cell.source for notebook in saved for cell in notebook.cells) == 1, language


def test_both_languages_have_all_exercises() -> None:
    assert [sorted(exercises.editions(source)) for source in SOURCES] == [["", "zh"]] * len(SOURCES)


@pytest.mark.parametrize(("source", "language", "cells"), EDITIONS)
def test_what_is_saved_has_no_solution(source: Path, language: str, cells: list[Any]) -> None:
    path = exercises.EXERCISES / language / f"{source.stem}.ipynb"
    saved = nbformat.read(path, as_version=4)
    nbformat.validate(saved)
    wanted = exercises.students(cells)
    assert [dict(cell) for cell in saved.cells] == [dict(cell) for cell in wanted.cells]
    whole = exercises.teachers(cells)
    solved = [cell for cell in whole.cells if cell.metadata["nbgrader"]["solution"]]
    assert len(solved) == len(graded(whole)) > 0
    for cell in solved:
        [solution] = re.findall(r"(?s)### BEGIN SOLUTION\n(.*)\n### END SOLUTION", cell.source)
        assert solution not in path.read_text()
    assert "SOLUTION" not in path.read_text()
    if language == "zh":
        assert all(re.search(r"[\u4e00-\u9fff]", cell.source) for cell in saved.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize(("source", "language", "cells"), EDITIONS)
def test_the_metadata_is_nbgraders(source: Path, language: str, cells: list[Any]) -> None:
    for notebook in (exercises.students(cells), exercises.teachers(cells)):
        found = [cell.metadata["nbgrader"] for cell in notebook.cells]
        assert len({about["grade_id"] for about in found}) == len(found)
        for cell, about in zip(notebook.cells, found, strict=True):
            assert about.keys() <= KEYS
            assert about["schema_version"] == 3
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", about["grade_id"])
            assert about["locked"] is not about["solution"]
            assert about["task"] is False
            if cell.cell_type == "markdown":
                assert (about["grade"], about["solution"]) == (False, False)
            if about["grade"]:
                assert about["points"] > 0
                # The last value of the cell is a number: nbgrader takes it as the points.
                assert cell.source.splitlines()[-1] == f"check.points({about['points']})"
            assert about["grade"] is ("points" in about)


@pytest.mark.notebook
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_solutions_get_all_points(
    source: Path, tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMSNAP_LAB", str(short / "lab"))
    notebook = exercises.teachers(exercises.cells_of(source))
    notebook.cells.append(nbformat.v4.new_code_cell("lab.destroy()"))
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in graded(notebook):
        [shown] = [output["data"]["text/plain"] for output in cell.outputs if output.output_type == "display_data"]
        [points] = [output["data"]["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
        assert float(points) == cell.metadata["nbgrader"]["points"], shown


def test_a_course_of_nbgrader_runs_with_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nbgrader may be in another environment, whose kernel cannot import this package: nobody would get points."""
    from jupyter_client.kernelspec import KernelSpecManager
    from traitlets.config import Config

    monkeypatch.setenv("JUPYTER_PATH", "/elsewhere")
    exercises.configure(tmp_path)
    config, source = Config(), (tmp_path / "nbgrader_config.py").read_text()
    exec(source, {"get_config": lambda: config, "__file__": str(tmp_path / "nbgrader_config.py")})
    assert config.CourseDirectory.root == str(tmp_path)
    spec = KernelSpecManager().get_kernel_spec(config.ExecutePreprocessor.kernel_name)
    assert spec.argv[0] == sys.executable
    (tmp_path / "nbgrader_config.py").write_text("# mine")
    exercises.configure(tmp_path)
    assert (tmp_path / "nbgrader_config.py").read_text() == "# mine"


# -- the page of the documentation ---------------------------------------------------------------------------


def test_the_page_lists_every_exercise() -> None:
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \| (\w+) \|", (ROOT / "docs" / "exercises.md").read_text())
    assert rows == [(one.name, one.level) for one in EXERCISES.values()]


@pytest.mark.system
def test_the_page_shows_what_it_says(short: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(TESTS / "support" / "page.py"),
            str(ROOT / "docs" / "exercises.md"),
            "import vmsnap_nb as vs; labs = [vs.Lab()]",
        ],
        cwd=short,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VMSNAP_LAB": str(short / "l")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
