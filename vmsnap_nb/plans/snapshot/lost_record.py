"""The request that writes a record again which libvirt has dropped, and its plan."""

from __future__ import annotations

import os.path
from dataclasses import dataclass

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import SnapshotRecord
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
        """Return whether libvirt does not list the snapshot."""
        return not any(one.guest == self.guest.name and one.name == self.record.name for one in forest.records)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, guest, name = reading.forest, self.guest.name, self.record.name
        is_there = not self.is_lost(forest)
        after = forest if is_there else forest.edited(records=(*forest.records, self.record))
        way = t("libvirt lists the snapshot: only the journal entry still has to be removed")
        if not is_there:
            way = t("libvirt no longer lists the snapshot, because it could not write the record. No image is modified")
        return Plan(
            title=t("write the record of snapshot {name} of {guest} again", name=name, guest=guest),
            before=forest,
            steps=(RestoreRecord(guest=self.guest, entry=self.entry, is_there=is_there),),
            after=after,
            concerns=(),
            way=way,
        )
