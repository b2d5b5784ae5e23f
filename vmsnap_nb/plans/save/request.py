"""Requests that save the memory of a guest alone, and let it resume from there.

Memory that belongs to a snapshot is a part of that: of the kinds ``internal-checkpoint`` and ``external-checkpoint``.
"""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import OFF, Domain, State
from vmsnap_nb.model.snapshot import MANAGED_SAVE, SnapshotRecord
from vmsnap_nb.plans.checks.devices import memory_stays
from vmsnap_nb.plans.checks.folders import free_name, kept_memory, room
from vmsnap_nb.plans.checks.given_up import no_second_memory
from vmsnap_nb.plans.checks.layers import missing, unreadable
from vmsnap_nb.plans.checks.open_images import held_concerns
from vmsnap_nb.plans.checks.users import active_jobs, has_managed_save, managed_save, unreadable_save
from vmsnap_nb.plans.concern import Concern, either, refuse, sorted_concerns, warn
from vmsnap_nb.plans.facts import SavedState
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.snapshot.steps import RestoreState, SaveState
from vmsnap_nb.words.message import listed, t
from vmsnap_nb.words.states import state_words

__all__ = ["RestoreRequest", "SaveRequest", "saved_record"]


def saved_record(guest: str, path: str | None) -> SnapshotRecord:
    """Return saved memory in the form of a record; without a path, that of libvirt's managed save."""
    return SnapshotRecord(guest, path or MANAGED_SAVE, "", memory="external", memory_file=path)


def _with_state(forest: Forest, guest: str, state: State, records: tuple[SnapshotRecord, ...]) -> Forest:
    uses = tuple(replace(use, state=state) if use.guest == guest else use for use in forest.uses)
    held: Literal["", "write"] = "" if state in OFF else "write"
    sources = {use.path for use in uses if use.guest == guest and use.path in forest.images}
    put = (replace(forest[path], held=held) for path in sources)
    return forest.edited(put=put, uses=uses, records=records)


def _images_of(forest: Forest, domain: Domain) -> tuple[str, ...]:
    return tuple(dict.fromkeys(use.path for use in domain.uses if use.path in forest.images))


# -- save ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SaveRequest:
    """That the memory of a running guest is saved, in a new file or by libvirt (managed save); its QEMU ends then."""

    path: str | None = None

    def needs(self, _: Forest) -> Needs:
        """Return what must be read: the place of the file."""
        return Needs(places=() if self.path is None else (self.path,))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, owner, path = reading.forest, reading.owner, self.path
        domain = owner.domain
        records = (*forest.records, saved_record(domain.name, path))
        if path is None:
            way = t(
                "vm-state: libvirt writes memory and device state to its own file (managed save), and the next start "
                "resumes from it. The disks are not saved, and must not change until then"
            )
        else:
            way = t(
                "vm-state: libvirt writes memory and device state to {path}. The disks are not saved, and must not "
                "change before the guest is restored",
                path=path,
            )
        return Plan(
            title=t("save the memory of {guest}", guest=domain.name),
            before=forest,
            steps=(SaveState(guest=owner.ref, path=path),),
            after=_with_state(forest, domain.name, "saved" if path is None else "shut off", records),
            concerns=sorted_concerns(_against_saving(reading, path)),
            way=way,
            space_needed=owner.memory,
            subjects=_images_of(forest, domain),
        )


def _against_saving(reading: Reading, path: str | None) -> Iterator[Concern]:
    owner, domain = reading.owner, reading.owner.domain
    me = (domain.name,)
    if not owner.running:
        yield refuse(
            "not-supported",
            t("{guest} is {state}, so it has no memory to save", guest=domain.name, state=state_words(domain.state)),
            t("start {guest} first", guest=domain.name),
            holders=me,
        )
    if not domain.persistent and path is None:
        yield refuse(
            "not-supported",
            t("{guest} is transient, so libvirt would lose its managed save", guest=domain.name),
            t("pass a path: {call}", call="save('/path/of/file')"),
            holders=me,
        )
    yield from held_concerns(reading.forest, domain.name)
    yield from memory_stays(reading.forest, owner, t("shut {guest} down instead", guest=domain.name))
    yield from active_jobs(owner)
    yield from no_second_memory(owner, t("shut {guest} down instead", guest=domain.name))
    if path is None:
        return
    yield from free_name(reading.forest, reading.folders, path)
    own = t("name a file in a folder that only you can change: {call}", call="save('/path/of/file')")
    yield from kept_memory(reading.folders, path, own)
    folder = os.path.dirname(path)
    yield from room(reading.folders, {folder: owner.memory}, {folder: None})


