"""Who performs a step, and whether they may: what this process cannot open is left to libvirt, or refused."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ, Image, reason
from vmsnap_nb.model.need import lost_volumes, may_need, parts_of
from vmsnap_nb.model.twins import twins
from vmsnap_nb.plans.checks.known import raw_overlays
from vmsnap_nb.plans.concern import Concern, refuse, remark, sorted_concerns, warn
from vmsnap_nb.plans.journal import kind_of
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.step import CreateOverlay, CreateVolume, RemoveVolume, Step
from vmsnap_nb.words.message import Message, counted, joined, listed, t
from vmsnap_nb.words.options import option

__all__ = ["Access", "on_other_machine", "opened", "unresolved", "with_access"]

_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Access:
    """What this process may not do with files of a plan, each with the reason, and which of them libvirt can remove.

    `is_root` says that it may give files any owner and mode. `unread` and `unwritten` are images, `closed` folders in
    which it can neither make nor remove a file, `volumes` images that are volumes of a storage pool, `pools` the
    storage pools by their folders. `elsewhere` says that the files are on another machine.
    """

    is_root: bool = True
    unread: Mapping[str, str] = field(default_factory=dict)
    unwritten: Mapping[str, str] = field(default_factory=dict)
    closed: Mapping[str, str] = field(default_factory=dict)
    volumes: frozenset[str] = frozenset()
    pools: Mapping[str, str] = field(default_factory=dict)
    uri: str = ""
    elsewhere: bool = False


def opened(step: Step, forest: Forest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the images that a step reads, and those that it writes to, if libvirt does not do it."""
    if step.performer == "libvirt":
        return (), ()
    written = tuple(path for path in step.opens if path not in step.creates)
    if step.performer == "this process":
        return step.relies, written
    tops = (*written, *step.relies)
    return tuple(dict.fromkeys(layer for path in tops for layer in forest.known_lineage(path))), written


def with_access(plan: Plan, access: Access) -> Plan:
    """Return the plan as it can be performed here.

    What only libvirt may remove or make is removed or made as a volume. Merged layers that nobody here may mark stay
    unmarked, and what libvirt does goes without an entry where none can be written. All else is refused.
    """
    steps: list[Step] = []
    concerns: list[Concern] = []
    unmarked: list[str] = []
    for step in plan.steps:
        closed = access.closed.get(os.path.dirname(step.entry_path), "") if step.entry_path else ""
        if step.invalidates and any(path in access.unwritten for path in step.invalidates):
            unmarked += step.invalidates
        elif closed and (step.is_note or step.performer == "libvirt"):
            steps += () if step.is_note else (step.unnoted(),)
            concerns += (_unnoted(step, closed),)
        elif instead := tuple(_by_libvirt(step, plan.before, access)):
            steps += instead
        else:
            concerns += _not_opened(step, plan, access)
            concerns += () if access.is_root else (_open(path) for path, _ in step.open_overlays)
            steps.append(step)
    concerns += (_unmarked(path, access) for path in unmarked if path in plan.after.images)
    concerns += (_journal_unknown(plan, access),) if access.elsewhere and (plan.creates or plan.writes) else ()
    if tuple(steps) == plan.steps and not concerns:
        return plan
    put = (
        replace(plan.after[path], status=plan.before[path].status, problem=plan.before[path].problem)
        for path in unmarked
        if path in plan.after.images
    )
    return replace(
        plan,
        steps=tuple(steps),
        after=plan.after.edited(put=put),
        concerns=sorted_concerns(dict.fromkeys((*plan.concerns, *concerns))),
    )


def _by_libvirt(step: Step, forest: Forest, access: Access) -> Iterator[Step]:
    """Yield what libvirt does in place of a step that cannot be performed here; nothing if there is none."""
    if step.performer == "libvirt":
        yield from _with_own_overlays(step, forest, access)
        return
    folders = {os.path.dirname(path) for path in (*step.unlinks, *step.creates)}
    read, _ = opened(step, forest)
    if folders.isdisjoint(access.closed) and access.unread.keys().isdisjoint(read):
        return
    if isinstance(step, CreateOverlay):
        if step.backing.path is not None and step.cluster_size is None:
            format, size = step.backing.format or "raw", step.virtual_size
            yield from _volume(forest, access, step.path, step.backing.path, format=format, size=size)
    elif step.unlinks and not (step.writes or step.creates) and access.volumes.issuperset(step.unlinks):
        for path in step.unlinks:
            yield RemoveVolume(path=path, uri=access.uri)


