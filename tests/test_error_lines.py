"""What notebooks show of an error: its words and the user's own lines, and not the way through this package."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import pytest

import vmsnap_nb as vs
from vmsnap_nb.errors import NotFoundError, VmsnapError

CELL = """
def top(path):
    return vs.chain(path).top
top("/nowhere")
"""


def test_the_users_own_lines_and_no_others() -> None:
    with pytest.raises(NotFoundError) as raised:
        exec(compile(CELL, "/tmp/ipykernel_7/1.py", "exec"), {"vs": vs})
    error = raised.value
    package = str(Path(vs.__file__).parent)
    assert any(frame.filename.startswith(package) for frame in traceback.extract_tb(error.__traceback__))
    error.add_note("a note")
    head, *places = error._render_traceback_()
    assert head == f"\x1b[0;31mNotFoundError\x1b[0m: {error}\na note"
    assert [place.partition(":")[0] for place in places[-2:]] == ["  at line 4", "  at line 3 in top"]
    assert all(package not in place for place in places)


def test_one_that_was_not_raised_yet() -> None:
    assert VmsnapError("tried")._render_traceback_() == ["\x1b[0;31mVmsnapError\x1b[0m: tried"]


def test_ipython_shows_it_so(tmp_path: Path) -> None:
    cell = textwrap.dedent(
        """
        from IPython.core.interactiveshell import InteractiveShell
        InteractiveShell.instance().run_cell("import vmsnap_nb as vs\\nvs.chain('/nowhere')")
        """
    )
    env = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", cell], capture_output=True, text=True, check=True, env=env)
    assert "at line 2" in done.stdout
    assert "read the chain of /nowhere" in done.stdout
    assert "File " not in done.stdout
    assert "Traceback" not in done.stdout
