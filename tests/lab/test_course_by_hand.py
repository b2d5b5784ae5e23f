"""The commands that the course has students type, without this package, do what the text says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support import ROOT
from support.labs import nobodys_python

pytestmark = pytest.mark.system

LESSON = "03-external-snapshots.md"


def commands(source: Path) -> str:
    [fence] = re.findall(r"(?ms)^```sh\n(.*?)^```$", source.read_text(encoding="utf-8"))
    return str(fence)


def test_both_languages_have_the_same_commands() -> None:
    folder = ROOT / "notebooks" / "source"
    assert commands(folder / LESSON) == commands(folder / "zh" / LESSON)


def test_the_commands_of_a_live_merge_do_what_the_lesson_says(short: Path) -> None:
    user = nobodys_python(short)
    script = f"set -e; export HOME={short} XDG_RUNTIME_DIR={short}/r; cd {short}\n" + commands(
        ROOT / "notebooks" / "source" / LESSON
    )
    done = subprocess.run(
        [*user["before"], "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    written = re.findall(r"(?m)^ *vda +.*/(\S+)$", done.stdout)
    assert written == ["disk.qcow2", "disk.monday", "disk.qcow2", "disk.tuesday"]
    assert "backing file" not in done.stdout.rpartition("image: disk.tuesday")[2]
