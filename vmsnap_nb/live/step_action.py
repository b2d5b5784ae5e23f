"""How one kind of step is performed and taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.words.message import Message, t

__all__ = ["Action", "HalfDoneError", "StaysError", "Undo", "no_way_back", "undo_of"]

Undo = Callable[[], None]
Action = Callable[[Any], Undo]
"""Performs one kind of step and gives the function that takes it back.

One that takes long says how far it is (`vmsnap_nb.live.job.tell_fraction`), and ends with
`vmsnap_nb.live.job.StepStopped` when that is asked for (`stop_asked`) and the old chain is intact.
"""


class StaysError(VmsnapError):
    """A step stays, and what was done before it can be undone anyway: nothing of that is needed."""


class HalfDoneError(Exception):
    """A step has failed, and could not be brought back to where it began: so nothing before it is undone."""

    def __init__(self, error: VmsnapError) -> None:
        super().__init__(str(error))
        self.error = error


def no_way_back(tried: Message, why: Message, next_step: Message | None = None, *, needed: bool = False) -> Undo:
    """Return what is done to take a step back that cannot be: say so.

    `needed` is whether what was done before it must stay, too, as the disk that a guest got for a file that is gone.
    """

    def undo() -> None:
        kind = VmsnapError if needed else StaysError
        raise kind(undo_of(tried), why=why, next_step=next_step)

    return undo


def undo_of(tried: Message) -> Message:
    """Return what is tried when a step is undone."""
    return t("undo the step “{action}”", action=tried)
