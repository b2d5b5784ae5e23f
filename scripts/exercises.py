"""Make the notebooks of the exercises from their sources: those for students, and the teacher's, with the solutions.

Usage: ``python scripts/exercises.py`` writes the students' notebooks, in both languages, to ``notebooks/exercises/``;
``python scripts/exercises.py --teacher FOLDER`` writes those with the solutions to ``FOLDER/source/exercises/`` (and
``FOLDER/source/exercises-zh/``), as a course of nbgrader has them, and an ``nbgrader_config.py`` that runs them with
this Python, wherever nbgrader itself is installed.

The sources are written like those of the course (``notebooks/README.md``). What nbgrader has to know of a cell follows
from its code: where a solution is marked, and where points are given. All other cells are for reading only.
https://nbgrader.readthedocs.io/en/stable/contributor_guide/metadata.html
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

from notebooks import NOTEBOOKS, Cell, cells_of, notebook_of, translated

EXERCISES = NOTEBOOKS / "exercises"
SOURCES = EXERCISES / "source"
SOLUTION = re.compile(r"(?ms)^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$")
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
POINTS = re.compile(r"\.points\((\d+)\)")
NAME = re.compile(r'lab\.(?:reset_exercise|check)\("([a-z-]+)"\)')

CONFIG = """import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
# nbgrader may be installed in another environment, which cannot import vmsnap_nb. This kernel can.
os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(HERE / "jupyter"), os.environ.get("JUPYTER_PATH")]))

c = get_config()
c.CourseDirectory.course_id = "course"
c.CourseDirectory.root = str(HERE)
c.ExecutePreprocessor.kernel_name = "vmsnap"
c.ExecutePreprocessor.timeout = 300
"""


def configure(course: Path) -> None:
    """Write what nbgrader needs to run the exercises, unless the course has a configuration of its own."""
    kernel = course / "jupyter" / "kernels" / "vmsnap" / "kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "vmsnap_nb", "language": "python"}
    kernel.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    config = course / "nbgrader_config.py"
    if config.exists():
        print(f"kept {config}: it must set ExecutePreprocessor.kernel_name and JUPYTER_PATH, see docs/exercises.md")
    else:
        config.write_text(CONFIG, encoding="utf-8")
        print(f"saved {config}")


def metadata(cell: Cell, place: str, exercise: str) -> dict[str, Any]:
    """Return what nbgrader has to know of a cell (its schema 3)."""
    points = POINTS.search(cell.text) if cell.kind == "code" else None
    solution = cell.kind == "code" and SOLUTION.search(cell.text) is not None
    about: dict[str, Any] = {
        "schema_version": 3,
        "grade_id": f"check-{exercise}" if points else f"solve-{exercise}" if solution else place,
        "grade": points is not None,
        "locked": not solution,
        "solution": solution,
        "task": False,
    }
    return about | ({"points": int(points[1])} if points else {})


def teachers(cells: list[Cell]) -> Any:
    """Make the notebook with the solutions."""
    notebook = notebook_of(cells)
    exercise = ""
    for made, cell in zip(notebook.cells, cells, strict=True):
        if cell.kind == "code" and (named := NAME.search(cell.text)):
            exercise = named[1]
        made.metadata["nbgrader"] = metadata(cell, made.id, exercise)
    return notebook


def students(cells: list[Cell]) -> Any:
    """Make the notebook without the solutions, as nbgrader would make it of the teacher's."""
    notebook = teachers(cells)
    for cell in notebook.cells:
        cell.source = SOLUTION.sub(STUB, cell.source)
    return notebook


def editions(source: Path) -> dict[str, list[Cell]]:
    """Return the cells of a source by language: ``""`` for English, ``zh`` where there is a translation."""
    chinese = translated(source)
    return {"": cells_of(source)} | ({} if chinese is None else {"zh": chinese})


def main() -> None:
    """Write the students' notebooks, or the teacher's."""
    teacher = Path(sys.argv[2]) if sys.argv[1:2] == ["--teacher"] else None
    if teacher is not None:
        configure(teacher)
    for source in sorted(SOURCES.glob("*.md")):
        for language, cells in editions(source).items():
            if teacher is None:
                notebook, folder = students(cells), EXERCISES / language
            else:
                assignment = f"exercises-{language}" if language else "exercises"
                notebook, folder = teachers(cells), teacher / "source" / assignment
            folder.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, folder / f"{source.stem}.ipynb")
            print(f"saved {folder / source.stem}.ipynb")


if __name__ == "__main__":
    main()
