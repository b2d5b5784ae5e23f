"""What is written on an arrow along which a plan copies data."""

from __future__ import annotations

from vmsnap_nb.views.words import human_size
from vmsnap_nb.words.message import Message, t

__all__ = ["move_label"]


def move_label(kind: str, size: int | None) -> Message:
    """Return whether data goes down (``commit data``) or up, and how much if that is known."""
    commits = kind == "commit data"
    if size is None:
        return t("commit data") if commits else t("stream data")
    text = human_size(size)
    return t("commit data, {size}", size=text) if commits else t("stream data, {size}", size=text)