def _volume(
    forest: Forest, access: Access, path: str, below: str, *, format: str, size: int | None = None
) -> Iterator[CreateVolume]:
    """Yield the step by which libvirt makes an overlay, if the folder is a pool."""
    pool, image = access.pools.get(os.path.dirname(path)), forest.images.get(below)
    size = size or (None if image is None else image.virtual_size)
    if pool is not None:
        yield CreateVolume(path=path, backing=below, format=format, pool=pool, virtual_size=size, uri=access.uri)


def _with_own_overlays(step: Step, forest: Forest, access: Access) -> Iterator[Step]:
    """Yield a step on overlays that are made as volumes first: those that libvirt makes everybody may read."""
    if access.is_root or not step.open_overlays:
        return
    made: list[Step] = []
    for path, below in step.open_overlays:
        image = forest.images.get(below)
        if image is not None and image.format is not None:
            made += _volume(forest, access, path, below, format=image.format)
    if len(made) == len(step.open_overlays):
        yield from (*made, step.reusing())


def _journal_unknown(plan: Plan, access: Access) -> Concern:
    """Remark that the journal of another machine is not known: it is in files, of which libvirt lists none."""
    touched = [path for path in (*plan.creates, *plan.writes) if path.startswith("/")]
    layers = [layer for path in touched if path in plan.before.images for layer in plan.before.known_lineage(path)]
    folders = sorted({os.path.dirname(path) for path in (*touched, *layers) if path.startswith("/")})
    command = shlex.join(["vmsnap-nb", "plan", "finish", *folders])
    return remark(
        "active-job",
        t(
            "cannot tell whether a vmsnap_nb operation was interrupted on the host at {uri}",
            uri=access.uri,
        ),
        t(
            "libvirt does not list the journal files of vmsnap_nb, so check on that host first: {command}",
            command=command if plan.machine is None else plan.machine.line(command),
        ),
    )


def _not_opened(step: Step, plan: Plan, access: Access) -> Iterator[Concern]:
    forest, remedy = plan.before, _another_account(plan, access)
    read, written = opened(step, forest)
    for path in read:
        if path in access.unread and forest.images[path].status not in NOT_READ:  # those are refused anyway
            yield _refused(step, path, access.unread[path], remedy)
    for path in written:
        if path in access.unwritten and not (path in read and path in access.unread):
            yield _refused(step, path, access.unwritten[path], remedy)
    for path in (*step.creates, *step.unlinks, step.entry_path):
        if step.performer != "libvirt" and path and (why := access.closed.get(os.path.dirname(path))):
            yield _refused(step, path, why, remedy)


def _another_account(plan: Plan, access: Access) -> Message:
    """Return who can perform a step that this process cannot."""
    if not access.elsewhere:
        return t("use an account with access, such as root")
    if plan.machine is None:
        return t("create the plan on that machine, using an account with access, such as root")
    return t(
        "create the plan on that machine, using an account with access, such as root: {command}",
        command=plan.machine.line("vmsnap-nb plan --help"),
    )


def _refused(step: Step, path: str, why: str, remedy: Message) -> Concern:
    action = t(step.action)
    if step.performer == "qemu-img":
        what = t(
            "the step “{action}” runs qemu-img, but the current user has no access to {path}: {why}",
            action=action,
            path=path,
            why=why,
        )
    else:
        what = t(
            "the step “{action}” runs in this process, but the current user has no access to {path}: {why}",
            action=action,
            path=path,
            why=why,
        )
    return refuse("no-permission", what, remedy, images=(path,))


def _unmarked(path: str, access: Access) -> Concern:
    remedy = (
        t("pass {option}: libvirt then removes it", option=option("remove"))
        if path in access.volumes
        else t("remove it as root")
    )
    return warn(
        "no-permission",
        t(
            "{path} will stay in place without being marked invalid, because this process cannot write to it: an "
            "overlay based on it would read corrupted data",
            path=path,
        ),
        remedy,
        images=(path,),
    )


def _open(path: str) -> Concern:
    return warn(
        "no-permission",
        t("libvirt creates {path} as a world-readable file, and the current user cannot change its mode", path=path),
        t(
            "create a storage pool for its folder: libvirt then creates the overlay as a volume, with the owner and "
            "mode of its backing file"
        ),
        images=(path,),
    )


def _unnoted(step: Step, why: str) -> Concern:
    return remark(
        "no-permission",
        t(
            "cannot write a journal entry to {folder} ({why}): if the machine fails while this plan "
            "runs, check the images with chain() afterwards",
            folder=os.path.dirname(step.entry_path),
            why=why,
        ),
        images=(step.image,),
    )


def _is_unseen(image: Image) -> bool:
    """Return whether nobody knows what a guest's disk is based on.

    Such are those on a file system that is not mounted, and those of guests that are off, of which libvirt knows no
    more than the name: on another machine, or where this user may not read them.
    """
    return image.status in {"unreadable", "outside"} and image.backing is None and image.format != "raw"


