"""The request that writes a record again which libvirt has dropped, and its plan."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from dataclasses import dataclass

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.plans.journal import RecordEntry
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.snapshot.steps import RestoreRecord
from vmsnap_nb.plans.step import GuestRef
from vmsnap_nb.words.message import t

__all__ = ["RestoreRecordRequest"]


@dataclass(frozen=True, kw_only=True)
class RestoreRecordRequest:
    """Let libvirt have a record again; `record` is what the entry's XML says."""

    guest: GuestRef
    entry: RecordEntry
    record: SnapshotRecord

    def needs(self, _: Forest) -> Needs:
        """Return what must be read beside the forest."""
        return Needs(journal=(os.path.dirname(self.entry.path),))

    def is_lost(self, forest: Forest) -> bool:
        """Return whether libvirt does not list a snapshot of this guest, as it is defined now."""
        return self.entry.uuid == self.guest.uuid and not self._is_listed(forest)

    def _is_listed(self, forest: Forest) -> bool:
        return any(one.guest == self.guest.name and one.name == self.record.name for one in forest.records)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, guest, name = reading.forest, self.guest.name, self.record.name
        is_there = not self.is_lost(forest)
        after = forest if is_there else forest.edited(records=(*forest.records, self.record))
        way = t("libvirt lists the snapshot: only the journal entry still has to be removed")
        if self.entry.uuid != self.guest.uuid:
            way = t("only the journal entry still has to be removed")
        if not is_there:
            way = t("libvirt no longer lists the snapshot, because it could not write the record. No image is modified")
        return Plan(
            title=t("write the record of snapshot {name} of {guest} again", name=name, guest=guest),
            before=forest,
            steps=(RestoreRecord(guest=self.guest, entry=self.entry, is_there=is_there),),
            after=after,
            concerns=tuple(self._of_before(forest)),
            way=way,
        )

    def _of_before(self, forest: Forest) -> Iterator[Concern]:
        """Check that it is no record of the guest before it was defined anew: libvirt takes none with another UUID."""
        if self.entry.uuid != self.guest.uuid and not self._is_listed(forest):
            yield refuse(
                "active-job",
                t(
                    "the record of snapshot {name} was being written when {guest} had the UUID {uuid}. {guest} was "
                    "defined again and now has the UUID {now}, without that snapshot. {path} holds the only copy of "
                    "the record",
                    name=self.record.name,
                    guest=self.guest.name,
                    uuid=self.entry.uuid,
                    now=self.guest.uuid,
                    path=self.entry.path,
                ),
                either(
                    t(
                        "define {guest} with the UUID {uuid} again, then call unfinished() again",
                        guest=self.guest.name,
                        uuid=self.entry.uuid,
                    ),
                    t("waive this if that snapshot is no longer needed: only the journal entry is removed"),
                ),
                images=(self.entry.path,),
                holders=(self.guest.name,),
                waivable=True,
            )
