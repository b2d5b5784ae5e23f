"""Plans that put new overlays, and new guests, on a base."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.ground import Ground, about_room
from vmsnap_nb.plans.plan import Concern, Plan
from vmsnap_nb.plans.steps import CreateOverlay, DefineDomain, Protect, Step

__all__ = ["NEW_OVERLAY_BYTES", "backing_reference", "plan_guests", "plan_overlays"]

NEW_OVERLAY_BYTES = 200_704
"""What a new qcow2 image takes with 64 KiB clusters: header, one cluster each of L1 and refcounts."""

_SECTOR = 512
_UNUSABLE = {"missing", "unreadable", "not-a-file", "corrupt", "unknown", "outside", "remote", "invalid"}
_LEVELS = ("refuse", "warn", "note")


def backing_reference(path: str, backing: str, format: str | None, *, relative: bool = False) -> Reference:
    """Write down how an overlay refers to its backing file.

    Parameters
    ----------
    path, backing : str
        Absolute paths of the overlay and of its backing file.
    format : str or None
        The backing file's format.
    relative : bool
        Whether to write the path as seen from the overlay's folder: then both can be moved together.

    Returns
    -------
    Reference

    Examples
    --------
    >>> backing_reference("/images/a.qcow2", "/images/base:1.qcow2", "qcow2", relative=True).written
    './base:1.qcow2'
    """
    if not relative:
        return Reference(backing, "absolute", backing, format)
    written = os.path.relpath(backing, os.path.dirname(path))
    # QEMU takes what stands before a colon for a protocol, unless a slash comes first.
    if ":" in written.partition("/")[0]:
        written = f"./{written}"
    return Reference(written, "relative", backing, format)


def plan_overlays(
    forest: Forest,
    paths: Sequence[str],
    backing: str,
    *,
    backing_format: str | None = None,
    size: int | None = None,
    cluster_size: int | None = None,
    relative: bool = False,
    protect: bool = False,
    ground: Ground | None = None,
) -> Plan:
    """Plan one or more new qcow2 images on one base.

    Parameters
    ----------
    forest : Forest
        Must hold the base and whatever stands on it.
    paths : sequence of str
        Absolute paths of the new images.
    backing : str
        Absolute path of the base.
    backing_format : str, optional
        Its format, where nothing tells it: a raw image looks like any file.
    size : int, optional
        Virtual size in bytes; that of the base if left out.
    cluster_size : int, optional
        Bytes, a power of two from 512 to 2 MiB; QEMU's default of 64 KiB if left out.
    relative : bool
        Whether the overlays refer to the base relative to their own folder.
    protect : bool
        Whether to take the base's write permission.
    ground : Ground, optional
        Facts about the folders to write to.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidRequestError
        No path, a path twice, or an impossible size.
    """
    _check_request(paths, size, cluster_size)
    ground = ground or Ground()
    base = forest.images.get(backing) or Image(backing, status="missing", problem="there is no such file")
    known = forest
    if base.status == "unknown" and backing_format:
        base = _taken_as(base, backing_format)
        known = forest.edited(put=[base])
    base_format = backing_format or base.format
    steps: list[Step] = []
    new: list[Image] = []
    for path in paths:
        reference = backing_reference(path, backing, base_format, relative=relative)
        steps.append(CreateOverlay(path, reference, size, cluster_size))
        new.append(
            Image(
                path,
                "qcow2",
                virtual_size=_rounded(size if size is not None else base.virtual_size),
                backing=reference,
                cluster_size=cluster_size or 65536,
                compat="1.1",
            )
        )
    put = list(new)
    if protect and base.writable and base.status == "ok":
        steps.append(Protect(backing))
        put.append(replace(base, writable=False))
    space = NEW_OVERLAY_BYTES * len(paths)
    concerns = [
        *_concerns_of_base(known, base, backing_format, size, protect=protect),
        *_concerns_of_paths(known, paths, backing, space, ground),
    ]
    if protect:
        concerns += _concerns_of_protecting(known, base)
    return Plan(
        title=_title(paths, base),
        before=forest,
        steps=tuple(steps),
        after=known.edited(put=put),
        concerns=tuple(sorted(concerns, key=lambda concern: _LEVELS.index(concern.level))),
        way="qemu-img create: a new overlay holds no data yet, so nothing is copied",
        space_needed=space,
        subjects=(backing, *paths),
    )


def plan_guests(
    forest: Forest,
    disks: Mapping[str, str],
    backing: str,
    xml: Mapping[str, str],
    *,
    uri: str = "",
    backing_format: str | None = None,
    size: int | None = None,
    relative: bool = False,
    protect: bool = False,
    ground: Ground | None = None,
) -> Plan:
    """Plan new guests, each on a new overlay of one base.

    Parameters
    ----------
    forest : Forest
        Must hold the base and whatever stands on it.
    disks : mapping of str to str
        For each guest's name the absolute path of its new overlay.
    backing : str
        Absolute path of the base.
    xml : mapping of str to str
        For each guest's name its domain XML.
    uri : str
        Where the guests are defined; stands in the commands.
    backing_format, size, relative, protect, ground
        As in `plan_overlays`.

    Returns
    -------
    Plan
    """
    overlays = plan_overlays(
        forest,
        list(disks.values()),
        backing,
        backing_format=backing_format,
        size=size,
        relative=relative,
        protect=protect,
        ground=ground,
    )
    defines = tuple(DefineDomain(name, path, xml[name], uri) for name, path in disks.items())
    uses = (*forest.uses, *(Use(name, "vda", path) for name, path in disks.items()))
    base = forest.images[backing].name if backing in forest else backing
    who = f"guest {next(iter(disks))}" if len(disks) == 1 else f"{len(disks)} guests"
    return replace(
        overlays,
        title=f"create {who} on {base}",
        steps=overlays.steps + defines,
        after=overlays.after.edited(uses=uses),
        way="qemu-img create and virsh define: " + overlays.way.partition(": ")[2],
    )


def _taken_as(base: Image, format: str) -> Image:
    """Give a file that was not recognised, once somebody says what it is."""
    return replace(base, format=format, status="ok", problem="", virtual_size=_rounded(base.file_size))


def _title(paths: Sequence[str], base: Image) -> str:
    what = Image(paths[0]).name if len(paths) == 1 else f"{len(paths)} overlays"
    return f"create {what} on {base.name}"


def _rounded(size: int | None) -> int | None:
    return None if size is None else -(-size // _SECTOR) * _SECTOR


def _check_request(paths: Sequence[str], size: int | None, cluster_size: int | None) -> None:
    if not paths:
        raise InvalidRequestError("create an overlay", said="no path was given")
    twice = sorted({path for path in paths if list(paths).count(path) > 1}) if len(set(paths)) < len(paths) else []
    if twice:
        raise InvalidRequestError("create overlays", said=f"the same path twice: {', '.join(twice)}")
    if size is not None and not 0 < size < 2**63:
        raise InvalidRequestError(
            f"create an overlay of {size} bytes", next_step="give a size in bytes, or leave it out: the base's size"
        )
    if cluster_size is not None and not (512 <= cluster_size <= 2 << 20 and cluster_size & (cluster_size - 1) == 0):
        raise InvalidRequestError(
            f"create an overlay with clusters of {cluster_size} bytes",
            next_step="give a power of two from 512 to 2097152",
        )


def _concerns_of_base(
    forest: Forest, base: Image, backing_format: str | None, size: int | None, *, protect: bool
) -> Iterator[Concern]:
    status = forest.status(base.path) if base.path in forest else base.status
    if status == "loop":
        yield Concern(
            "loop",
            "refuse",
            f"{base.path} stands on itself, so nothing can stand on it",
            "mend the loop first: qemu-img rebase -u",
            images=(base.path,),
        )
    elif status in _UNUSABLE:
        yield from _unusable(base)
    elif backing_format and base.format and backing_format != base.format:
        yield Concern(
            "backing-format-wrong",
            "refuse",
            f"{base.path} is {base.format}, not {backing_format}: a guest would see the container instead of the disk",
            f"leave backing_format out, or give {base.format!r}",
            images=(base.path,),
            waivable=True,
        )
    for path in forest.lineage(base.path)[1:]:
        below = forest[path]
        if below.status in {"outside", "remote"}:
            yield Concern(
                "untrusted-backing",
                "warn",
                f"{base.name} itself stands on {below.path}, which was not read: {below.problem or below.status}",
                "read it too: name its folder, or use follow=True",
                images=(below.path,),
            )
        elif forest.status(path) in _UNUSABLE:
            yield from _unusable(below)
    if size is not None and base.virtual_size is not None and size < base.virtual_size:
        yield Concern(
            "smaller-size",
            "refuse",
            f"{size} bytes are less than the {base.virtual_size} of {base.name}: its end would be cut off",
            "leave size out, or give at least the size of the base",
            images=(base.path,),
            waivable=True,
        )
    writers = forest.writers(base.path)
    running = [use.guest for use in writers if use.running]
    stopped = [use.guest for use in writers if not use.running]
    if running:
        yield Concern(
            "in-use",
            "warn",
            f"{', '.join(running)} is running and writes to {base.name}: "
            "the overlay's guest cannot start meanwhile, and what it reads changes under it",
            f"shut {running[0]} down, or take an external snapshot of it first: then {base.name} becomes read-only",
            images=(base.path,),
            holders=tuple(running),
        )
    elif base.held == "write":
        yield Concern(
            "in-use",
            "warn",
            f"a process has {base.name} open for writing, so what the overlay reads changes under it",
            "end that process first",
            images=(base.path,),
        )
    if stopped:
        yield Concern(
            "shared-base",
            "warn",
            f"{base.name} is the disk of {', '.join(stopped)}: once that starts and writes, the overlay is spoilt",
            f"give {stopped[0]} an overlay of its own" + ("" if protect else ", or use protect=True"),
            images=(base.path,),
            holders=tuple(stopped),
        )


def _unusable(base: Image) -> Iterator[Concern]:
    if base.status == "unknown":
        yield Concern(
            "backing-format-missing",
            "refuse",
            f"nothing tells the format of {base.path}, and guessing it is unsafe",
            "say it, for example backing_format='raw'",
            images=(base.path,),
        )
    elif base.status in {"outside", "remote"}:
        yield Concern(
            "untrusted-backing",
            "refuse",
            f"{base.path} was not read: {base.problem or base.status}",
            "read it too: name its folder, or use follow=True",
            images=(base.path,),
        )
    else:
        yield Concern(
            "missing-base",
            "refuse",
            f"{base.path} is {base.status}: {base.problem}",
            "check the path and its permissions",
            images=(base.path,),
        )


def _concerns_of_paths(
    forest: Forest, paths: Sequence[str], backing: str, space: int, ground: Ground
) -> Iterator[Concern]:
    below = {name for path in forest.lineage(backing) or (backing,) for name in forest.same_file(path)} | {backing}
    for path in paths:
        if path in below:
            yield Concern(
                "loop",
                "refuse",
                f"{path} would stand on itself",
                "give the overlay a name of its own",
                images=(path,),
            )
        elif path in ground.taken or forest.images.get(path, Image(path, status="missing")).status != "missing":
            yield Concern(
                "file-exists",
                "refuse",
                f"{path} exists already, and nothing is ever overwritten",
                "give another name, or remove the file yourself",
                images=(path,),
            )
        elif path in forest and forest.children(path):
            yield Concern(
                "shared-base",
                "warn",
                f"other images refer to {path}, which is missing: a new file there becomes their backing file",
                "give another name",
                images=(path, *forest.children(path)),
            )
    yield from about_room(ground, {os.path.dirname(path): space for path in paths})


def _concerns_of_protecting(forest: Forest, base: Image) -> Iterator[Concern]:
    writers = tuple(use.guest for use in forest.writers(base.path))
    if writers:
        yield Concern(
            "read-only",
            "warn",
            f"{', '.join(writers)} has {base.name} as its disk and cannot write to it once it is protected",
            "leave protect out",
            images=(base.path,),
            holders=writers,
        )
