"""Checks of who needs an image that a plan would change or give up: snapshots, saved memory, definitions, jobs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.need import Need
from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.words.message import Message, t

__all__ = ["beyond", "needed"]


def needed(
    forest: Forest,
    *,
    written: Iterable[str] = (),
    changed: Iterable[str] = (),
    lost: Iterable[str] = (),
    own: str = "",
) -> Iterator[Concern]:
    """Check that nothing needs an image whose content would change, or that would not be valid any more.

    Of what is only `written` the content stays the same. But whether saved memory belongs to it still is known by the
    time alone at which the image was written to.

    Guests that have an image as their disk, and overlays, have checks of their own. So have the snapshots of `own`,
    the guest whose chain is merged: they change with it.
    """
    gone = {name for path in lost for name in forest.same_file(path)}
    other = {name for path in changed for name in forest.same_file(path)} - gone
    for path in dict.fromkeys((*gone, *other)):
        for need in forest.known_needs(path):
            if need.kind == "disk" or (need.kind in {"snapshot", "block job"} and need.guest == own):
                continue
            if path in gone or not _may_change(forest, need, path):
                yield _concern(need, path, own, _no_longer_valid() if path in gone else _other_content())
    for path in dict.fromkeys(written):
        names = forest.same_file(path)
        for need in forest.known_needs(path) if gone.isdisjoint(names) and other.isdisjoint(names) else ():
            if need.kind == "saved memory" and need.path in names:
                why = t("writing to that image would make it impossible to verify that both belong together")
                yield _concern(need, path, own, why)


def beyond(forest: Forest, path: str) -> tuple[Need, ...]:
    """Return what needs an image beside the disks and the snapshots of guests: overlays do not count either."""
    return tuple(need for need in forest.known_needs(path) if need.kind not in {"disk", "snapshot"})


def _may_change(forest: Forest, need: Need, path: str) -> bool:
    """Return whether it is the overlay of a snapshot, which changes whenever the guest writes."""
    names = forest.same_file(path)
    return need.kind == "snapshot" and not any(
        disk.source in names
        for record in forest.records
        if (record.guest, record.name) == (need.guest, need.name)
        for disk in record.held_disks
        if disk.held == "external"
    )


def _no_longer_valid() -> Message:
    return t("that image would no longer be valid")


def _other_content() -> Message:
    return t("the content of that image would change")


def _concern(need: Need, path: str, own: str, why: Message) -> Concern:
    fact, remedy = _WORDS[need.kind](need, path)
    name = "managed-save" if need.kind == "managed save" and need.guest == own else "state-lost"
    return refuse(
        name,  # type: ignore[arg-type]
        t("{fact}: {why}", fact=fact, why=why),
        remedy,
        images=(path,),
        holders=(need.guest,),
        waivable=True,
    )


def _snapshot(need: Need, path: str) -> tuple[Message, Message]:
    guest, name = need.guest, need.name
    remedy = t(
        "use commit(), pull() or {call} of the guest {guest}, which also change its snapshot records",
        call=f"delete_snapshot({name!r})",
        guest=guest,
    )
    return t("snapshot {name} of {guest} needs {path}", name=name, guest=guest, path=path), remedy


def _managed_save(need: Need, path: str) -> tuple[Message, Message]:
    guest = need.guest
    forget = t(
        "if that state is no longer needed, remove it: {command}",
        command=f"virsh managedsave-remove {shlex.quote(guest)}",
    )
    remedy = either(t("start {guest} and merge while it runs", guest=guest), forget)
    return t("the managed save of {guest} needs {path}", guest=guest, path=path), remedy


def _saved_memory(need: Need, path: str) -> tuple[Message, Message]:
    restore = t("restore it first: {command}", command=f"virsh restore {shlex.quote(need.name)}")
    fact = t("the memory of {guest} saved in {file} needs {path}", guest=need.guest, file=need.name, path=path)
    return fact, either(restore, t("if that state is no longer needed, remove that file"))


def _next_start(need: Need, path: str) -> tuple[Message, Message]:
    guest = need.guest
    remedy = either(
        t("shut {guest} down first, and check which image its disk is then", guest=guest),
        t("change that definition: {command}", command=f"virsh edit {shlex.quote(guest)}"),
    )
    fact = t(
        "the definition for the next start of {guest} names {path} as disk {disk}",
        guest=guest,
        path=path,
        disk=need.name,
    )
    return fact, remedy


def _block_job(need: Need, path: str) -> tuple[Message, Message]:
    guest, disk = shlex.quote(need.guest), shlex.quote(need.name)
    fact = t("a block job of {guest} copies disk {disk} into {path}", guest=need.guest, disk=need.name, path=path)
    return fact, t("wait for it; or cancel it: {command}", command=f"virsh blockjob {guest} {disk} --abort")


def _firmware(need: Need, path: str) -> tuple[Message, Message]:
    remedy = t(
        "first give {guest} another file for them: {command}",
        guest=need.guest,
        command=f"virsh edit {shlex.quote(need.guest)}",
    )
    return t("{path} holds the firmware variables of {guest}", guest=need.guest, path=path), remedy


_WORDS = {
    "snapshot": _snapshot,
    "managed save": _managed_save,
    "saved memory": _saved_memory,
    "next start": _next_start,
    "block job": _block_job,
    "firmware": _firmware,
}
