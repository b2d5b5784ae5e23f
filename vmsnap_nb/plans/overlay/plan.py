"""Plans that put new overlays, and new guests, on a base."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import NO_FILE, Image, Status, reason
from vmsnap_nb.model.permit import Permit
from vmsnap_nb.plans.checks.folders import free_name, room
from vmsnap_nb.plans.checks.known import how_to_read
from vmsnap_nb.plans.checks.layers import doubts, foreign_data, lower_keys, new_overlay_exposes, unreadable
from vmsnap_nb.plans.checks.notes import merging, pulling, strangers
from vmsnap_nb.plans.checks.users import in_use
from vmsnap_nb.plans.concern import Concern, either, refuse, sorted_concerns, warn
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.plans.overlay.reference import NEW_OVERLAY_BYTES, backing_reference
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import CreateOverlay, DefineDomain, Protect, Step
from vmsnap_nb.words.message import N_, NOTHING, Message, counted, joined, listed, t

if TYPE_CHECKING:
    from vmsnap_nb.plans.overlay.request import GuestsRequest, OverlayRequest

__all__ = ["link_folders", "plan_guests", "plan_overlays"]

_SECTOR = 512


def plan_overlays(reading: Reading, request: OverlayRequest) -> Plan:
    """Return the plan of one or more new qcow2 images on one base."""
    forest, paths, backing, size = reading.forest, request.paths, request.backing, request.size
    _check_request(paths, size, request.cluster_size)
    base = forest.images.get(backing) or Image(backing, status="missing", problem=t(NO_FILE))
    known = forest
    if base.status == "unknown" and request.backing_format:
        base = _taken_as(base, request.backing_format)
        known = forest.edited(put=[base])
    steps: list[Step] = []
    put: list[Image] = []
    for path in paths:
        format = request.backing_format or base.format
        reference = backing_reference(path, backing, format, relative=request.relative)
        step = CreateOverlay(path=path, backing=reference, virtual_size=size, cluster_size=request.cluster_size)
        steps.append(step)
        put.append(
            Image(
                path,
                "qcow2",
                virtual_size=_rounded(size if size is not None else base.virtual_size),
                backing=reference,
                cluster_size=request.cluster_size or 65536,
                compat="1.1",
            )
        )
    concerns = [
        *_concerns_of_base(known, base, request.backing_format, size, protect=request.protect),
        *_places(known, base, reading.permits),
        *_concerns_of_paths(known, paths, backing, NEW_OVERLAY_BYTES * len(paths), reading.folders),
        *merging(reading, (backing,)),
        *pulling(reading, (backing,)),
        *strangers(reading),
    ]
    if request.protect:
        concerns += _concerns_of_protecting(known, base)
        if base.writable and not base.device and base.status == "ok":
            steps.append(Protect(path=backing, identity=base.identity))
            put.append(replace(base, writable=False))
    return Plan(
        title=_title(paths, base),
        before=forest,
        steps=tuple(steps),
        after=known.edited(put=put),
        concerns=sorted_concerns(concerns),
        way=t("qemu-img create: a new overlay contains no data, so nothing is copied"),
        space_needed=NEW_OVERLAY_BYTES * len(paths),
        subjects=(backing, *paths),
    )


def plan_guests(reading: Reading, request: GuestsRequest) -> Plan:
    """Return the plan of new guests, each on a new overlay of one base."""
    disks = request.disks
    overlays = plan_overlays(reading, request.overlays)
    defines = tuple(
        DefineDomain(name=name, path=path, xml=request.xml[name], uri=request.uri) for name, path in disks.items()
    )
    forest = reading.forest
    uses = (*forest.uses, *(Use(name, "vda", path) for name, path in disks.items()))
    base = forest.images[request.backing].name if request.backing in forest.images else request.backing
    keys = lower_keys(forest, request.backing, listed(disks), t("use a base that is not encrypted"))
    return replace(
        overlays,
        concerns=sorted_concerns((*overlays.concerns, *keys)),
        title=t("create guest {guest} on {base}", guest=next(iter(disks)), base=base)
        if len(disks) == 1
        else t("create {count} guests on {base}", count=len(disks), base=base),
        steps=overlays.steps + defines,
        after=overlays.after.edited(uses=uses),
        way=t("qemu-img create and virsh define: a new overlay contains no data, so nothing is copied"),
    )


def _taken_as(base: Image, format: str) -> Image:
    """Give a file that was not recognised, once somebody says what it is."""
    return replace(base, format=format, status="ok", problem="", virtual_size=_rounded(base.file_size))


def _title(paths: Sequence[str], base: Image) -> Message:
    if len(paths) == 1:
        return t("create {image} on {base}", image=Image(paths[0]).name, base=base.name)
    return t("create {count} overlays on {base}", count=len(paths), base=base.name)


def _rounded(size: int | None) -> int | None:
    return None if size is None else -(-size // _SECTOR) * _SECTOR


def _check_request(paths: Sequence[str], size: int | None, cluster_size: int | None) -> None:
    if not paths:
        raise InvalidRequestError(
            t("create an overlay"), why=t("no path was given"), next_step=t("pass at least one path")
        )
    twice = sorted({path for path in paths if list(paths).count(path) > 1}) if len(set(paths)) < len(paths) else []
    if twice:
        raise InvalidRequestError(
            t("create overlays"),
            why=counted(
                "this path was given more than once: {paths}",
                "these paths were given more than once: {paths}",
                len(twice),
                paths=joined(twice),
            ),
            next_step=t("pass each path once"),
        )
    if size is not None and not 0 < size < 2**63:
        raise InvalidRequestError(
            t("create an overlay of {size} bytes", size=size),
            why=t("the size must be greater than 0 bytes and less than 2**63"),
            next_step=t("pass a size in bytes, or omit it to use the size of the base"),
        )
    if cluster_size is not None and not (512 <= cluster_size <= 2 << 20 and cluster_size & (cluster_size - 1) == 0):
        raise InvalidRequestError(
            t("create an overlay with clusters of {size} bytes", size=cluster_size),
            why=t("the cluster size must be a power of two from 512 to 2097152"),
            next_step=t("pass such a size, or omit it to use the default, 65536"),
        )


_WRONG_AS_RAW = N_("{path} is {format}, not {wanted}: a guest would see the image file itself as its disk")
_WRONG = N_("{path} is {format}, not {wanted}: QEMU could not open the overlay")


def _concerns_of_base(
    forest: Forest, base: Image, backing_format: str | None, size: int | None, *, protect: bool
) -> Iterator[Concern]:
    status = forest.status(base.path) if base.path in forest.images else base.status
    if against := tuple(_unreadable(base, status)):
        yield from against
    elif backing_format and base.format and backing_format != base.format:
        wrong = _WRONG_AS_RAW if backing_format == "raw" else _WRONG
        yield refuse(
            "backing-format-wrong",
            t(wrong, path=base.path, format=base.format, wanted=backing_format),
            t("omit backing_format, or pass {argument}", argument=f"backing_format={base.format!r}"),
            images=(base.path,),
            waivable=True,
        )
    yield from foreign_data(base)
    yield from new_overlay_exposes(base)
    for path in forest.known_lineage(base.path)[1:]:
        below = forest[path]
        yield from foreign_data(below)
        if below.status in {"outside", "remote"}:
            yield warn(
                "untrusted-backing",
                t(
                    "{base} is based on {path}, which was not read: {why}",
                    base=base.name,
                    path=below.path,
                    why=reason(below),
                ),
                how_to_read(below) if below.status == "outside" else NOTHING,
                images=(below.path,),
            )
        else:
            yield from _unreadable(below, forest.status(path))
    yield from _named_by_headers(forest, base)
    yield from doubts(forest, base.path)
    yield from _size(base, size)
    yield from in_use(
        forest,
        (),
        (base.path,) if base.path in forest.images else (),
        so=t("until it stops, no guest can start from this overlay, and the overlay reads changing data"),
        instead=lambda guest: t(
            "take an external snapshot of {guest} first: {image} then becomes read-only", guest=guest, image=base.name
        ),
        concern=warn,
    )
    yield from _stopped(forest, base, protect=protect)


def _named_by_headers(forest: Forest, base: Image) -> Iterator[Concern]:
    """Warn of layers in other folders, unless guests are based on them so: a header can name any file."""
    if forest.known_users(base.path):
        return
    folders = tuple(f"{folder.rstrip('/')}/" for folder in (*forest.folders, os.path.dirname(base.path)))
    for path in forest.known_lineage(base.path)[1:]:
        if forest.status(path) != "ok" or path.startswith(folders):
            continue
        yield warn(
            "untrusted-backing",
            t(
                "{path} is in a folder that was not specified, and only the header of an image refers to it. A guest "
                "on {base} reads it as its disk, whatever the file contains",
                path=path,
                base=base.name,
            ),
            t("run this only if you trust the author of {base}", base=base.name),
            images=(path,),
        )


def _places(forest: Forest, base: Image, permits: Mapping[str, Permit]) -> Iterator[Concern]:
    """Warn of layers that are another's file by a link, unless guests are based on them so: an archive can have one."""
    if forest.known_users(base.path):
        return
    named = [permits[folder].place for folder in link_folders(forest, base.path) if folder in permits]
    folders = tuple(f"{folder.rstrip('/')}/" for folder in named)
    for path in forest.known_lineage(base.path) or (base.path,):
        permit = permits.get(path)
        if (
            permit is None
            or forest.status(path) != "ok"
            or not path.startswith(tuple(f"{folder.rstrip('/')}/" for folder in forest.folders))
        ):
            continue  # of what is in other folders by its name this is said anyway
        if not permit.place.startswith(folders):
            yield _linked(
                base,
                path,
                t(
                    "{path} is a symbolic link to {file}, in a folder that was not specified",
                    path=path,
                    file=permit.place,
                ),
            )
        elif permit.links > len({permits[name].place for name in forest.same_file(path) if name in permits}):
            yield _linked(
                base, path, t("{path} has another name (hard link), which is not among the images read", path=path)
            )


