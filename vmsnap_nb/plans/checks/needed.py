"""Checks of who needs an image that a plan would change or give up: snapshots, saved memory, definitions, jobs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from itertools import pairwise

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.need import Need
from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.words.message import Message, listed, t

__all__ = ["beyond", "needed", "other_chains", "written_by"]


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
    gone = names_of(forest, lost)
    other = names_of(forest, changed) - gone
    for path in dict.fromkeys((*gone, *other)):
        for need in forest.known_needs(path):
            if need.kind == "disk" or (need.kind in {"snapshot", "block job"} and need.guest == own):
                continue
            if need.layers[:1] == (need.path,):  # the disk itself, of which no layers are listed
                continue
            if path in gone or not _may_change(forest, need, path):
                yield _concern(need, path, own, _no_longer_valid() if path in gone else _other_content())
    for path in dict.fromkeys(written):
        names = forest.same_file(path)
        for need in forest.known_needs(path) if gone.isdisjoint(names) and other.isdisjoint(names) else ():
            if need.kind == "saved memory" and need.path in names:
                why = t(
                    "a write to that image would make it impossible to verify that the memory and the disk "
                    "belong together"
                )
                yield _concern(need, path, own, why)


def written_by(forest: Forest, guest: str, path: str) -> Iterator[Concern]:
    """Check that nothing but disks, overlays and snapshots needs an image to which a guest would write once it starts.

    What goes on with it as its own disk is a matter of the guest itself.
    """
    for need in forest.known_needs(path):
        if need.kind in _WRITTEN and (need.guest != guest or need.kind == "data"):
            if need.kind == "definition" and need.layers[:1] == (need.path,):
                continue
            fact, _ = _WORDS[need.kind](need, path)
            yield refuse(
                "shared-base",
                t("cannot start {guest}: {fact}, and {guest} would write to it", guest=guest, fact=fact),
                either(
                    t("give {guest} its own disk", guest=guest),
                    t("use start(force=True) if nothing needs that content any more"),
                ),
                images=(path,),
                holders=(need.guest,) if need.guest else (),
                waivable=True,
            )


def beyond(forest: Forest, path: str) -> tuple[Need, ...]:
    """Return what needs an image beside the disks and the snapshots of guests: overlays do not count either."""
    return tuple(need for need in forest.known_needs(path) if need.kind not in {"disk", "snapshot"})


def _may_change(forest: Forest, need: Need, path: str) -> bool:
    """Return whether it is the overlay of a snapshot, which changes whenever the guest writes."""
    names = forest.same_file(path)
    return need.kind == "snapshot" and not any(
        source in names
        for record in forest.records
        if (record.guest, record.name) == (need.guest, need.name)
        for source in (*(disk.source for disk in record.held_disks if disk.held == "external"), *record.also)
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
        "use commit(), pull() or {call} of the guest {guest}, which also update its snapshot records",
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
    remedy = either(t("start {guest}, and merge while it is running", guest=guest), forget)
    return t("the managed save of {guest} needs {path}", guest=guest, path=path), remedy


def _saved_memory(need: Need, path: str) -> tuple[Message, Message]:
    restore = t("restore it first: {command}", command=f"virsh restore {shlex.quote(need.name)}")
    fact = t("the memory of {guest} saved in {file} needs {path}", guest=need.guest, file=need.name, path=path)
    return fact, either(restore, t("if that state is no longer needed, remove that file"))


def _next_start(need: Need, path: str) -> tuple[Message, Message]:
    guest = need.guest
    remedy = either(
        t("shut {guest} down first, then check which image its disk uses", guest=guest),
        t("change that definition: {command}", command=f"virsh edit {shlex.quote(guest)}"),
    )
    fact = t(
        "the definition for the next start of {guest} uses {path} as disk {disk}",
        guest=guest,
        path=path,
        disk=need.name,
    )
    return fact, remedy


def _block_job(need: Need, path: str) -> tuple[Message, Message]:
    guest, disk = shlex.quote(need.guest), shlex.quote(need.name)
    fact = t("a block job of {guest} is copying disk {disk} into {path}", guest=need.guest, disk=need.name, path=path)
    return fact, t("wait until it ends, or cancel it: {command}", command=f"virsh blockjob {guest} {disk} --abort")


def _firmware(need: Need, path: str) -> tuple[Message, Message]:
    remedy = t(
        "use another file for the firmware variables of {guest} first: {command}",
        guest=need.guest,
        command=f"virsh edit {shlex.quote(need.guest)}",
    )
    return t("{path} holds the firmware variables of {guest}", guest=need.guest, path=path), remedy


def _boot(need: Need, path: str) -> tuple[Message, Message]:
    remedy = t(
        "use another file for {guest} first: {command}",
        guest=need.guest,
        command=f"virsh edit {shlex.quote(need.guest)}",
    )
    return t("{guest} boots from {path}", guest=need.guest, path=path), remedy


def _nvdimm(need: Need, path: str) -> tuple[Message, Message]:
    fact = t("{path} is the persistent memory (NVDIMM) of {guest}", guest=need.guest, path=path)
    return fact, _boot(need, path)[1]


def _also_named(need: Need, path: str) -> tuple[Message, Message]:
    fact = t("the definition of {guest} names {path}, but not as a disk", guest=need.guest, path=path)
    return fact, _boot(need, path)[1]


def _data(need: Need, path: str) -> tuple[Message, Message]:
    if need.guest:
        fact = t("{path} holds the data of disk {disk} of {guest}", path=path, disk=need.name, guest=need.guest)
    else:
        fact = t("{path} holds the data of the image {image}", path=path, image=need.name)
    command = shlex.join(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, "NEW.qcow2"))
    return fact, t("copy that data, then base the overlay on the copy: {command}", command=command)


def _definition(need: Need, path: str) -> tuple[Message, Message]:
    fact = t(
        "the definition of {guest} lists {path} in the backing chain of disk {disk}, and libvirt uses that list",
        guest=need.guest,
        path=path,
        disk=need.name,
    )
    return fact, _remove_list(need.guest)


def _remove_list(guest: str) -> Message:
    return t(
        "if the image headers are correct, remove <backingStore> from that disk: {command}",
        command=f"virsh edit {shlex.quote(guest)}",
    )


def _write_headers(forest: Forest, pairs: tuple[tuple[str, str], ...]) -> Message:
    """Return how the headers get what is listed: the first layer whose header names another one."""
    above, below = next(pair for pair in pairs if not forest.same(_below(forest, pair[0]), pair[1]))
    image = forest.images.get(below)
    format = (image and image.format) or "FORMAT"
    return t(
        "if the list is correct, write it into the header while the guest is off: {command}",
        command=shlex.join(("qemu-img", "rebase", "-u", "-F", format, "-b", below, above)),
    )


def _below(forest: Forest, path: str) -> str | None:
    """Return what the header of an image names."""
    return next(iter(forest.known_lineage(path)[1:]), None)


def other_chains(forest: Forest, guest: str, targets: Iterable[str]) -> Iterator[Concern]:
    """Check that libvirt lists no other layers of these disks of a guest than the headers name."""
    targets = set(targets)
    own_needs = (need for need in forest.needs if need.kind == "definition" and need.guest == guest)
    chains = {need.name: need.layers for need in own_needs if need.layers}
    for target, layers in chains.items():
        own, *below = filter(None, layers)
        if target in targets and not below:
            what = t(
                "the definition of {guest} lists no backing file for {path}, the image of disk {disk}, but the "
                "headers name {others}. Therefore, {guest} does not read {others}",
                guest=guest,
                path=own,
                disk=target,
                others=listed(forest.known_lineage(own)[1:]),
            )
            yield refuse("other-image", what, _remove_list(guest), images=(own,), holders=(guest,))
        elif target in targets:
            what = t(
                "libvirt lists {layers} below {path}, the image of disk {disk} of {guest}, but the image headers "
                "name {others}. {guest} reads the listed layers",
                layers=listed(below),
                path=own,
                disk=target,
                guest=guest,
                others=listed(forest.known_lineage(own)[1:]),
            )
            remedy, rows = _remove_list(guest), tuple(pairwise((own, *below)))
            if not all(forest.same(_below(forest, above), below) for above, below in rows):
                remedy = either(remedy, _write_headers(forest, rows))
            yield refuse("other-image", what, remedy, images=(own,), holders=(guest,))


_WRITTEN = frozenset({"managed save", "saved memory", "firmware", "boot", "nvdimm", "named", "definition", "data"})

_WORDS = {
    "snapshot": _snapshot,
    "managed save": _managed_save,
    "saved memory": _saved_memory,
    "next start": _next_start,
    "block job": _block_job,
    "firmware": _firmware,
    "boot": _boot,
    "nvdimm": _nvdimm,
    "named": _also_named,
    "definition": _definition,
    "data": _data,
}
