"""What speaks against starting a guest, as far as its images and what lies beside them tell."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from vmsnap_nb.model.aliases import is_among
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, Use
from vmsnap_nb.model.image import Image, Status, reason
from vmsnap_nb.plans.by_hand import rebase_argv, repair_commands
from vmsnap_nb.plans.checks import devices
from vmsnap_nb.plans.checks.interrupted import finishing, may_lack, reads_otherwise
from vmsnap_nb.plans.checks.known import inner_names
from vmsnap_nb.plans.checks.layers import REBASED, doubts
from vmsnap_nb.plans.checks.needed import other_chains, written_by
from vmsnap_nb.plans.checks.notes import note_folders, strangers
from vmsnap_nb.plans.checks.open_images import interrupted_snapshots
from vmsnap_nb.plans.checks.users import unreadable_save
from vmsnap_nb.plans.concern import Concern, ConcernName, either, refuse, warn
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.words.message import N_, Message, counted, listed, t

__all__ = ["held_images", "missing_formats", "shared_bases", "start_concerns", "start_needs"]


_UNUSABLE: Mapping[str, tuple[ConcernName, str, str]] = {
    "missing": ("missing-base", N_("{path} does not exist"), N_("restore the image to that path")),
    "invalid": (
        "missing-base",
        N_("{path} was merged into another image and is no longer valid"),
        N_("use the image that it was merged into"),
    ),
    "unsupported": (
        "not-supported",
        N_("{path} needs features that QEMU does not support"),
        N_("use the program that created it"),
    ),
    "loop": (
        "loop",
        N_("{path} is based on itself"),
        N_("record its real backing file with qemu-img rebase -u"),
    ),
    "corrupt": (
        "damaged-image",
        N_("{path} is damaged: {why}"),
        N_("repair a copy, and use the copy: {commands}"),
    ),
}
"""By status of an image: the concern, what is wrong, and what to do."""


def start_needs(forest: Forest, guest: str) -> Needs:
    """Return what must be read to judge the start of a guest: what was begun in the folders of its layers."""
    return Needs(journal=note_folders(forest, (use.path for use in forest.uses if use.guest == guest)))


def held_images(forest: Forest, guest: str) -> tuple[str, ...]:
    """Return the layers of a guest's disks that somebody holds, no guest being known who does."""
    uses = (use for use in forest.uses if use.guest == guest and use.path in forest.images)
    layers = dict.fromkeys(layer for use in uses for layer in forest.known_lineage(use.path))
    return tuple(layer for layer in layers if forest[layer].held)


def start_concerns(reading: Reading) -> tuple[Concern, ...]:
    """Return what speaks against starting a guest that is off."""
    forest, domain = reading.forest, reading.owner.domain
    return (
        *interrupted_insides(reading),
        *interrupted_pulls(reading),
        *interrupted_commits(reading),
        *interrupted_snapshots(reading),
        *interrupted_reverts(reading),
        *strangers(reading),
        *holders(reading),
        *shared_bases(forest, domain),
        *snapshots_of_others(forest, domain),
        *(concern for use in domain.uses if not use.readonly for concern in written_by(forest, domain.name, use.path)),
        *saved_layers(forest, domain),
        *unreadable_save(forest, domain),
        *layers(forest, domain.uses),
        *other_chains(forest, domain.name, (disk.target for disk in domain.disks)),
        *backing_formats(forest, domain.uses),
        *(doubt for use in domain.uses if use.path in forest.images for doubt in doubts(forest, use.path)),
    )


def interrupted_insides(reading: Reading) -> Iterator[Concern]:
    """Check that no change of a snapshot inside an image of the guest was interrupted: its tables may be damaged."""
    domain = reading.owner.domain
    layers = {layer for use in domain.uses for layer in reading.forest.known_lineage(use.path)}
    for entry in reading.insides:
        if is_among(reading.forest, entry.image, layers):
            yield refuse(
                "active-job",
                t(
                    "cannot start {guest}: an operation on the internal snapshot {snapshot} in {image} was "
                    "interrupted, so the image may be damaged",
                    guest=domain.name,
                    snapshot=entry.name,
                    image=entry.image,
                ),
                t("finish it first: guest.unfinished()[0].run()"),
                images=(entry.image,),
            )