def link_folders(forest: Forest, backing: str) -> tuple[str, ...]:
    """Return the folders in which the layers of a base may be: those that were named, and that of the base."""
    return tuple(dict.fromkeys((*forest.folders, os.path.dirname(backing))))


def _linked(base: Image, path: str, what: Message) -> Concern:
    return warn(
        "untrusted-backing",
        t("{fact}. A guest on {base} reads it as its disk, whatever the file contains", fact=what, base=base.name),
        t(
            "if you did not create this link, do not run this: an archive can contain links to files of other users. "
            "To see the file, run {command}",
            command=shlex.join(("ls", "-l", "--", path)),
        ),
        images=(path,),
    )


def _size(base: Image, size: int | None) -> Iterator[Concern]:
    if size is not None and base.virtual_size is not None and size < base.virtual_size:
        yield refuse(
            "smaller-size",
            t(
                "an overlay of {size} bytes is smaller than {base} ({base_size} bytes), and would cut off the end of "
                "the disk",
                size=size,
                base=base.name,
                base_size=base.virtual_size,
            ),
            t("omit size, or pass a size that is not smaller than that of the base"),
            images=(base.path,),
            waivable=True,
        )


def _stopped(forest: Forest, base: Image, *, protect: bool) -> Iterator[Concern]:
    stopped = [use.guest for use in forest.known_writers(base.path) if not use.running]
    if stopped:
        own = t("give {guest} its own overlay", guest=stopped[0])
        yield warn(
            "shared-base",
            t(
                "{image} is the disk of {guests}: any write to {image} by {guests} will corrupt the overlay",
                image=base.name,
                guests=listed(stopped),
            ),
            own if protect else either(own, t("use protect=True")),
            images=(base.path,),
            holders=tuple(stopped),
        )


