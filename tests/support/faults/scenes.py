"""What faults happen to: small worlds, made once and copied for every run, and the verbs that are tried in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import vmsnap_nb as vs
from support.commands import qemu_img
from support.content import content_or_refusal
from support.images import MIB, create, handout_chain, write
from support.labs import start_paused
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.system.libvirt.library import library

__all__ = ["VERBS", "WORLDS", "Facts", "Verb", "World"]

GUEST = "demo"
SLOW = 8 * MIB
"""Bytes a second of a block job that shall take a moment."""


class World:
    """A lab, a guest, and images; opened in the process that asks for it."""

    def __init__(self, root: Path) -> None:
        self.lab = vs.Lab(root, keep=True)
        self.images = root / "images"
        self._read: dict[tuple[object, ...], str] = {}

    @property
    def guest(self) -> Guest:
        return self.lab.guest(GUEST)

    @property
    def forest(self) -> LiveForest:
        return vs.scan(self.images)

    @property
    def saved(self) -> Path:
        return self.images / "saved.mem"

    @property
    def tops(self) -> list[str]:
        """The active images of the guest's disks."""
        return [use.path for use in self.guest.domain().uses]

    def write(self, number: int, size: str = "512k") -> None:
        """Write something else to each disk of the guest, which is off."""
        for place, top in enumerate(self.tops):
            write(Path(top), f"write -q -P {number + 20 * place} {number}M {size}")

    def content(self, path: Path | str, snapshot: str | None = None) -> str:
        """Read a disk, or what was read when all files below it were as they are.

        A record can name a snapshot that is not in the image.
        """
        key = (str(path), snapshot, self.stamps(path))
        if key not in self._read:
            found = content_or_refusal(path, snapshot=snapshot)
            assert not found.startswith("refused") or (snapshot and "Can't find snapshot" in found), found
            self._read[key] = found
        return self._read[key]

    @staticmethod
    def stamps(path: Path | str) -> tuple[object, ...]:
        """Return what changes whenever an image does, or one below; nothing is equal to that of one without them."""
        try:
            found = [os.stat(image.path) for image in vs.chain(path)]
        except (VmsnapError, OSError):
            return (object(),)
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)

    @property
    def disks(self) -> str:
        """What the disks of the guest read as."""
        return " ".join(map(self.content, self.tops))

    def take(self, *names: str, kind: str = "external-disk") -> None:
        for number, name in enumerate(names, start=1):
            done(self.guest.snapshot(name, kind=kind))  # type: ignore[arg-type]
            self.write(number + len(name))


def done(plan: LivePlan, **options: Any) -> None:
    report = plan.run(progress=False, **options)
    assert report.as_predicted, report.differences


@dataclass(frozen=True)
class Facts:
    """What is read in a world: the guest's disks, each snapshot with its memory, and the other ends of chains."""

    disk: str
    snapshots: dict[str, str]
    leaves: dict[str, str]

    @classmethod
    def read(cls, world: World) -> Facts:
        """Read them; the guest must be off."""
        read = world.content
        snapshots = {}
        for row in world.guest.snapshots():
            if row.status == "untracked":
                continue
            record, parts = row.record, list[str]()
            if row.status in ("stale", "missing-file"):  # as where it is deleted of one disk, and not yet of the other
                snapshots[row.name] = row.status
                continue
            for disk in record.held_disks:
                inside = record.name if disk.held == "internal" else None
                parts.append(read(disk.source or "", inside))
            if record.memory_file:
                with contextlib.suppress(FileNotFoundError):
                    parts.append(hashlib.sha1(Path(record.memory_file).read_bytes()).hexdigest())
            snapshots[record.name] = " ".join(parts)
        leaves = {name: read(world.images / name) for name in LEAVES if (world.images / name).exists()}
        return cls(world.disks, snapshots, leaves)


LEAVES = ("Other.qcow2", "New.qcow2", "New-1.qcow2", "New-2.qcow2")


# -- worlds ----------------------------------------------------------------------------------------------


def _chain(world: World, layers: int = 4) -> None:
    """RootBase, Snap-1 … Snap-4, and the guest's own overlay; Other is based on Snap-2."""
    paths = handout_chain(world.images, layers)
    create(world.images / "Other.qcow2", "Snap-2.qcow2" if layers > 1 else "RootBase.qcow2")
    write(world.images / "Other.qcow2", "write -q -P 201 12M 256k")
    world.lab.guest(GUEST, backing=paths[-1], boot="disk", protect=False)
    world.write(7)


def _external(world: World) -> None:
    _chain(world, 1)
    world.take("a", "b", "c")


def _branch(world: World) -> None:
    _external(world)
    done(world.guest.revert("a"))
    world.write(9)
    world.take("d")


def _internal(world: World) -> None:
    _chain(world, 1)
    world.take("i1", "i2", kind="internal-disk")