def interrupted_reverts(reading: Reading) -> Iterator[Concern]:
    """Check that no revert inside the images of several disks was interrupted: libvirt changes one after the other."""
    forest, domain = reading.forest, reading.owner.domain
    for entry in reading.reverts:
        inside = {
            use.target: use.path
            for use in domain.uses
            if use.path in forest.images and entry.name in inner_names(forest, use.path)
        }
        own = entry.uuid == domain.uuid
        remedy = t("finish it first: guest.unfinished()[0].run()")
        if not own:  # it was defined anew, or another guest has its name and its images
            remedy = either(
                t("finish it first: its plan is one of guest.unfinished()"),
                t("if the disks hold the same state, remove {path}", path=entry.path),
            )
        if (own or entry.guest == domain.name) and len(inside) > 1:
            yield refuse(
                "active-job",
                t(
                    "cannot start {guest}: a revert to snapshot {name} was interrupted, so the disks {disks} may hold "
                    "different states",
                    guest=domain.name,
                    name=entry.name,
                    disks=listed(inside),
                ),
                remedy,
                images=tuple(inside.values()),
            )


def interrupted_pulls(reading: Reading) -> Iterator[Concern]:
    """Check that no pull into a layer of the guest was interrupted."""
    domain = reading.owner.domain
    for entry in reading.pulls:
        disk = next((use.target for use in domain.uses if may_lack(reading.forest, entry, use.path)), None)
        if disk is not None:
            yield refuse(
                "active-job",
                t(
                    "cannot start {guest}: a pull into {image} was interrupted, so its disk {disk} may be incomplete",
                    guest=domain.name,
                    image=entry.image,
                    disk=disk,
                ),
                t("finish it first: guest.unfinished()[0].run()"),
                images=(entry.image,),
            )


def interrupted_commits(reading: Reading) -> Iterator[Concern]:
    """Check that no commit was interrupted so that a disk of the guest may not read what it should."""
    forest, domain = reading.forest, reading.owner.domain
    paths = [use.path for use in domain.uses]
    for entry in reading.merges:
        if any(reads_otherwise(forest, entry, path) for path in paths):
            yield refuse(
                "active-job",
                t(
                    "cannot start {guest}: the commit of {top} into {base} was interrupted, so {base} may be "
                    "incomplete",
                    guest=domain.name,
                    top=entry.top,
                    base=entry.base,
                ),
                either(
                    t("undo it first: {call}[0].run()", call=finishing(entry, domain)),
                    t("use start(force=True) if you know that {base} holds all data", base=entry.base),
                ),
                images=(entry.base, entry.top),
            )
        elif entry.phase in ("ready", "pivoting") and is_among(forest, entry.top, paths):
            yield refuse(
                "active-job",
                t(
                    "cannot start {guest}: the pivot of its disk from {top} to {base} was interrupted, and either "
                    "image may hold the latest data",
                    guest=domain.name,
                    top=entry.top,
                    base=entry.base,
                ),
                either(
                    t(
                        "finish the pivot first with {call}[0].run(), which compares both images",
                        call=finishing(entry, domain),
                    ),
                    t("use start(force=True) if you know that {image} holds the latest data", image=entry.top),
                ),
                images=(entry.base, entry.top),
                waivable=True,
            )


def holders(reading: Reading) -> Iterator[Concern]:
    """Check that nobody else holds the guest's images: QEMU shares an image among readers, who writes must be alone."""
    forest, domain = reading.forest, reading.owner.domain
    shareable = devices.shareable(reading.owner)
    for use in domain.uses:
        if use.path not in forest.images or use.target in shareable:
            continue
        for layer in forest.known_lineage(use.path):
            top = layer == use.path and not use.readonly
            others = forest.users(layer) if top else forest.writers(layer)
            guests = tuple(dict.fromkeys(o.guest for o in others if o.running and o.guest != domain.name))
            held = forest[layer].held
            if guests or held == "write" or (held and top):
                yield _held(reading, domain, use, layer, guests)


