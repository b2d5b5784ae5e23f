"""Disks of guests by the names that users give them."""

from __future__ import annotations

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.names import there_are
from vmsnap_nb.words.message import Message, t

__all__ = ["find_disk"]


def find_disk(forest: Forest, guest: str, target: str | None = None) -> Use:
    """Return the disk of a guest, with its image: the first one that has an image if none is named."""
    uses = [use for use in forest.uses if use.guest == guest]
    for use in uses:
        if target in (None, use.target):
            return use
    if target is None:
        why = t("the guest has no disk with an image")
        raise NotFoundError(t("find a disk of {guest}", guest=guest), why=why, next_step=_definition())
    raise NotFoundError(
        t("find the disk {target} of {guest}", target=target, guest=guest),
        why=t("the guest has no such disk, or the disk has no image"),
        next_step=there_are(target, (use.target for use in uses)) if uses else _definition(),
    )


def _definition() -> Message:
    return t("see its definition: guest.xml()")