def _checkpoint(world: World, name: str, kind: str) -> None:
    _chain(world, 1)
    start_paused(world.guest)
    done(world.guest.snapshot(name, kind=kind))  # type: ignore[arg-type]
    world.guest.destroy()
    world.write(9)


def _memory(world: World) -> None:
    _checkpoint(world, "e", "external-checkpoint")


def _inside(world: World) -> None:
    _checkpoint(world, "m", "internal-checkpoint")


def _saved(world: World) -> None:
    _chain(world, 1)
    start_paused(world.guest)
    done(world.guest.save())


def _drifted(world: World) -> None:
    _internal(world)
    top = str(world.guest.chain().top)
    world.guest.handle.domain.snapshotLookupByName("i1").delete(library().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    qemu_img("snapshot", "-d", "i2", top)
    world.take("i3", kind="internal-disk")


def _two_disks(world: World) -> None:
    """As `_chain` with one layer, and a second disk that is an overlay of an image of its own."""
    _chain(world, 1)
    create(world.images / "Data-0.qcow2", size=16 * MIB)
    write(world.images / "Data-0.qcow2", "write -q -P 77 0 2M")
    data = create(world.images / "Data.qcow2", "Data-0.qcow2")
    domain = world.guest.handle.domain
    disk = (
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        f"<source file='{data}'/><target dev='vdb' bus='virtio'/></disk></devices>"
    )
    definition = domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE)
    domain.connect().defineXML(definition.replace("</devices>", disk))
    world.write(8)


def _pair(world: World) -> None:
    _two_disks(world)
    world.take("a", "b", "c")


def _pair_inside(world: World) -> None:
    _two_disks(world)
    world.take("i1", "i2", kind="internal-disk")


def _pair_mixed(world: World) -> None:
    _two_disks(world)
    world.take("i1", kind="internal-disk")
    world.take("a", "b")


def _merged(world: World) -> None:
    _chain(world)
    done(world.guest.commit(top="Snap-4", base="Snap-3"))


WORLDS: dict[str, Callable[[World], None]] = {
    "chain": _chain,
    "external": _external,
    "branch": _branch,
    "internal": _internal,
    "memory": _memory,
    "inside": _inside,
    "saved": _saved,
    "drifted": _drifted,
    "merged": _merged,
    "pair": _pair,
    "pair inside": _pair_inside,
    "pair mixed": _pair_mixed,
}


# -- verbs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verb:
    """A verb in a world: how it is planned, and what may be otherwise afterwards.

    Attributes
    ----------
    live : bool
        Whether the guest runs, paused at its start.
    disk : tuple of str
        What the guest's disk may read as: as before (empty), or as a snapshot.
    loses : tuple of str
        Snapshots that may be gone.
    keeps : bool
        Whether a snapshot has the old state where the disk reads otherwise.
    ends : bool
        Whether the guest, if it runs, may be off afterwards.
    merges : str
        A layer that is in the chain for as long as the verb is not done.
    """

    world: str
    plan: Callable[[World], LivePlan]
    live: bool = False
    disk: tuple[str, ...] = ("",)
    loses: tuple[str, ...] = ()
    keeps: bool = True
    ends: bool = False
    merges: str = ""


def _of_guest(name: str, *arguments: Any, **options: Any) -> Callable[[World], LivePlan]:
    return lambda world: getattr(world.guest, name)(*arguments, **options)  # type: ignore[no-any-return]


def _of_forest(name: str, *arguments: Any, **options: Any) -> Callable[[World], LivePlan]:
    return lambda world: getattr(world.forest, name)(*arguments, **options)  # type: ignore[no-any-return]


def _save_to_file(world: World) -> LivePlan:
    return world.guest.save(world.saved)


