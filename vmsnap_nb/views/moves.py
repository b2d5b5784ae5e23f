"""How much data a plan copies: on the arrow along which it goes, and in the words beside the figure."""

from __future__ import annotations

from vmsnap_nb.views.figure import Move
from vmsnap_nb.views.shown_text import human_size
from vmsnap_nb.words.message import Message, t

__all__ = ["copied", "move_between", "move_label"]


def copied(size: int | None) -> Message:
    """Return how much a plan copies in all; `size` in bytes is None if nobody knows."""
    if size is None:
        return t("copies an unknown amount of data")
    return t("copies {size}", size=human_size(size)) if size else t("copies no data")


def move_between(source: tuple[int, int], target: tuple[int, int], kind: str, size: int | None) -> Move:
    """Return the arrow from box to box, for all the data that takes this way."""
    brief = "" if size is None else human_size(size)
    return Move(source, target, move_label(kind, size), brief)


def move_label(kind: str, size: int | None) -> Message:
    """Return whether data goes down (``commit data``) or up, and how much if that is known."""
    commits = kind == "commit data"
    if size is None:
        return t("commit data") if commits else t("stream data")
    if not size:
        return t("commit, no data") if commits else t("stream, no data")
    text = human_size(size)
    return t("commit data, {size}", size=text) if commits else t("stream data, {size}", size=text)
