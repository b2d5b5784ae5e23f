"""Plans that save the memory of a guest alone, and let it go on from there."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, State
from vmsnap_nb.model.snapshot import MANAGED_SAVE, SnapshotRecord
from vmsnap_nb.plans.ground import about_room
from vmsnap_nb.plans.plan import Concern, Plan
from vmsnap_nb.plans.snapshot import sorted_concerns
from vmsnap_nb.plans.snapshot_concerns import has_managed_save
from vmsnap_nb.plans.snapshot_draft import is_running
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts
from vmsnap_nb.plans.snapshot_steps import RestoreState, SaveState

__all__ = ["SavedState", "plan_restore", "plan_save", "saved_record"]


@dataclass(frozen=True)
class SavedState:
    """What a file of saved memory says.

    Attributes
    ----------
    guest, uuid : str
        Whose memory it is.
    sources : mapping of str to (str or None)
        The image of each disk at that moment.
    mtime_ns : int or None
        When the file was completed, nanoseconds since 1970 UTC; None where that is not known.
    """

    guest: str
    uuid: str
    sources: Mapping[str, str | None] = field(default_factory=dict)
    mtime_ns: int | None = None


def saved_record(guest: str, path: str | None) -> SnapshotRecord:
    """Give saved memory in the form of a record; without a path, that of libvirt's managed save."""
    return SnapshotRecord(guest, path or MANAGED_SAVE, "", memory="external", memory_file=path)


def _with_state(forest: Forest, guest: str, state: State, records: tuple[SnapshotRecord, ...]) -> Forest:
    uses = tuple(replace(use, state=state) if use.guest == guest else use for use in forest.uses)
    held: Literal["", "write"] = "" if state == "shut off" else "write"
    sources = {use.path for use in uses if use.guest == guest and use.path in forest}
    put = (replace(forest[path], held=held) for path in sources)
    return forest.edited(put=put, uses=uses, records=records)


def plan_save(forest: Forest, domain: Domain, path: str | None, facts: SnapshotFacts) -> Plan:
    """Plan to save the memory of a running guest; its QEMU ends then.

    Parameters
    ----------
    forest : Forest
        The images.
    domain : Domain
        The guest.
    path : str or None
        The new file; None for a managed save.
    facts : SnapshotFacts
        Of the guest and the folder.

    Returns
    -------
    Plan
    """
    step = SaveState(domain.name, domain.uuid, facts.uri, path)
    record = saved_record(domain.name, path)
    return Plan(
        title=f"save the memory of {domain.name}",
        before=forest,
        steps=(step,),
        after=_with_state(forest, domain.name, "shut off", (*forest.records, record)),
        concerns=sorted_concerns(_concerns_of_saving(domain, path, facts)),
        way="vm-state: libvirt writes memory and devices to "
        + (
            "a file that it keeps itself (managed save), and the next start goes on from there"
            if path is None
            else path
        )
        + "; the disks are not held, and must not change before the guest is restored",
        space_needed=facts.memory,
        subjects=tuple(dict.fromkeys(use.path for use in domain.uses if use.path in forest)),
    )


def _concerns_of_saving(domain: Domain, path: str | None, facts: SnapshotFacts) -> Iterator[Concern]:
    me = (domain.name,)
    if not is_running(domain):
        yield Concern(
            "not-supported",
            "refuse",
            f"{domain.name} is {domain.state}, so there is no memory to save",
            "start it first",
            holders=me,
        )
    if not domain.persistent and path is None:
        yield Concern(
            "not-supported",
            "refuse",
            f"{domain.name} has no persistent record, so libvirt would forget its managed save with it",
            "give a path: save('/path/of/file')",
            holders=me,
        )
    for target, job in facts.jobs.items():
        yield Concern(
            "active-job",
            "refuse",
            f"{domain.name} cannot be saved now: {f'its disk {target}' if target else 'it'} has an active job ({job})",
            "wait for its end",
            holders=me,
        )
    if path is None:
        return
    folder = os.path.dirname(path)
    if path in facts.ground.taken:
        yield Concern(
            "file-exists",
            "refuse",
            f"{path} exists already, and nothing is ever overwritten",
            "give another name, or remove the file yourself",
            images=(path,),
        )
    yield from about_room(facts.ground, {folder: facts.memory}, {folder: ""})