def _verbs() -> Iterator[tuple[str, Verb]]:
    chain, external = partial(Verb, "chain"), partial(Verb, "external")
    yield "overlay", chain(_of_forest("overlay", "New", backing="Snap-4"))
    yield "overlays, protected", chain(_of_forest("overlay", ["New-1", "New-2"], backing="Snap-4", protect=True))
    yield "commit", chain(_of_forest("commit", "Snap-4", "Snap-3"), merges="Snap-4")
    yield (
        "commit, verified and removed",
        chain(_of_forest("commit", "Snap-4", "Snap-3", remove=True, verify=True), merges="Snap-4"),
    )
    yield "commit of the top", chain(_of_guest("commit", base="Snap-3", remove=True))
    yield "pull", chain(_of_forest("pull", "Snap-4", "Snap-2", remove=True), merges="Snap-4")
    yield "pull into the top", chain(_of_guest("pull", base="RootBase"))
    yield "remove downwards", chain(_of_forest("remove", "Snap-4", method=1))
    yield "remove upwards", chain(_of_forest("remove", "Snap-4", method=2))
    yield "shorten", chain(_of_guest("shorten", keep=3, remove=True))
    yield "cleanup", Verb("merged", _of_guest("cleanup"))
    yield "snapshot, external", external(_of_guest("snapshot", "new", kind="external-disk"))
    yield "snapshot, internal", Verb("internal", _of_guest("snapshot", "new", kind="internal-disk"))
    yield "delete, external", external(_of_guest("delete_snapshot", "b"), loses=("b",))
    yield (
        "delete, with children",
        external(_of_guest("delete_snapshot", "b", children="also"), loses=("b", "c")),
    )
    yield "delete, other branch", Verb("branch", _of_guest("delete_snapshot", "c"), loses=("c",))
    yield "delete, internal", Verb("internal", _of_guest("delete_snapshot", "i1"), loses=("i1",))
    yield "delete, memory", Verb("memory", _of_guest("delete_snapshot", "e"), loses=("e",))
    yield "revert, external", external(_of_guest("revert", "b"), disk=("", "b"))
    yield (
        "revert, discarding",
        Verb("branch", _of_guest("revert", "c", keep_current=False), disk=("", "c"), keeps=False),
    )
    yield "revert, internal", Verb("internal", _of_guest("revert", "i1"), disk=("", "i1"))
    yield (
        "revert, internal, discarding",
        Verb("internal", _of_guest("revert", "i1", keep_current=False), disk=("", "i1"), keeps=False),
    )
    yield "revert to memory", Verb("memory", _of_guest("revert", "e"), disk=("", "e"))
    yield "restore", Verb("saved", _of_guest("restore"))
    yield "reconcile", Verb("drifted", _of_guest("reconcile"), loses=("i2",))

    pair = partial(Verb, "pair")
    yield "two disks: snapshot", pair(_of_guest("snapshot", "new", kind="external-disk"))
    yield "two disks: delete", pair(_of_guest("delete_snapshot", "b"), loses=("b",))
    yield (
        "two disks: delete, with children",
        pair(_of_guest("delete_snapshot", "b", children="also"), loses=("b", "c")),
    )
    yield "two disks: revert", pair(_of_guest("revert", "b"), disk=("", "b"))
    yield "two disks: delete, internal", Verb("pair inside", _of_guest("delete_snapshot", "i1"), loses=("i1",))
    yield "two disks: revert, internal", Verb("pair inside", _of_guest("revert", "i1"), disk=("", "i1"))
    yield "two disks: delete, mixed", Verb("pair mixed", _of_guest("delete_snapshot", "a"), loses=("a",))

    live = partial(chain, live=True)
    running = partial(external, live=True)
    yield (
        "live commit",
        live(_of_guest("commit", top="Snap-4", base="Snap-3", remove=True, bandwidth=SLOW), merges="Snap-4"),
    )
    yield "live commit of the top", live(_of_guest("commit", base="Snap-3", bandwidth=SLOW))
    yield "live pull", live(_of_guest("pull", base="RootBase", bandwidth=SLOW))
    yield "live shorten", live(_of_guest("shorten", keep=3, remove=True))
    yield "live cleanup", Verb("merged", _of_guest("cleanup"), live=True)
    yield "live overlay", live(_of_forest("overlay", "New", backing="Snap-4"))
    yield "live snapshot, external", running(_of_guest("snapshot", "new", kind="external-disk"))
    yield "live snapshot, with memory", running(_of_guest("snapshot", "new", kind="external-checkpoint"))
    yield "live snapshot, internal", Verb("internal", _of_guest("snapshot", "new", kind="internal-checkpoint"), True)
    yield "live delete, external", running(_of_guest("delete_snapshot", "b"), loses=("b",))
    yield "live delete of the last", running(_of_guest("delete_snapshot", "c"), loses=("c",))
    yield (
        "live delete, with children",
        running(_of_guest("delete_snapshot", "b", children="also"), loses=("b", "c")),
    )
    yield "live two disks: snapshot", pair(_of_guest("snapshot", "new", kind="external-disk"), live=True)
    yield "live two disks: delete", pair(_of_guest("delete_snapshot", "b"), live=True, loses=("b",))
    yield "live two disks: delete of the last", pair(_of_guest("delete_snapshot", "c"), live=True, loses=("c",))
    yield "live delete, internal", Verb("internal", _of_guest("delete_snapshot", "i1"), True, loses=("i1",))
    yield "live revert, external", running(_of_guest("revert", "b"), disk=("", "b"), ends=True)
    yield "live revert to memory", Verb("memory", _of_guest("revert", "e"), True, disk=("", "e"), ends=True)
    yield "live revert, internal", Verb("inside", _of_guest("revert", "m"), True, disk=("", "m"), ends=True)
    yield "save", live(_of_guest("save"), ends=True)
    yield "save to a file", live(_save_to_file, ends=True)
    yield "live reconcile", Verb("drifted", _of_guest("reconcile"), True, loses=("i2",))


VERBS: dict[str, Verb] = dict(_verbs())
