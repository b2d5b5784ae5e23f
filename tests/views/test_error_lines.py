"""What notebooks show of an error: its words and the user's own lines, and not the way through this package."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vmsnap_nb.errors import NothingToDoError, VmsnapError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.merge.request import CleanupRequest
from vmsnap_nb.plans.request import Reading


def test_without_ipython_there_are_no_colours_and_no_frames_of_this_package() -> None:
    with pytest.raises(NothingToDoError) as raised:
        CleanupRequest().plan(Reading(forest=Forest({})))
    raised.value.add_note("a note")
    head, place = raised.value._render_traceback_()
    assert head == f"NothingToDoError: {raised.value}\na note"
    assert place.startswith(f"  at {__file__}, line ")
    assert place.endswith("CleanupRequest().plan(Reading(forest=Forest({})))")


def test_one_that_was_not_raised_yet() -> None:
    assert VmsnapError("open the door")._render_traceback_() == ["VmsnapError: cannot open the door"]


@pytest.mark.parametrize("colours", ["nocolor", "neutral"])
def test_ipython_names_the_cells(tmp_path: Path, colours: str) -> None:
    code = textwrap.dedent(
        f"""
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance(colors={colours!r})
        shell.run_cell("import vmsnap_nb as vs\\n\\ndef top(path):\\n    return vs.chain(path).top", store_history=True)
        shell.run_cell("top('/nowhere')", store_history=True)
        """
    )
    env = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    head, *_, outer, inner = done.stdout.strip().splitlines()
    assert head.removeprefix("\x1b[0;31m").startswith("NotFoundError")
    assert ("\x1b" in head) == (colours != "nocolor")
    assert outer == "  at Cell In[2], line 1: top('/nowhere')"
    assert inner == "  at Cell In[1], line 4 in top: return vs.chain(path).top"


def test_an_import_in_ipython_adds_the_magic_and_shortens_interrupts(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance(colors="nocolor")
        shell.run_cell("import vmsnap_nb as vs; from unittest.mock import patch", store_history=True)
        shell.run_cell("%%guest demo\\nls", store_history=True)
        interrupted = "with patch('os.path.abspath', side_effect=KeyboardInterrupt): vs.chain('/nowhere')"
        shell.run_cell(interrupted, store_history=True)
        shell.run_cell("raise KeyboardInterrupt", store_history=True)
        """
    )
    env = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    lines = done.stdout.splitlines()
    at = lines.index("KeyboardInterrupt")
    assert "no lab is open" in "".join(lines[:at])
    assert lines[at + 1].startswith("  at Cell In[3], line 1: with patch")
    assert lines[at + 2].startswith("---")
    assert "Traceback" in lines[at + 3]
