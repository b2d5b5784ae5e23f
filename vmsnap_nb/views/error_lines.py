"""What a notebook shows of an error: its words, and where in the user's own code it came from."""

from __future__ import annotations

import traceback
from pathlib import Path

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
        With the codes that terminals and notebooks show as colours.
    """
    words = "\n".join([str(error), *getattr(error, "__notes__", ())])
    lines = [f"{_RED}{type(error).__name__}{_PLAIN}: {words}"]
    for frame in _own(traceback.extract_tb(error.__traceback__)):
        place = "line" if _is_cell(frame.filename) else f"{frame.filename}, line"
        inside = "" if frame.name == "<module>" else f" in {frame.name}"
        lines.append(f"  at {place} {frame.lineno}{inside}: {frame.line}")
    return lines


def _own(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """Give the frames before the first of this package, without those of IPython that lead to the cell."""
    first = next((number for number, frame in enumerate(frames) if frame.filename.startswith(_OURS)), len(frames))
    return [frame for frame in frames[:first] if "/IPython/" not in frame.filename]


def _is_cell(filename: str) -> bool:
    return filename.startswith("<") or "/ipykernel_" in filename
