"""Lines of boxes that several figures have: sizes, users, counts of what is in an image."""

from __future__ import annotations

from vmsnap_nb.model.guest import Use
from vmsnap_nb.views.figure import Line
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.views.shown_text import clip, human_size, isolate, shown, sizes_text
from vmsnap_nb.words.message import counted, t

__all__ = ["bitmaps_line", "fill_of", "sizes_line", "snapshots_line", "use_line"]


def sizes_line(virtual: int | None, allocated: int | None) -> Line | None:
    """Return what an image takes on disk of its virtual size, or None if neither is known."""
    text = sizes_text(virtual, allocated)
    if not text:
        return None
    if virtual is None or allocated is None:
        return Line(text, "size")
    short = t("{allocated} of {virtual}", allocated=human_size(allocated), virtual=human_size(virtual))
    return Line(text, "size", picture=short)


def fill_of(virtual: int | None, allocated: int | None) -> float | None:
    """Return which part of its virtual size an image takes on disk, or None if that is not known."""
    if not virtual or allocated is None:
        return None
    return min(allocated / virtual, 1.0)


def snapshots_line(count: int) -> Line:
    """Return how many internal snapshots there are."""
    return Line(counted("{count} internal snapshot", "{count} internal snapshots", count))


def bitmaps_line(count: int) -> Line:
    """Return how many dirty bitmaps there are."""
    return Line(counted("{count} dirty bitmap", "{count} dirty bitmaps", count))


def use_line(use: Use) -> Line:
    """Return which disk of which guest uses an image, and the guest's state if it has one."""
    guest, disk = isolate(clip(shown(use.guest))), shown(use.target)
    if use.running or use.state == "saved":
        said = t("{guest}: {disk} ({state})", guest=guest, disk=disk, state=state_text(use.state))
        return Line(said, tone="good") if use.running else Line(said)
    return Line(t("{guest}: {disk}", guest=guest, disk=disk))
