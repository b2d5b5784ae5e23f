"""What a notebook shows of an error: its words, and where in the user's own code it came from."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from vmsnap_nb.errors import VmsnapError

__all__ = ["error_lines"]

_OURS = str(Path(__file__).parent.parent) + "/"
_RED, _PLAIN = "\x1b[0;31m", "\x1b[0m"


def error_lines(error: VmsnapError) -> list[str]:
    """Give the lines that IPython shows in place of a traceback.

    The frames of this package and of what it stands on are left out: they say nothing to whoever has asked for
    something that cannot be done. ``%debug`` and `traceback.print_exception` have them still.

    Parameters
    ----------
    error : VmsnapError
        As it was raised.

    Returns
    -------
    list of str
        With the codes that terminals and notebooks show as colours, if IPython shows colours.
    """
    shell = _shell()
    red, plain = (_RED, _PLAIN) if str(getattr(shell, "colors", "nocolor")).lower() != "nocolor" else ("", "")
    words = "\n".join([str(error), *getattr(error, "__notes__", ())])
    lines = [f"{red}{type(error).__name__}{plain}: {words}"]
    for frame in _own(traceback.extract_tb(error.__traceback__)):
        inside = "" if frame.name == "<module>" else f" in {frame.name}"
        lines.append(f"  at {_place(frame.filename, shell)}, line {frame.lineno}{inside}: {frame.line}")
    return lines


def _own(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """Give the frames before the first of this package, without those of IPython that lead to the cell."""
    first = next((number for number, frame in enumerate(frames) if frame.filename.startswith(_OURS)), len(frames))
    return [frame for frame in frames[:first] if frame.line and "/IPython/" not in frame.filename]


def _shell() -> Any:
    """Give the IPython that runs here, or None; without loading it."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _place(filename: str, shell: Any) -> str:
    named = None if shell is None else shell.compile.format_code_name(filename)  # as ("Cell", "In[3]")
    return filename if named is None else " ".join(named)