def _unreadable(base: Image, status: Status) -> Iterator[Concern]:
    remedy: Message | None = t("check the path and its permissions")
    if status == "invalid":
        remedy = t("use the image that it was merged into")
    elif status == "corrupt":
        remedy = None  # that of a damaged image
    format_remedy = t("pass it, for example {argument}", argument="backing_format='raw'")
    return unreadable(base, status, remedy=remedy, format_remedy=format_remedy)


def _concerns_of_paths(
    forest: Forest, paths: Sequence[str], backing: str, space: int, ground: FolderFacts
) -> Iterator[Concern]:
    below = names_of(forest, forest.known_lineage(backing) or (backing,))
    for path in paths:
        if path in below:
            yield refuse(
                "loop",
                t("{path} would be based on itself", path=path),
                t("choose another name for the overlay"),
                images=(path,),
            )
        else:
            yield from free_name(forest, ground, path, shared=warn)
    yield from room(ground, {os.path.dirname(path): space for path in paths})


def _concerns_of_protecting(forest: Forest, base: Image) -> Iterator[Concern]:
    writers = tuple(use.guest for use in forest.known_writers(base.path))
    if base.device:
        yield refuse(
            "not-supported",
            t("{path} is a block device, and file permissions do not protect a device", path=base.path),
            t(
                "omit protect. To protect it until this machine restarts, run {command}",
                command=f"blockdev --setro {shlex.quote(base.path)}",
            ),
            images=(base.path,),
        )
    if writers:
        yield warn(
            "read-only",
            t(
                "{image} is the disk of {guests}, and once {image} is protected, {guests} can no longer write to it",
                image=base.name,
                guests=listed(writers),
            ),
            t("omit protect"),
            images=(base.path,),
            holders=writers,
        )
