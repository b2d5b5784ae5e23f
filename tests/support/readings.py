"""Readings made up of facts, for tests of plans that need no machine."""

from __future__ import annotations

from dataclasses import fields, replace

from support.forests import MIB, UNIT
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.journal import FileFact, MergeEntry
from vmsnap_nb.plans.request import Reading


def reading(forest: Forest, domain: Domain | None = None, **facts: object) -> Reading:
    """What was read: a forest, and of a guest, if one is given, those of the facts that a guest has."""
    own = {field.name for field in fields(GuestFacts)}
    of_guest = {name: value for name, value in facts.items() if name in own}
    rest = {name: value for name, value in facts.items() if name not in own}
    guest = None if domain is None else GuestFacts(domain=domain, **of_guest)  # type: ignore[arg-type]
    return Reading(forest=forest, guest=guest, **rest)  # type: ignore[arg-type]


NOTHING = reading(Forest())


def maps(**clusters: tuple[int, ...]) -> Reading:
    """What each image holds, as numbers of clusters; `Snap_1` stands for Snap-1."""
    found = {
        f"/i/{name.replace('_', '-')}": LayerMap(
            f"/i/{name.replace('_', '-')}", 64 * MIB, tuple(Extent(n * UNIT, UNIT) for n in numbers)
        )
        for name, numbers in clusters.items()
    }
    return reading(Forest(), maps=found)


def identified(tree: Forest) -> Forest:
    """The same forest, each of whose images is a file of its own."""
    put = [
        replace(one, identity=one.identity or (1, number), mtime_ns=one.mtime_ns or number, file_size=UNIT)
        for number, one in enumerate(tree.images.values(), start=1)
        if one.status != "missing"
    ]
    return tree.edited(put=put)


def recorded(tree: Forest, entry: MergeEntry) -> MergeEntry:
    """An entry that was written when its images were as in the forest."""
    files = []
    for path in dict.fromkeys((entry.base, *entry.merged)):
        if path in tree.images and (one := tree.images[path]).identity is not None:
            assert one.mtime_ns is not None
            assert one.file_size is not None
            device, inode = one.identity
            files.append(FileFact(path=path, device=device, inode=inode, size=one.file_size, mtime_ns=one.mtime_ns))
    return replace(entry, files=tuple(files))
