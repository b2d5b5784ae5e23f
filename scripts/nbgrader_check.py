"""Have nbgrader itself make and grade the exercises: all points for the solutions, none for untouched notebooks.

Usage: ``python scripts/nbgrader_check.py``, by `make test-nbgrader`. nbgrader is installed into ``build/nbgrader``, so
that its many parts do not get among those of this project, and cannot import it. The steps are those of
``docs/exercises.md``.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import nbformat
from exercises import EXERCISES, SOURCES, cells_of, teachers

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "build" / "nbgrader"
VERSION = "0.9.6"


def install() -> None:
    """Install nbgrader beside this project, if it is not there."""
    if not (TOOL / "bin" / "nbgrader").exists():
        venv.create(TOOL, with_pip=True)
        subprocess.run([TOOL / "bin" / "pip", "install", "-q", f"nbgrader=={VERSION}"], check=True)


def hand_in(course: Path, student: str, *, solved: bool) -> None:
    """Put a student's notebooks where nbgrader takes them from."""
    folder = course / "submitted" / student / "exercises"
    folder.mkdir(parents=True)
    for source in sorted(SOURCES.glob("*.md")):
        notebook = nbformat.read(course / "release" / "exercises" / f"{source.stem}.ipynb", as_version=4)
        whole = teachers(cells_of(source))
        ours = nbformat.read(EXERCISES / f"{source.stem}.ipynb", as_version=4)
        if [cell.source for cell in notebook.cells] != [cell.source for cell in ours.cells]:
            sys.exit(f"nbgrader makes another students' notebook of {source}")
        for cell, answer in zip(notebook.cells, whole.cells, strict=True):
            if solved and cell.metadata["nbgrader"]["solution"]:
                cell.source = answer.source
        nbformat.write(notebook, folder / f"{source.stem}.ipynb")


def main() -> None:
    """Make a course, hand in twice, and compare the points."""
    install()
    with tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder:
        course = Path(folder)
        env = {
            **os.environ,
            "PATH": f"{TOOL / 'bin'}:{os.environ['PATH']}",
            "VMSNAP_LAB": str(course / "lab"),
        }

        def nbgrader(*arguments: str) -> None:
            subprocess.run([TOOL / "bin" / "nbgrader", *arguments], cwd=course, env=env, check=True)

        script = ROOT / "scripts" / "exercises.py"
        subprocess.run([sys.executable, script, "--teacher", course], check=True)
        nbgrader("generate_assignment", "exercises")
        hand_in(course, "all", solved=True)
        hand_in(course, "none", solved=False)
        nbgrader("autograde", "exercises")
        # A kernel that is ended may leave guests running that do not heed the power button.
        subprocess.run([sys.executable, "-c", "import vmsnap_nb as vs; vs.Lab().destroy()"], env=env, check=True)
        nbgrader("export", "--to", "grades.csv")
        with open(course / "grades.csv", newline="") as file:
            rows = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    print(rows)
    if rows["all"][0] != rows["all"][1] or rows["none"][0] != 0:
        sys.exit("these are not the points that were expected")


if __name__ == "__main__":
    main()
