"""What a notebook shows of an error: its words, and where in the user's own code it came from."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from vmsnap_nb.words.message import Message, t

__all__ = ["error_lines", "is_ours"]

_OURS = str(Path(__file__).parent.parent) + "/"
_RED, _PLAIN = "\x1b[0;31m", "\x1b[0m"


def error_lines(error: BaseException) -> list[str]:
    """Return the lines that IPython shows in place of a traceback, with colours if IPython shows colours.

    The frames of vmsnap_nb and of its libraries are left out: they do not help a user who asked for something that
    is refused. ``%debug`` and `traceback.print_exception` still have them.
    """
    shell = _shell()
    red, plain = (_RED, _PLAIN) if str(getattr(shell, "colors", "nocolor")).lower() != "nocolor" else ("", "")
    words = "\n".join([str(error), *getattr(error, "__notes__", ())])
    lines = [f"{red}{type(error).__name__}{plain}{': ' if words else ''}{words}"]
    frames = _own(traceback.extract_tb(error.__traceback__))
    return lines + [f"  {_at(frame, _place(frame.filename, shell))}" for frame in frames]


def is_ours(error: BaseException) -> bool:
    """Return whether an error came out of vmsnap_nb."""
    return any(frame.filename.startswith(_OURS) for frame in traceback.extract_tb(error.__traceback__))


def _at(frame: traceback.FrameSummary, place: str) -> Message:
    line, code = frame.lineno, frame.line
    if frame.name == "<module>":
        return t("at {place}, line {line}: {code}", place=place, line=line, code=code)
    return t("at {place}, line {line} in {name}: {code}", place=place, line=line, name=frame.name, code=code)


def _own(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """Return the frames before the first of vmsnap_nb, without those of IPython that lead to the cell."""
    first = next((number for number, frame in enumerate(frames) if frame.filename.startswith(_OURS)), len(frames))
    return [frame for frame in frames[:first] if frame.line and "/IPython/" not in frame.filename]


def _shell() -> Any:
    """Return the IPython that runs here, or None; without loading it."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _place(filename: str, shell: Any) -> str:
    named = None if shell is None else shell.compile.format_code_name(filename)  # as ("Cell", "In[3]")
    return filename if named is None else " ".join(named)