def shared_bases(forest: Forest, domain: Domain) -> Iterator[Concern]:
    """Check that no overlay is based on an image that the guest would write to: it would read other content then."""
    for use in domain.uses:
        if use.readonly or use.path not in forest.images:
            continue
        # One that is based on itself is no overlay of itself; QEMU opens neither.
        overlays = [path for path in forest.children(use.path) if forest.status(path) not in {"invalid", "loop"}]
        if not overlays:
            continue
        every = dict.fromkeys(path for overlay in overlays for path in (overlay, *forest.descendants(overlay)))
        guests = tuple(
            dict.fromkeys(
                user.guest for path in every for user in forest.known_users(path) if user.guest != domain.name
            )
        )
        image, names = forest[use.path].name, listed(forest[path].name for path in overlays)
        yield refuse(
            "shared-base",
            counted(
                "cannot start {guest}: disk {disk} is {image}, and {overlays} is based on that image. Writes by "
                "{guest} would corrupt this overlay",
                "cannot start {guest}: disk {disk} is {image}, and {overlays} are based on that image. Writes by "
                "{guest} would corrupt these overlays",
                len(overlays),
                guest=domain.name,
                disk=use.target,
                image=image,
                overlays=t("{images} (used by {guests})", images=names, guests=listed(guests)) if guests else names,
            ),
            either(
                t("give {guest} its own overlay on {image}", guest=domain.name, image=image),
                counted(
                    "use start(force=True) if this overlay is no longer needed",
                    "use start(force=True) if these overlays are no longer needed",
                    len(overlays),
                ),
            ),
            images=(use.path, *every),
            holders=guests,
            waivable=True,
        )


def snapshots_of_others(forest: Forest, domain: Domain) -> Iterator[Concern]:
    """Check that no snapshot of another guest is in an image that the guest would write to."""
    for use in domain.uses:
        names = forest.same_file(use.path)
        for record in () if use.readonly else forest.records:
            states = [disk.source for disk in record.held_disks if disk.held == "external"]
            if record.guest != domain.name and any(state in names for state in states):
                yield refuse(
                    "shared-base",
                    t(
                        "cannot start {guest}: disk {disk} is {image}, which holds the state of snapshot {name} of "
                        "{other}. Writes by {guest} would corrupt that state",
                        guest=domain.name,
                        disk=use.target,
                        image=use.path,
                        name=record.name,
                        other=record.guest,
                    ),
                    either(
                        t("give {guest} its own overlay on {image}", guest=domain.name, image=use.path),
                        t("use start(force=True) if that snapshot is no longer needed"),
                    ),
                    images=(use.path,),
                    holders=(record.guest,),
                    waivable=True,
                )


def saved_layers(forest: Forest, domain: Domain) -> Iterator[Concern]:
    """Check that all layers with which libvirt would go on from a managed save are there."""
    for need in forest.needs:
        for path in (need.path, *need.layers) if need.guest == domain.name and need.kind == "managed save" else ():
            if path in forest.images and (status := forest.status(path)) in ("missing", "invalid"):
                if status == "missing":
                    what = t(
                        "cannot start {guest}: its managed save needs {path}, which does not exist",
                        guest=domain.name,
                        path=path,
                    )
                else:
                    what = t(
                        "cannot start {guest}: its managed save needs {path}, which was merged into another image",
                        guest=domain.name,
                        path=path,
                    )
                yield refuse(
                    "managed-save",
                    what,
                    either(
                        t("restore that image"),
                        t(
                            "if that state is no longer needed, remove it: {command}",
                            command=f"virsh managedsave-remove {shlex.quote(domain.name)}",
                        ),
                    ),
                    images=(path,),
                    holders=(domain.name,),
                )