# -- restore ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    """That a guest resumes from its saved memory: from a file, or from its managed save."""

    path: str | None = None

    def needs(self, _: Forest) -> Needs:
        """Return what must be read: what the file says."""
        return Needs(saved=self.path)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, owner, path = reading.forest, reading.owner, self.path
        domain = owner.domain
        sources = {} if reading.saved is None else reading.saved.sources
        uses = (
            replace(use, path=sources.get(use.target) or use.path) if use.guest == domain.name else use
            for use in forest.uses
        )
        # libvirt takes the file of a managed save away, and leaves any other where it is.
        managed = (domain.name, MANAGED_SAVE)
        records = tuple(r for r in forest.records if path is not None or (r.guest, r.name) != managed)
        return Plan(
            title=t("restore {guest} from its saved memory", guest=domain.name),
            before=forest,
            steps=(RestoreState(guest=owner.ref, path=path),),
            after=_with_state(forest.edited(uses=uses), domain.name, "running", records),
            concerns=sorted_concerns(_against_restoring(reading, path)),
            way=t(
                "vm-state: libvirt starts QEMU and loads memory and device state from {path}; the file is kept",
                path=path,
            )
            if path is not None
            else t(
                "vm-state: libvirt starts QEMU, loads memory and device state from its own file, then removes the file"
            ),
            subjects=_images_of(forest, domain),
        )


def _against_restoring(reading: Reading, path: str | None) -> Iterator[Concern]:
    forest, domain, saved = reading.forest, reading.owner.domain, reading.saved
    me = (domain.name,)
    if domain.running:
        yield refuse(
            "in-use",
            t(
                "{guest} is {state}, and only a guest that is off can be restored",
                guest=domain.name,
                state=state_words(domain.state),
            ),
            t("shut {guest} down first; its current memory is then lost", guest=domain.name),
            holders=me,
        )
    if path is None and not has_managed_save(forest, domain.name):
        yield refuse(
            "not-supported",
            t("{guest} has no managed save", guest=domain.name),
            t("pass the path of the file that save() wrote"),
            holders=me,
        )
    if path is None:
        yield from unreadable_save(forest, domain)
    else:
        yield from managed_save(forest, domain.name, t("by then the disks will have changed"), concern=warn)
    if saved is None:
        return
    if saved.uuid != domain.uuid:
        yield refuse(
            "not-supported",
            t(
                "the file contains the memory of {other} ({uuid}), not of {guest}",
                other=saved.guest,
                uuid=saved.uuid,
                guest=domain.name,
            ),
            t("restore that guest instead: {call}", call=f"host.guest({saved.guest!r}).restore(…)"),
            holders=me,
        )
        return
    if saved.guest != domain.name:
        yield refuse(
            "not-supported",
            t(
                "the memory was saved when {guest} was named {then}, and libvirt can restore it only under that name",
                guest=domain.name,
                then=saved.guest,
            ),
            t(
                "restore the old name of {guest} first: {command}",
                guest=domain.name,
                command=shlex.join(("virsh", "domrename", domain.name, saved.guest)),
            ),
            holders=me,
        )
    for target, source in saved.sources.items():
        if source is not None:
            yield from _about_disk(forest, domain, target, source, saved)


def _about_disk(forest: Forest, domain: Domain, target: str, source: str, saved: SavedState) -> Iterator[Concern]:
    image = forest.images.get(source)
    if image is None:
        yield missing(source)
        return
    if against := tuple(unreadable(image, forest.status(source))):
        yield from against
        return
    over = [path for path in forest.known_children(source) if path in {use.path for use in domain.uses}]
    if over:
        yield refuse(
            "disk-changed",
            t(
                "disk {disk} of {guest} is now {overlays}, which is based on {base}: the restored guest would write to "
                "that backing file",
                disk=target,
                guest=domain.name,
                overlays=listed(over),
                base=source,
            ),
            t("revert to the snapshot first, or discard that overlay"),
            images=(source, *over),
            holders=(domain.name,),
            waivable=True,
        )
    elif saved.mtime_ns is None or image.mtime_ns is None:
        # A refusal would hit each restore on another machine, where libvirt tells no time of the saved memory.
        yield warn(
            "disk-changed",
            t(
                "it is unknown whether {path} was written to after the memory was saved. If it was, the guest's "
                "cached data would corrupt its file systems",
                path=source,
            ),
            t("start the guest without its saved memory if its disk may have changed"),
            images=(source,),
            holders=(domain.name,),
        )
    elif image.mtime_ns > saved.mtime_ns:
        yield refuse(
            "disk-changed",
            t(
                "{path} was written to after the memory was saved: the guest's cached data no longer matches the "
                "disk and would corrupt its file systems",
                path=source,
            ),
            either(
                t("start the guest without its saved memory"),
                t("restore the disk to its content at that time"),
            ),
            images=(source,),
            holders=(domain.name,),
            waivable=True,
        )
