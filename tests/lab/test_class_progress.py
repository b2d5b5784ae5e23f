"""One table from the labs of a class: counts only, and nothing that a student puts into a lab does harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vmsnap_nb as vs
from vmsnap_nb.lab.exercises import class_table
from vmsnap_nb.lab.exercises.practice import EXERCISES
from vmsnap_nb.lab.exercises.progress import Progress, read_progress, write_progress

DONE = Progress(hints=1, checks=3, passed=3, of=3, at=1.0e9)
HALF = Progress(checks=1, passed=1, of=2, at=1.1e9)


def test_each_student_is_a_row_and_each_exercise_a_column(tmp_path: Path) -> None:
    write_progress(tmp_path / "ann" / ".vmsnap" / "exercises", {"loop": DONE, "pivot": HALF})
    (tmp_path / "ben" / ".vmsnap" / "exercises" / "loop").mkdir(parents=True)
    labs = [tmp_path / name / ".vmsnap" for name in ("ann", "ben", "cleo")]
    table = vs.class_progress(labs)
    assert list(table.index) == ["ann", "ben", "cleo"]
    assert list(table.columns) == ["done", "checks", "hints", "last", *EXERCISES]
    assert list(table.loc["ann", ["done", "checks", "hints", "loop", "pivot"]]) == [1, 4, 1, "done", "partly"]
    assert str(table.loc["ann", "last"]) == "2004-11-09 11:33:20+00:00"
    assert list(table["loop"]) == ["done", "begun", "new"]
    assert (table == "done").sum()["loop"] == 1
    assert table["last"].isna().tolist() == [False, True, True]
    assert list(vs.class_progress({"Müller": labs[0]}).index) == ["Müller"]
    assert vs.class_progress([]).empty


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "text", "huge", "unreadable", "countless"])
def test_what_a_student_has_put_there_instead_counts_as_nothing(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "eve" / ".vmsnap" / "exercises"
    write_progress(tmp_path / "other", {"loop": DONE})
    folder.mkdir(parents=True)
    file = folder / ".progress.json"
    if kind == "link":
        file.symlink_to(tmp_path / "other" / ".progress.json")
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "huge":
        os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 1 << 40)
    else:
        texts = {"text": "[[[", "unreadable": '{"loop": {"checks": true}}'}
        file.write_text(texts.get(kind, f'{{"loop": {{"checks": {10**30}}}}}'))
    assert vs.class_progress([folder.parent]).loc["eve", "checks"] == 0


def test_files_of_other_users_are_read_for_the_table_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_progress(tmp_path / "exercises", {"loop": DONE})
    if os.geteuid() == 0:
        os.chown(tmp_path / "exercises" / ".progress.json", 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read_progress(tmp_path / "exercises") == {}
    assert class_table.class_progress({"x": tmp_path}).loc["x", "done"] == 1