def unresolved(plan: Plan, *, here: bool = True) -> Iterator[Concern]:
    """Check that it is known who else reads what changes or goes: all disks, and all overlays in the same folders.

    `here` says whether the images are those of this machine.
    """
    before = plan.before
    changed = dict.fromkeys(path for step in plan.steps for path in step.changes)
    changed |= dict.fromkeys(path for path in (*plan.unlinks, *plan.invalid) if path in before.images)
    for use in before.uses if changed else ():
        if use.volume:
            yield refuse(
                "unknown-image",
                t(
                    "libvirt does not report the file of disk {disk} of {guest} ({volume}). The file may be, or be "
                    "based on, an image that this plan changes",
                    disk=use.target,
                    guest=use.guest,
                    volume=use.volume,
                ),
                t(
                    "start the storage pool. If no pool has that name, correct the definition of {guest}",
                    guest=use.guest,
                ),
                images=tuple(changed),
                holders=(use.guest,),
                waivable=True,
            )
    yield from _unseen_disks(before, tuple(changed), here=here)
    yield from _of_lost_volumes(before, tuple(changed))
    yield from _uncertain(before, tuple(changed))
    yield from raw_overlays(before, tuple(changed))
    yield from _two_paths(before, tuple(changed))
    yield from _hidden(plan, changed, here=here)
    for folder in dict.fromkeys(map(os.path.dirname, changed)):
        image = before.images.get(folder)
        if image is not None and image.status == "unreadable" and image.known_from == "file":
            yield refuse(
                "unknown-image",
                t(
                    "the current user cannot list {folder}, which may contain other overlays of the images that this "
                    "plan changes",
                    folder=folder,
                ),
                t(
                    "define and start a storage pool for that folder: {command}",
                    command=f"virsh pool-define-as NAME dir --target {shlex.quote(folder)}",
                ),
                images=tuple(path for path in changed if os.path.dirname(path) == folder),
                waivable=True,
            )


def _unseen_disks(forest: Forest, changed: tuple[str, ...], *, here: bool) -> Iterator[Concern]:
    """Check that it is known of each guest's disk what it is based on."""
    unseen = [use for use in forest.uses if (disk := forest.images.get(use.path)) is not None and _is_unseen(disk)]
    if not changed or not unseen:
        return
    first, image = unseen[0], forest.images[unseen[0].path]
    if len(unseen) == 1:
        what = t(
            "disk {disk} of {guest} is {path}, which may be based on an image that this plan changes: {why}",
            disk=first.target,
            guest=first.guest,
            path=first.path,
            why=reason(image),
        )
    else:
        what = t(
            "{count} disks may be based on an image that this plan changes: {disks}. The reason for the first disk: "
            "{why}",
            count=len(unseen),
            disks=joined([f"{use.guest} ({use.target})" for use in unseen], most=_MOST_NAMED),
            why=reason(image),
        )
    remedy = t("create and start a storage pool for its folder, so that libvirt reads the image")
    if here and image.known_from == "file":
        remedy = t("start the storage pool, or mount its file system")
    guests = tuple(dict.fromkeys(use.guest for use in unseen))
    yield refuse("unknown-image", what, remedy, images=changed, holders=guests, waivable=True)


def _of_lost_volumes(forest: Forest, changed: tuple[str, ...]) -> Iterator[Concern]:
    """Check that no snapshot needs a volume whose file libvirt does not report, if that may be what changes."""
    names = set(map(os.path.basename, names_of(forest, changed)))
    for record, volume in lost_volumes(forest.records):
        if os.path.basename(volume) not in names:
            continue
        yield refuse(
            "unknown-image",
            t(
                "snapshot {name} of {guest} needs the volume {volume}, but libvirt does not report its file, which may "
                "be an image that this plan changes",
                name=record.name,
                guest=record.guest,
                volume=volume,
            ),
            t("define and start that storage pool. Or waive this if the snapshot is no longer needed"),
            images=changed,
            holders=(record.guest,),
            waivable=True,
        )


def _uncertain(forest: Forest, changed: tuple[str, ...]) -> Iterator[Concern]:
    """Check that no image refers to what changes in a way that only QEMU could follow."""
    names = [name for path in changed for name in forest.same_file(path)]
    known = _with_lower(forest, changed)
    for path in dict.fromkeys(may_need(forest.images.values(), names)) if changed else ():
        if path in known:
            continue
        image = forest[path]
        reference, base = next(
            (reference, name)
            for reference in (image.backing, *parts_of(image))
            if reference is not None and not reference.is_certain
            for name in names
            if reference.mentions([name])
        )
        yield refuse(
            "unknown-image",
            t(
                "{path} refers to {reference}, which may be {base}, but only QEMU can resolve this reference",
                path=path,
                reference=reference.written,
                base=base,
            ),
            t("if it is not that image, waive this. Otherwise, write the absolute path into {path}", path=path),
            images=(*changed, path),
            waivable=True,
        )


