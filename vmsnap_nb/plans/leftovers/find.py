"""Which files nothing needs: everything that is needed, with all that it is based on, is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ, Image
from vmsnap_nb.model.leftovers import Leftover, Leftovers
from vmsnap_nb.model.moment import moment
from vmsnap_nb.model.need import lost_volumes, may_need, parts_of
from vmsnap_nb.model.twins import twins
from vmsnap_nb.plans.journal import Entry, InsideEntry, MergeEntry, PullEntry, RevertEntry, SnapshotEntry
from vmsnap_nb.plans.merge.request import unfinished_needs
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.words.message import NOTHING, Message, counted, joined, t

__all__ = ["find_leftovers", "leftovers_needs", "unseen"]

_THERE = {"ok", "dirty", "corrupt", "invalid", "unsupported", "loop"}
"""What an image can be that is there, and whose backing file is known."""
_VOLUMES = {"volume", "volume data"}
"""Whence that is known of what this process has not opened itself."""


def leftovers_needs(forest: Forest) -> Needs:
    """Return what must be read to find them: what was begun, and what was never completed."""
    return replace(unfinished_needs(forest), leftovers=tuple(sorted(forest.folders)))


def find_leftovers(reading: Reading, uri: str = "") -> Leftovers:
    """Return the files that nothing needs, overlays before what they are based on.

    `uri` is the address of the libvirt that was asked for guests.
    """
    forest = reading.forest
    needed = _needed(reading)
    left = [path for path in forest.images if path not in needed and _may_go(forest, path)]
    files = [_image(forest, path, uri) for path in sorted(left, key=forest.depth, reverse=True)]
    files += _memory(forest)
    files += [
        Leftover(path, "incomplete file", evidence=t("the process that was writing it has ended"))
        for path in reading.leftovers
    ]
    return Leftovers(tuple(files), unseen(forest), reading.listed)


def unseen(forest: Forest) -> tuple[str, ...]:
    """Return the images, and folders, of which it is not known what they are based on."""
    lost = (use.path for use in forest.uses if use.volume)
    images = (
        path
        for path, image in forest.images.items()
        if path.startswith("/")
        and (
            image.status in NOT_READ
            or image.status == "not-a-file"
            or not (image.is_seen or image.known_from in _VOLUMES)
        )
        and image.status != "missing"
    )
    return tuple(dict.fromkeys((*images, *lost)))


def _needed(reading: Reading) -> set[str]:
    """Return the images that anything needs, with all that they are based on."""
    forest = reading.forest
    begun = names_of(forest, (path for entry in reading.entries for path in _named(entry)))
    found: set[str] = set()
    kept = {*unseen(forest), *_perhaps_needed(forest)}
    kept.update(twin for path in forest.images if forest.known_needs(path) for twin in twins(forest, path))
    for path, image in forest.images.items():
        if forest.known_needs(path) or image.held or path in begun or image.device or path in kept:
            for layer in forest.known_lineage(path) if image.status != "invalid" else (path,):
                found.update(forest.same_file(layer))
    return found


def _perhaps_needed(forest: Forest) -> Iterator[str]:
    """Yield the images that another one, or a snapshot, may name in a way that leads to no file that is known.

    Or that are named in a file that is taken for raw, and may be an overlay.
    """
    uncertain = [
        image
        for image in forest.images.values()
        if any(reference is not None and not reference.is_certain for reference in (image.backing, *parts_of(image)))
    ]
    volumes = {volume.rpartition("/")[2] for _, volume in lost_volumes(forest.records)}
    hidden = {image.hidden_base for image in forest.images.values()} - {None}
    for path in forest.images if uncertain or volumes or hidden else ():
        names = forest.same_file(path)
        if (
            forest[path].identity in hidden
            or any(name.rpartition("/")[2] in volumes for name in names)
            or any(may_need(uncertain, names))
        ):
            yield path


def _named(entry: Entry) -> Iterator[str]:
    """Yield the files of something that was begun."""
    if isinstance(entry, MergeEntry):
        yield from (entry.base, *entry.merged, *entry.children)
    elif isinstance(entry, PullEntry):
        # Its header may not name its old backing file any more, with which alone it can be finished.
        yield from (entry.image, entry.before.key, *((entry.base,) if entry.base else ()))
    elif isinstance(entry, SnapshotEntry):
        yield from (path for disk in entry.disks for path in (disk.source, disk.file))
        yield from entry.made
    elif isinstance(entry, InsideEntry):
        yield entry.image
    elif isinstance(entry, RevertEntry):
        yield from entry.discards


def _may_go(forest: Forest, path: str) -> bool:
    """Return whether it is an image that is there; of what is only a volume, none whose name begins with a dot.

    That is how files are called that vmsnap_nb has not completed, and those in which it keeps what was begun.
    """
    image = forest[path]
    volume = image.known_from in _VOLUMES and not path.rpartition("/")[2].startswith(".")
    return path.startswith("/") and (volume or image.known_from == "file") and forest.status(path) in _THERE


def _image(forest: Forest, path: str, uri: str) -> Leftover:
    image = forest[path]
    overlays = [child for child in forest.children(path) if forest.status(child) != "invalid"]
    said = [t("no disk, snapshot or saved memory of a guest on {host} refers to it", host=uri)] if uri else []
    if overlays:
        said.append(
            counted(
                "its only overlay is not needed either ({images})",
                "its {count} overlays are not needed either ({images})",
                len(overlays),
                images=joined(forest[child].name for child in overlays),
            )
        )
    else:
        said.append(t("none of the images that were read is based on it"))
    written = moment(image.mtime_ns)
    if written is not None:
        said.append(t("last written on {date}", date=f"{written:%Y-%m-%d}"))
    return Leftover(
        path,
        "merged image" if image.status == "invalid" else "image",
        allocated=image.allocated,
        last_written=written,
        evidence=_both(said),
        doubt=_doubt(image, uri),
    )


def _both(sentences: list[Message]) -> Message:
    made = sentences[0]
    for sentence in sentences[1:]:
        made = t("{first}; {next}", first=made, next=sentence)
    return made


def _doubt(image: Image, uri: str) -> str:
    found = []
    if not uri:
        found.append(t("no libvirt connection was available to check which guests use it as a disk"))
    if image.known_from in _VOLUMES:
        found.append(
            t(
                "only libvirt was checked, so it is unknown whether a process has the file open, or "
                "whether an operation on it was interrupted"
            )
        )
        if image.format == "raw":
            found.append(t("libvirt lists every file in a folder as a volume, including files that are not images"))
        elif not image.is_seen:
            found.append(t("its header was not read, so it may hold internal snapshots"))
    if not image.writable and image.backing is None:
        found.append(t("it is write-protected, so it may be a template"))
    if image.snapshots:
        names = joined(snapshot.name for snapshot in image.snapshots)
        found.append(t("it holds internal snapshots: {names}", names=names))
    return _both(found) if found else NOTHING


def _memory(forest: Forest) -> Iterator[Leftover]:
    """Yield the files of saved memory with which no guest goes on."""
    for path in dict.fromkeys(need.name for need in forest.stale_memory):
        need = next(need for need in forest.stale_memory if need.name == path)
        evidence = t(
            "saved memory of {guest}; the image it belongs to, {path}, has changed or no longer exists",
            guest=need.guest,
            path=need.path,
        )
        yield Leftover(path, "memory", evidence=evidence)
    recorded = {record.memory_file for record in forest.records}
    for need in {need.name: need for need in forest.needs if need.kind == "saved memory"}.values():
        if need.name not in recorded and need.name.endswith(".mem"):  # as checkpoints are called
            yield Leftover(
                need.name,
                "memory",
                evidence=t("saved memory of {guest}; no snapshot record names it", guest=need.guest),
                doubt=t(
                    "virsh restore can still load it using {path}, which is therefore still needed", path=need.path
                ),
            )