def plan_restore(
    forest: Forest, domain: Domain, path: str | None, saved: SavedState | None, facts: SnapshotFacts
) -> Plan:
    """Plan to let a guest go on from its saved memory.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's records.
    domain : Domain
        The guest.
    path : str or None
        The file; None for its managed save.
    saved : SavedState or None
        What that file says; None where it says nothing.
    facts : SnapshotFacts
        Of the guest.

    Returns
    -------
    Plan
    """
    step = RestoreState(domain.name, domain.uuid, facts.uri, path)
    uses = forest.uses
    if saved is not None:
        sources = saved.sources
        uses = tuple(
            replace(use, path=sources.get(use.target) or use.path) if use.guest == domain.name else use for use in uses
        )
    # libvirt takes the file of a managed save away, and leaves any other where it is.
    managed = (domain.name, MANAGED_SAVE)
    records = tuple(r for r in forest.records if path is not None or (r.guest, r.name) != managed)
    return Plan(
        title=f"restore {domain.name} from its saved memory",
        before=forest,
        steps=(step,),
        after=_with_state(forest.edited(uses=uses), domain.name, "running", records),
        concerns=sorted_concerns(_concerns_of_restoring(forest, domain, path, saved)),
        way="vm-state: libvirt starts QEMU with the disks of that moment, and loads memory and devices"
        + (f" from {path}; the file stays" if path is not None else "; libvirt then removes its file"),
        subjects=tuple(dict.fromkeys(use.path for use in domain.uses if use.path in forest)),
    )


def _concerns_of_restoring(
    forest: Forest, domain: Domain, path: str | None, saved: SavedState | None
) -> Iterator[Concern]:
    me = (domain.name,)
    running = is_running(domain)
    if running:
        yield Concern(
            "in-use",
            "refuse",
            f"{domain.name} is {domain.state}, and only a guest that is off can be restored",
            "shut it down first; what it has in its memory now is lost then",
            holders=me,
        )
    if path is None and not has_managed_save(forest, domain.name):
        yield Concern(
            "not-supported",
            "refuse",
            f"{domain.name} has no managed save",
            "give the path of the file that save() has written",
            holders=me,
        )
    if path is not None and has_managed_save(forest, domain.name):
        yield Concern(
            "managed-save",
            "warn",
            f"{domain.name} has a managed save as well, which will not fit its disks any more",
            f"restore() without a path goes on from there; or virsh managedsave-remove {domain.name}",
            holders=me,
        )
    if saved is None:
        return
    if saved.uuid != domain.uuid:
        yield Concern(
            "not-supported",
            "refuse",
            f"it is the memory of guest {saved.guest} ({saved.uuid}), not of {domain.name}",
            f"restore that guest: host.guest({saved.guest!r}).restore(…)",
            holders=me,
        )
        return
    for target, source in saved.sources.items():
        if source is not None:
            yield from _about_disk(forest, domain, target, source, saved)


def _about_disk(forest: Forest, domain: Domain, target: str, source: str, saved: SavedState) -> Iterator[Concern]:
    image = forest.images.get(source)
    if image is None or forest.status(source) not in {"ok", "in-use"}:
        yield Concern(
            "missing-base",
            "refuse",
            f"the disk {target} of that moment, {source}, is {'missing' if image is None else forest.status(source)}",
            "put it back",
            images=(source,),
            holders=(domain.name,),
        )
        return
    over = [path for path in forest.children(source) if path in {use.path for use in domain.uses}]
    if over:
        yield Concern(
            "disk-changed",
            "refuse",
            f"{domain.name} has its disk {target} on {', '.join(over)} now, which stands on {source}: going on from "
            "the saved memory writes below it",
            "revert the snapshot first, or give up that overlay",
            images=(source, *over),
            holders=(domain.name,),
            waivable=True,
        )
    elif saved.mtime_ns is not None and image.mtime_ns is not None and image.mtime_ns > saved.mtime_ns:
        yield Concern(
            "disk-changed",
            "refuse",
            f"{source} was written to after the memory had been saved: the guest would go on with files in mind that "
            "have changed since, and spoil them",
            "start the guest without its saved memory; or revert the disk to what it was then",
            images=(source,),
            holders=(domain.name,),
            waivable=True,
        )