def on_other_machine(plan: Plan, theirs: str, own: str) -> Iterator[Concern]:
    """Check that a plan changes no file of a process in a container whose libvirt is outside, or the reverse.

    `theirs` is the host name where libvirt runs, and `own` that of this process.
    """
    changed = dict.fromkeys(path for step in plan.steps for path in (*step.changes, *step.creates, *step.unlinks))
    if changed:
        yield refuse(
            "unknown-image",
            t(
                "libvirt runs on {theirs} and this process on {own}, which may be a container: the same path may "
                "refer to different files",
                theirs=theirs,
                own=own,
            ),
            t("run this where libvirt runs, or connect with qemu+ssh. Or waive this if both have the same files"),
            images=tuple(changed),
            waivable=True,
        )


def _two_paths(forest: Forest, changed: tuple[str, ...]) -> Iterator[Concern]:
    """Check that nothing needs what changes under another path, if only libvirt knows where both lead."""
    others = {path: found for path in changed if (found := tuple(twins(forest, path)))}
    for path, found in others.items():
        own = {name for names in others.values() for name in names}
        own |= {name for child in forest.known_children(path) for name in twins(forest, child)}
        for twin in found:
            guests = [need.guest for need in forest.known_needs(twin)]
            overlays = [child for child in forest.known_children(twin) if child not in own]
            if guests or overlays:
                yield refuse(
                    "unknown-image",
                    t(
                        "{path} has the same name and size as {other}, which is needed by {users}: they may be the "
                        "same file",
                        path=path,
                        other=twin,
                        users=listed(dict.fromkeys(filter(None, (*guests, *overlays)))),
                    ),
                    t("if they are different files, waive this. Otherwise, use only one path for their folder"),
                    images=(path, twin),
                    holders=tuple(dict.fromkeys(filter(None, guests))),
                    waivable=True,
                )


def _with_lower(forest: Forest, paths: Collection[str]) -> set[str]:
    """Return images with all that they are based on; each layer of a long chain is visited once."""
    found: set[str] = set()
    for path in paths:
        step: str | None = path
        while step is not None and step in forest.images and step not in found:
            found.add(step)
            step = forest.parent(step)
    return found


def _hidden(plan: Plan, changed: Collection[str], *, here: bool) -> Iterator[Concern]:
    """Check that no file was left unread that may be an overlay of what changes: by a link it can lie anywhere.

    An unread entry of the journal that the plan is refused for is not taken for an overlay as well. Disks of guests
    have been checked.
    """
    if not changed:
        return
    forest = plan.before
    refused = {path for concern in plan.concerns if concern.level == "refuse" for path in concern.images}
    entries = {path for path in refused if kind_of(path) is not None}
    known = entries | names_of(forest, _with_lower(forest, changed))
    known |= {use.path for use in forest.uses if (disk := forest.images.get(use.path)) is not None and _is_unseen(disk)}
    found = [path for path, image in forest.images.items() if path not in known and _may_hide(forest, image, here=here)]
    if found:
        first = forest.images[found[0]]
        if not here or first.known_from != "file":
            remedy = t("create and start a storage pool for its folder, so that libvirt reads the image")
        elif first.status == "outside":
            remedy = t("also read its folder, or pass follow=True")
        else:
            remedy = t("use an account that can read it")
        yield refuse(
            "unknown-image",
            counted(
                "{paths} was not read and may be based on an image that this plan changes: {why}",
                "{paths} were not read and may be based on an image that this plan changes: {why}",
                len(found),
                paths=listed(found, most=_MOST_NAMED),
                why=reason(first),
            ),
            remedy,
            images=(*changed, *found),
            waivable=True,
        )


def _may_hide(forest: Forest, image: Image, *, here: bool) -> bool:
    """Return whether a file is there of which nobody knows on what it is based, and whether it is based on anything."""
    if image.backing is not None or image.device or image.status not in {"unreadable", "outside"}:
        return False
    if here and image.known_from == "file":
        # A folder has no identity. Of an image of another format, outside means that it was not opened.
        unread = image.format is None or (image.format != "raw" and image.status == "outside")
        is_image = unread and image.identity is not None
    else:
        named = image.known_from == "definition" or not here
        is_image = named and image.format != "raw" and image.path.startswith("/") and image.path not in forest.folders
    if not is_image:
        return False
    takers = [backing for path in forest.known_children(image.path) if (backing := forest.images[path].backing)]
    return not takers or any(backing.format != "raw" for backing in takers)
