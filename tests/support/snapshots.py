"""A guest, its records and plans of its snapshots, without a machine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from support.forests import forest, image
from support.readings import reading
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State, Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.facts import SavedState
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.save.request import RestoreRequest, SaveRequest, saved_record
from vmsnap_nb.plans.snapshot.request import SnapshotRequest
from vmsnap_nb.plans.snapshot.steps import TakeSnapshot
from vmsnap_nb.plans.step import GuestRef

UUID = "0c0c0c0c-1111-2222-3333-444444444444"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def domain(state: State = "shut off", *disks: Disk, name: str = "demo") -> Domain:
    return Domain(name, UUID, state, disks=disks or (Disk("vda", "/i/top.qcow2", "qcow2", "virtio"),))


def world(guest: Domain, *records: SnapshotRecord, tags: tuple[str, ...] = ()) -> Forest:
    """A base, and the guest's disks on it."""
    tops = [
        image(disk.source, "base.qcow2", format=disk.format, snapshots=tuple(InternalSnapshot(t, t) for t in tags))
        for disk in guest.disks
        if disk.source and disk.device == "disk"
    ]
    made = forest(image("base.qcow2", writable=False), *tops, uses=guest.uses)
    return made.edited(records=records)


def plan(
    guest: Domain, before: Forest | None = None, facts: Mapping[str, object] | None = None, **asked: object
) -> Plan:
    before = world(guest) if before is None else before
    request = SnapshotRequest(guest=GuestRef(guest.name, guest.uuid, ""), **asked)  # type: ignore[arg-type]
    return request.plan(reading(before, guest, **(facts or {})))


def save(guest: Domain, path: str | None = None, **facts: object) -> Plan:
    return SaveRequest(path=path).plan(reading(world(guest), guest, **facts))


def restore(before: Forest, guest: Domain, path: str | None = None, saved: SavedState | None = None) -> Plan:
    return RestoreRequest(path=path).plan(reading(before, guest, saved=saved))


def step_of(made: Plan) -> TakeSnapshot:
    [step] = made.steps
    assert isinstance(step, TakeSnapshot)
    return step


def refusals(made: Plan) -> list[str]:
    return [concern.name for concern in made.concerns if concern.level == "refuse"]


def record(name: str, held: str = "internal", **fields: object) -> SnapshotRecord:
    disks = (SnapshotDisk("vda", held, "/i/top.qcow2", f"/i/top.{name}.qcow2" if held == "external" else None),)  # type: ignore[arg-type]
    return SnapshotRecord("demo", name, **{"disks": disks, "created": WHEN, **fields})  # type: ignore[arg-type]


VDA = Disk("vda", "/i/top.qcow2", "qcow2")
RAW = Disk("vdb", "/i/data.img", "raw")


def drifted() -> tuple[Domain, Forest]:
    guest = domain("shut off", Disk("vda", "/i/top.c.qcow2", "qcow2"))
    tree = forest(
        image("base.qcow2", snapshots=(InternalSnapshot("1", "theirs"),)),
        image("top.qcow2", "base.qcow2", snapshots=(InternalSnapshot("1", "a"),)),
        image(
            "top.c.qcow2",
            "top.qcow2",
            snapshots=(InternalSnapshot("1", "wild", WHEN), InternalSnapshot("2", "ram", WHEN, vm_state_size=5)),
        ),
        uses=(*guest.uses, Use("other", "vda", "/i/base.qcow2")),
    )
    records = (
        record("a"),
        record("b", parent="a"),
        record("c", "external", parent="b"),
        record("d", "external", parent="c", memory="external", memory_file="/i/d.mem", current=True),
        saved_record("demo", None),
        SnapshotRecord("other", "x"),
    )
    return guest, tree.edited(records=records)