def _held(reading: Reading, domain: Domain, use: Use, layer: str, guests: tuple[str, ...]) -> Concern:
    name = reading.forest[layer].name
    if guests:
        who = t("guest {names}", names=listed(guests))
        own = t("give {guest} its own overlay on {image}", guest=domain.name, image=name)
        snapshot = t(
            "take an external snapshot of {guest} first: the guest then writes to a new overlay, and {image} becomes "
            "read-only",
            guest=guests[0],
            image=name,
        )
        remedy = either(t("shut {guest} down", guest=guests[0]), own if layer == use.path else snapshot)
    else:
        guests = reading.processes.get(layer, ())
        who = t("process {names}", names=listed(guests)) if guests else t("a process that cannot be seen from here")
        remedy = t("end the process that has {image} open, then try again", image=name)
    if layer == use.path:
        what = t("cannot start {guest}: {holder} has {image} open", guest=domain.name, holder=who, image=name)
    else:
        what = t(
            "cannot start {guest}: {holder} has {image} open, and disk {disk} is based on it",
            guest=domain.name,
            holder=who,
            image=name,
            disk=use.target,
        )
    return refuse("in-use", what, remedy, images=(layer,), holders=guests, waivable=True)


def layers(forest: Forest, uses: Iterable[Use]) -> Iterator[Concern]:
    """Check for layers with which no QEMU opens the disk: missing or merged ones, and those that form a loop."""
    for use in uses:
        if use.readonly:  # libvirt may be told to start without a CD that is not there
            continue
        above: Image | None = None
        for path in forest.known_lineage(use.path):
            status = forest.status(path)
            # One that QEMU has marked it still opens for reading.
            is_read = status == "corrupt" and forest[path].corrupt and above is not None
            if status in _UNUSABLE and not is_read:
                yield _unusable(use, path, status, above, reason(forest[path], status))
                break
            above = forest[path]


def _unusable(use: Use, path: str, status: Status, above: Image | None, why: str) -> Concern:
    name, problem, advice = _UNUSABLE[status]
    remedy: Message = t(advice, commands=repair_commands(path))
    if above is not None and above.backing is not None and status == "missing":
        format = above.format or "qcow2"
        elsewhere = rebase_argv(above.path, replace(above.backing, written="ITS-PATH"), "-u", format=format)
        if format in REBASED:
            moved = t("record its new path in {image}: {command}", image=above.name, command=shlex.join(elsewhere))
            remedy = either(remedy, moved)
    what = t(
        "cannot start {guest} from disk {disk}: {problem}",
        guest=use.guest,
        disk=use.target,
        problem=t(problem, path=path, why=why),
    )
    return refuse(name, what, remedy, images=(path,))


def backing_formats(forest: Forest, uses: Iterable[Use]) -> Iterator[Concern]:
    """Check for layers whose header does not record the format of their backing file.

    libvirt then looks itself, and takes what it finds only if that has no backing file.
    """
    tops = dict.fromkeys(use.path for use in uses if use.path in forest.images)
    yield from missing_formats(forest, dict.fromkeys(layer for top in tops for layer in forest.known_lineage(top)))


def missing_formats(forest: Forest, paths: Collection[str]) -> Iterator[Concern]:
    """Check for those of some images whose header does not record the format of another of them."""
    for path in paths:
        image, parent = forest[path], forest.parent(path)
        unrecorded = image.format == "qcow2" and image.backing is not None and image.backing.format is None
        if unrecorded and parent is not None and parent in paths:
            yield _missing(image, forest[parent])


def _missing(image: Image, below: Image) -> Concern:
    refused = below.backing is not None
    backing = replace(image.backing, format=below.format or "FORMAT")  # type: ignore[type-var]
    concern = refuse if refused else warn
    if refused:
        what = t(
            "{path} does not record the format of its backing file {base}, and libvirt refuses to start a guest with "
            "such a disk",
            path=image.path,
            base=below.name,
        )
    else:
        what = t(
            "{path} does not record the format of its backing file {base}, so libvirt guesses it from the content",
            path=image.path,
            base=below.name,
        )
    return concern(
        "backing-format-missing",
        what,
        t("record the format: {command}", command=shlex.join(rebase_argv(image.path, backing, "-u"))),
        images=(image.path, below.path),
    )
