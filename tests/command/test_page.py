"""The page on the command line: its commands run in a shell, and print what the page says."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from vmsnap_nb.lab.scenarios import build_scenario

pytestmark = pytest.mark.system

PAGE = ROOT / "docs" / "howto" / "command-line.md"
BLOCK = re.compile(r"(?ms)^```sh\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?")


def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    build_scenario("merge", tmp_path / "images")
    program = tmp_path / "bin" / "vmsnap-nb"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vmsnap_nb "$@"\n')
    program.chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if "DEFAULT" not in name},
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 8
    for command, wanted in blocks:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        same = doctest.OutputChecker().check_output(
            wanted, done.stdout, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        )
        assert same, f"{command}\n--- shows\n{done.stdout}"
