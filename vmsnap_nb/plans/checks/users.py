"""Checks of who has images open, or will want them as they are: guests, processes, jobs, saved memory."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.snapshot import MANAGED_SAVE
from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.plans.facts import STARTING, GuestFacts
from vmsnap_nb.words.message import Message, counted, listed, t

__all__ = [
    "active_jobs",
    "has_managed_save",
    "idle_pools",
    "in_use",
    "managed_save",
    "merge_while_running",
    "unreadable_save",
]


def in_use(
    forest: Forest,
    written: Iterable[str],
    read: Iterable[str] = (),
    *,
    besides: str = "",
    so: Message | None = None,
    instead: Callable[[str], Message] | None = None,
    concern: Callable[..., Concern] = refuse,
) -> Iterator[Concern]:
    """Check that no running guest, and no process, has open what is written, or writes what is read.

    With `besides` a guest that may: then its QEMU holds the images, and nothing is known of other processes. `so` is a
    sentence on what follows, `instead` returns what else can be done than to shut a guest down.
    """
    written = tuple(dict.fromkeys(written))
    for path in (*written, *(path for path in dict.fromkeys(read) if path not in written)):
        writes, name = path in written, forest[path].name
        uses = forest.known_users(path) if writes else forest.known_writers(path)
        guests = tuple(dict.fromkeys(use.guest for use in uses if use.running and use.guest != besides))
        held = not besides and (bool(forest[path].held) if writes else forest[path].held == "write")
        if guests or held:
            what = _held(guests, name, writes=writes)
            if not guests:
                remedy = t("first end the process that has it open")
            elif instead is None:
                remedy = t("shut {guest} down first", guest=guests[0])
            else:
                remedy = either(t("shut {guest} down", guest=guests[0]), instead(guests[0]))
            yield concern(
                "in-use",
                what if so is None else t("{what}: {so}", what=what, so=so),
                remedy,
                images=(path,),
                holders=guests,
            )


def merge_while_running(guest: str) -> Message:
    """Return what else can be done than to shut a guest down, where images in its chain are merged."""
    return t("merge while {guest} is running", guest=guest)


def _held(guests: Collection[str], image: str, *, writes: bool) -> Message:
    if not guests:
        return (
            t("a process has {image} open", image=image)
            if writes
            else t("a process is writing to {image}", image=image)
        )
    names = listed(guests)
    if writes:
        return counted(
            "{guests} is running and has {image} open",
            "{guests} are running and have {image} open",
            len(guests),
            guests=names,
            image=image,
        )
    return counted(
        "{guests} is running and writes to {image}",
        "{guests} are running and write to {image}",
        len(guests),
        guests=names,
        image=image,
    )


def active_jobs(
    owner: GuestFacts, targets: Collection[str] | None = None, *, images: tuple[str, ...] = ()
) -> Iterator[Concern]:
    """Check that no job goes on with these disks of a guest (with any, if they are left out), and none with all."""
    guest = owner.domain.name
    if owner.jobs.get("") == STARTING:
        yield refuse(
            "active-job",
            t("libvirt is still starting {guest}, and answers queries about the guest only afterwards", guest=guest),
            _end_of_start(guest),
            images=images,
            holders=(guest,),
        )
        return
    for target, job in owner.jobs.items():
        if not target or targets is None or target in targets:
            name = shlex.quote(guest)
            end = f"virsh blockjob {name} {shlex.quote(target)} --abort" if target else f"virsh domjobabort {name}"
            yield refuse(
                "active-job",
                t("disk {disk} of {guest} has an active block job ({job})", guest=guest, disk=target, job=job)
                if target
                else t("{guest} has an active job ({job})", guest=guest, job=job),
                t("wait until it ends, or cancel it: {command}", command=end),
                images=images,
                holders=(guest,),
            )


def _end_of_start(guest: str) -> Message:
    """Return what can be done about a start that does not end: libvirt reads what it has recorded of it again."""
    return t(
        "wait until the guest has started. If libvirt was interrupted and the start never completes, stop libvirt, "
        "remove {file} from its state folder (/run/libvirt/qemu for qemu:///system), and start libvirt again",
        file=f"{guest}.xml",
    )


def idle_pools(owner: GuestFacts) -> Iterator[Concern]:
    """Check that no disk of a guest that is off is a volume of a storage pool that is not active."""
    for pool in owner.idle_pools:
        yield refuse(
            "not-supported",
            t(
                "the storage pool {pool} is not active, so libvirt does not open the disks of {guest} that are in it",
                pool=pool,
                guest=owner.domain.name,
            ),
            t("start the storage pool first: {command}", command=shlex.join(("virsh", "pool-start", pool))),
            holders=(owner.domain.name,),
        )


def has_managed_save(forest: Forest, guest: str) -> bool:
    """Return whether libvirt keeps the memory of a guest that was saved."""
    return any(record.guest == guest and record.name == MANAGED_SAVE for record in forest.records)


def _without_save(guest: str) -> Message:
    return t("remove the managed save: {command}", command=f"virsh managedsave-remove {shlex.quote(guest)}")


def unreadable_save(forest: Forest, domain: Domain) -> Iterator[Concern]:
    """Check that libvirt can read what it keeps of a guest that was saved: one that is cut short it deletes at a start.

    A managed save that can be read needs the disks of its guest.
    """
    read = any(need.kind == "managed save" and need.guest == domain.name for need in forest.needs)
    if has_managed_save(forest, domain.name) and domain.uses and not read:
        yield refuse(
            "managed-save",
            t(
                "libvirt cannot read the managed save of {guest}. A start can delete it and boot the guest without "
                "its saved memory",
                guest=domain.name,
            ),
            either(
                t("restore the file of the managed save from a backup"),
                _without_save(domain.name),
            ),
            holders=(domain.name,),
            waivable=True,
        )


def managed_save(
    forest: Forest,
    guest: str,
    so: Message,
    *,
    instead: Message | None = None,
    images: tuple[str, ...] = (),
    waivable: bool = False,
    concern: Callable[..., Concern] = refuse,
) -> Iterator[Concern]:
    """Check that libvirt keeps no memory of a guest, with which it would go on with the disks of that moment.

    `so` is a sentence on what speaks against that; `instead` says how to start it, rather than to give the memory up.
    """
    if has_managed_save(forest, guest):
        yield concern(
            "managed-save",
            t(
                "the next start of {guest} resumes from its managed save: {so}",
                guest=guest,
                so=so,
            ),
            either(
                instead or t("start {guest} first, then shut it down", guest=guest),
                _without_save(guest),
            ),
            images=images,
            holders=(guest,),
            waivable=waivable,
        )
