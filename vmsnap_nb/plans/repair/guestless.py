"""Entries of the journal about guests that are not known: each is named, and can be forgotten."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from dataclasses import dataclass

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.concern import either, refuse
from vmsnap_nb.plans.journal import RecordEntry, RevertEntry, SnapshotEntry
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.repair.steps import ForgetEntry
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.words.message import Message, t

__all__ = ["ForgetEntryRequest", "guestless", "what_was_begun"]

_OfGuest = RecordEntry | RevertEntry | SnapshotEntry


def guestless(reading: Reading) -> Iterator[_OfGuest]:
    """Yield the entries that only a guest can finish, and of which no guest is known.

    Without a libvirt none is known.
    """
    forest = reading.forest
    known = {*(use.guest for use in forest.uses), *(record.guest for record in forest.records)}
    yield from (one for one in reading.entries if isinstance(one, _OfGuest) and one.guest not in known)


def what_was_begun(entry: _OfGuest) -> Message:
    """Return what an entry says, and that its guest was not found."""
    fields = {"guest": entry.guest, "name": entry.name}
    if isinstance(entry, RevertEntry):
        begun = t("a revert of {guest} to snapshot {name} is running, or was interrupted", **fields)
    elif isinstance(entry, SnapshotEntry):
        begun = t("snapshot {name} of {guest} is being taken, or was interrupted", **fields)
    else:
        begun = t("the record of snapshot {name} of {guest} is being written, or this was interrupted", **fields)
    return t(
        "according to {path}, {begun}. No guest with the name {guest} is known here (UUID {uuid})",
        path=entry.path,
        begun=begun,
        guest=entry.guest,
        uuid=entry.uuid,
    )


@dataclass(frozen=True, kw_only=True)
class ForgetEntryRequest:
    """That an entry is removed whose guest is gone; nothing else changes."""

    entry: _OfGuest

    def needs(self, _: Forest) -> Needs:
        """Return what must be read beside the forest: the entry."""
        return Needs(journal=(os.path.dirname(self.entry.path),))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        entry, forest = self.entry, reading.forest
        concern = refuse(
            "active-job",
            what_was_begun(entry),
            either(
                t("if libvirt has that guest, use {call}", call=f"host.guest({entry.guest!r}).unfinished()"),
                t("waive this if that guest no longer exists: only the journal entry is removed"),
            ),
            images=(entry.path,),
            holders=(entry.guest,),
            waivable=True,
        )
        return Plan(
            title=t("forget the interrupted operation on {guest}", guest=entry.guest),
            before=forest,
            steps=(ForgetEntry(entry=entry),),
            after=forest,
            concerns=(concern,),
            way=t("only the journal entry is removed. All images and snapshots stay as they are"),
        )
