"""Do two forests say the same? Used for stale plans and for checking what a run has done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import NOT_READ, Image
from vmsnap_nb.model.size import human_size
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.words.message import N_, Message, joined, t
from vmsnap_nb.words.states import state_words

__all__ = ["differences", "is_another"]


def differences(
    expected: Forest, found: Forest, about: Iterable[str] | None = None, changed: Iterable[str] | None = None
) -> tuple[Message, ...]:
    """Return a sentence for each difference in what does not change while a guest merely runs.

    That is formats, edges, sizes, snapshots, uses and libvirt's records; allocated sizes and times change whenever a
    guest writes. `about` are the images that count, with what they are based on, and `changed` those on which an
    overlay that is only in `found` would not read what it should; all images of `expected` if left out. Images are the
    same that lie in the same place, whatever their names.
    """
    about = list(expected.images if about is None else about)
    changed = about if changed is None else list(changed)
    return tuple(_Comparison(expected, found).differences(about, changed))


_HEARSAY = {"outside", "remote"}
"""What an image is that was not read, only others say; and not all of them are asked each time."""

_OF_RECORDS = {
    "state": N_("the state"),
    "parent": N_("the parent"),
    "current": "",
    "memory": N_("the memory"),
    "memory_file": N_("the memory file"),
    "description": N_("the description"),
}
"""The fields of a record that are compared, and what they are called; a change of ``current`` has its own words."""


class _Comparison:
    def __init__(self, expected: Forest, found: Forest) -> None:
        self.expected = expected
        self.found = found

    def differences(self, about: Iterable[str], changed: Iterable[str]) -> Iterator[Message]:
        about = tuple(about)
        layers = (layer for path in about for layer in self.expected.known_lineage(path))
        for path in dict.fromkeys(layers):
            yield from self._image(path)
        for path in dict.fromkeys(changed):
            yield from self._overlays(path)
        places = {self._place(path) for path in about}
        yield from self._uses(places)
        yield from self._records(places)

    def _place(self, path: str) -> Identity | str:
        """Return where a name leads, or the name itself where that is not known; what will be new has no place yet."""
        return self.found.identity(path) or self.expected.identity(path) or path

    def _placed(self, path: str | None) -> Identity | str | None:
        return None if path is None else self._place(path)

    def _found(self, path: str) -> Image | None:
        """Return what an image is now, by another of its names if this one is not read any more."""
        names = (path, *self.expected.same_file(path))
        images = (image for name in names if (image := self.found.images.get(name)) is not None)
        first = next(images, None)
        if first is None and not path.startswith("/"):  # an address that is written in another form now
            first = next((one for one in self.found if one.identity and one.identity == self._place(path)), None)
        return next((image for image in images if first.status == "missing"), first) if first is not None else None

    def _image(self, path: str) -> Iterator[Message]:
        image, other = self.expected.images[path], self._found(path)
        if other is None and image.known_from == "definition":
            return  # no guest has it any more, and only libvirt could see it
        if other is None or (other.status == "missing" and image.status != "missing"):
            if image.status != "missing":
                yield t("{path} no longer exists", path=path)
        elif image.status == "missing":
            if other.status != "missing":
                yield t("{path} was missing, but now exists", path=path)
        else:
            for what, was, now in self._fields(image, other):
                yield _of_image(path, t(what), was, now)
            if image.identity is not None and image.identity != other.identity:
                yield t("{path} is now a different file", path=path)
            yield from _replaced_inside(image, other)

    def _fields(self, image: Image, other: Image) -> Iterator[tuple[str, object, object]]:
        if other.status in NOT_READ and "definition" in (image.known_from, other.known_from):
            return  # only the definition of a running guest tells more of it than its name
        below, base = (one.backing.key if one.backing is not None else None for one in (image, other))
        fields: tuple[tuple[str, object, object], ...] = (
            (N_("format"), image.format, image.format if image.status in _HEARSAY else other.format),
            (N_("backing format"), image.backing and image.backing.format, other.backing and other.backing.format),
            (N_("virtual size"), *_sizes(image.virtual_size, other.virtual_size)),
            (N_("status"), state_words(image.status), state_words(other.status)),
            (N_("snapshots"), [s.name for s in image.snapshots if other.is_seen], [s.name for s in other.snapshots]),
        )
        if not image.held and not other.held:  # QEMU writes those of an image that it has open when it closes it
            was, now = ({bitmap.name for bitmap in one.bitmaps} for one in (image, other))
            if was - now:  # one that QEMU had in memory may have come
                fields += ((N_("dirty bitmaps"), sorted(was), sorted(now)),)
        if self._placed(below) != self._placed(base):
            yield N_("backing file"), below, base
        yield from (field for field in fields if field[1] != field[2])

    def _overlays(self, path: str) -> Iterator[Message]:
        known = {self._place(child) for child in self.expected.known_children(path)}
        for name in (path, *self.expected.same_file(path)):
            for child in self.found.known_children(name):
                if self._place(child) not in known:
                    known.add(self._place(child))
                    yield t("{overlay} is now based on {base}", overlay=child, base=path)

    def _uses(self, about: set[Identity | str]) -> Iterator[Message]:
        had, has = (
            {(use.guest, use.target, place): use for use in forest.uses if (place := self._place(use.path)) in about}
            for forest in (self.expected, self.found)
        )
        for use in (use for key, use in had.items() if key not in has):
            yield t("{path} is no longer disk {disk} of {guest}", path=use.path, disk=use.target, guest=use.guest)
        for use in (use for key, use in has.items() if key not in had):
            yield t("{path} is now disk {disk} of {guest}", path=use.path, disk=use.target, guest=use.guest)

    def _records(self, about: set[Identity | str]) -> Iterator[Message]:
        """Compare the records that name such an image, and all of those guests that have one as their disk."""
        forests = self.expected, self.found
        guests = {use.guest for forest in forests for use in forest.uses if self._place(use.path) in about}
        had, has = (
            {(r.guest, r.name): r for r in forest.records if r.guest in guests or not about.isdisjoint(self._named(r))}
            for forest in forests
        )
        for (guest, name), record in had.items():
            other = has.get((guest, name))
            if other is None:
                yield t("libvirt no longer has a record of snapshot {name} of {guest}", guest=guest, name=name)
                continue
            yield from self._record(record, other)
        for guest, name in has:
            if (guest, name) not in had:
                yield t("{guest} now has a snapshot named {name}", guest=guest, name=name)

    def _record(self, record: SnapshotRecord, other: SnapshotRecord) -> Iterator[Message]:
        if is_another(record.created, other.created):
            yield t("snapshot {name} of {guest} was deleted and created again", name=record.name, guest=record.guest)
        for field, what in _OF_RECORDS.items():
            was, now = getattr(record, field), getattr(other, field)
            if was != now and field == "current":
                yield _made_current(record, now=now)
            elif was != now:
                yield _changed(record, t(what), _as_words(field, was), _as_words(field, now))
        had, has = ({disk.target: disk for disk in one.disks} for one in (record, other))
        for target in dict.fromkeys((*had, *has)):
            was, now = had.get(target), has.get(target)
            if (was and self._disk(was)) != (now and self._disk(now)):
                yield _changed(record, t("disk {disk}", disk=target), _place_of(was), _place_of(now))

    def _named(self, record: SnapshotRecord) -> set[Identity | str]:
        return {self._place(path) for disk in record.held_disks for path in (disk.source, disk.file) if path}

    def _disk(self, disk: SnapshotDisk) -> tuple[object, ...]:
        return disk.target, disk.held, self._placed(disk.source), self._placed(disk.file)


def is_another(was: datetime | None, now: datetime | None) -> bool:
    """Return whether these are the times of two snapshots; of one that is only planned, none is known.

    libvirt records whole seconds.
    """
    return was is not None and now is not None and was.replace(microsecond=0) != now.replace(microsecond=0)


def _replaced_inside(image: Image, other: Image) -> Iterator[Message]:
    """Yield the internal snapshots in whose place others of the same names are: these have another content."""
    if [inside.name for inside in image.snapshots] == [inside.name for inside in other.snapshots]:
        for was, now in zip(image.snapshots, other.snapshots, strict=True):
            if was.created and now.created and was.created != now.created:
                yield t("snapshot {name} in {image} was deleted and created again", name=was.name, image=image.path)


def _of_image(path: str, what: str, was: object, now: object) -> Message:
    if now in (None, "", [], ()):
        return t("{path} has no {what} (expected {was})", path=path, what=what, was=_words(was))
    return t("{path} has {what} {now} (expected {was})", path=path, what=what, now=_words(now), was=_words(was))


def _made_current(record: SnapshotRecord, *, now: bool) -> Message:
    fields = {"name": record.name, "guest": record.guest}
    if now:
        return t("snapshot {name} of {guest} is now the current snapshot", **fields)
    return t("snapshot {name} of {guest} is no longer the current snapshot", **fields)


def _changed(record: SnapshotRecord, what: str, was: str, now: str) -> Message:
    return t(
        "{what} of snapshot {name} of {guest} is {now}, not {was}",
        name=record.name,
        guest=record.guest,
        what=what,
        now=now,
        was=was,
    )


def _place_of(disk: SnapshotDisk | None) -> Message:
    """Return in words where a snapshot has the state of a disk."""
    if disk is None or disk.held == "no":
        return t("not included")
    if disk.file is None:
        return t("in {image}", image=disk.source)
    return t("in {image}, below the overlay {overlay}", image=disk.source, overlay=disk.file)


def _sizes(was: int | None, now: int | None) -> tuple[str | None, str | None]:
    """Return two sizes as text, in bytes where they would look the same; one that was not known has not changed."""
    if was is None or now is None:
        return (None, None) if was is None else (human_size(was), None)
    texts = human_size(was), human_size(now)
    return (f"{was} B", f"{now} B") if was != now and texts[0] == texts[1] else texts


_MEMORY = {"internal": N_("in the image"), "external": N_("in a separate file"), "no": N_("not included")}


def _as_words(field: str, value: object) -> str:
    """Return the value of a field of a record; texts of a user stay as they are."""
    if field == "state":
        return state_words(str(value))
    return t(_MEMORY[str(value)]) if field == "memory" else _words(value)


def _words(value: object) -> str:
    if value is None or value in ("", [], ()):
        return t("none")
    if isinstance(value, bool):
        return t("yes") if value else t("no")
    if isinstance(value, Message):
        return value
    return joined(map(str, value)) if isinstance(value, list | tuple) else str(value)
