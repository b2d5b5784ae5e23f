"""All images of some folders, and all that they are based on, read into one forest."""

from __future__ import annotations

import gc
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial

from vmsnap_nb.model.base_mismatch import DIRTY, smaller_ones
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import NOT_READ, Image
from vmsnap_nb.model.kernel_paths import is_kernel_path
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.base_record import on_copies
from vmsnap_nb.system.claimed_format import USER, mismatch, taken_for_raw
from vmsnap_nb.system.data_file import NO_DATA, look_at_data
from vmsnap_nb.system.device_image import Devices
from vmsnap_nb.system.entries import Listing, is_incomplete, listing_of, stamp_of
from vmsnap_nb.system.files.allowed import Places
from vmsnap_nb.system.files.devices import identity_of
from vmsnap_nb.system.files.identity import place_of
from vmsnap_nb.system.files.paths import real_path, tidy
from vmsnap_nb.system.image_file import Stamp, as_raw, not_a_file, read_image, stamp, was_read, with_lock
from vmsnap_nb.system.other_formats import read_other
from vmsnap_nb.system.pace import Pace
from vmsnap_nb.system.parent_references import Straight
from vmsnap_nb.system.qcow2.directories import Room
from vmsnap_nb.system.saved_memory import is_saved_memory
from vmsnap_nb.system.unread_image import nowhere, outside, remote, too_much, unreachable, unread_folder, volume
from vmsnap_nb.words.language import one_language
from vmsnap_nb.words.message import NOTHING, Message, clauses, t

__all__ = ["Survey"]

DEEPEST = 16
"""Folders below a given one that are entered."""
MOST_ENTRIES = 200_000
"""Names in folders that are looked at in one reading."""

_FRESH = 20_000_000
"""Nanoseconds: the clocks of file systems go in steps of up to 10 ms, so what has just changed is read again."""
_OWN_READER = frozenset({"qcow2", "raw", None})
_TOLD = frozenset({"unreadable", "remote"})
"""Images of which only others know the format: guests, and what is based on them."""
_NO_MAGIC = frozenset({"vpc"})
"""Formats that have kinds without a mark at the beginning."""


class Survey:
    """Reads images, and what they are based on; reads only what has changed when asked again.

    Folders are read with the folders in them, up to `DEEPEST` levels and `MOST_ENTRIES` names; symbolic links to
    folders are not entered. A file is an image if it begins like one, or if another image or a guest refers to it. What
    is reached only by reference is opened if it lies in one of the folders, and otherwise is in the forest with the
    status ``outside``. Network addresses have the status ``remote``. Nothing is ever written or locked.

    `images` are paths that somebody vouches for, a guest or the user, with the format that they give, or None. They are
    opened wherever they are; given ``raw``, a file is raw whatever it contains. With `follow` local files outside of
    the folders that images refer to are opened as well.

    A block device is opened only if somebody vouches for it, as one of `images` or of `devices`, or if it is in one of
    the folders or beside a device that is vouched for. Of any other only its number and size are found out.
    """

    def __init__(
        self, folders: Iterable[str] = (), *, images: Mapping[str, str | None] | None = None, follow: bool = False
    ) -> None:
        self.folders = tuple(folders)
        self.images = dict(images or {})  # may be changed between two readings
        self.devices: set[str] = set()  # may be changed, too
        self.follow = follow
        self.saved: dict[str, int] = {}  # files of saved memory in the folders, and when each was completed (ns)
        self._cache: dict[str, tuple[Stamp, Image]] = {}

    def read(self, uses: Iterable[Use] = (), *, around: Iterable[str] = ()) -> Forest:
        """Read, or read again; the images of `uses`, the disks of guests, are opened like those of `images`.

        Every folder that holds a layer of the chains of the images `around` is read as well. What cannot be read is in
        the forest, with a status and a problem that say why.
        """
        uses, around = tuple(uses), tuple(around)
        named = {use.path: None for use in uses} | self.images
        reader = _Reading(self.folders, named, self.follow, self._cache, around=around, devices=frozenset(self.devices))
        images, self._cache = reader.images(), reader.cache
        self.saved = {path: i.mtime_ns or 0 for path, i in reader.others.items() if is_saved_memory(i)}
        folders = (*self.folders, *reader.added)
        return Forest(images, uses, folders, datetime.now(UTC), places=reader.data_places)


class _Reading:
    """One reading. Files are opened in the order: folders, named images, what those refer to."""

    def __init__(
        self,
        folders: tuple[str, ...],
        named: Mapping[str, str | None],
        follow: bool,
        before: dict[str, tuple[Stamp, Image]],
        around: tuple[str, ...] = (),
        devices: frozenset[str] = frozenset(),
    ) -> None:
        self.folders, self.around = folders, around
        self.added: list[str] = []
        self.named = dict(named)
        self.before = before
        self.follow = follow
        self.places = Places(folders, anywhere=follow)
        self.devices = Devices(folders, devices)
        self.oldest = time.time_ns() - _FRESH
        self.cache: dict[str, tuple[Stamp, Image]] = {}
        self.found: dict[str, Image] = {}
        self.others: dict[str, Image] = {}
        self.parts: set[str] = set()
        self.listed: set[str] = set()
        self.disputed: dict[str, dict[str | None, str]] = {}
        self.pending: list[Image] = []
        self.with_data_file: list[str] = []
        self.data_places: dict[str, Identity] = {}
        self.notes: list[tuple[str, Message]] = []
        self.based: list[tuple[str, str]] = []
        self.cut, self.entries, self.room = False, 0, Room()
        self.straight = Straight()
        self.reached: dict[str, str] = {}
        self.seen: set[Identity] = set()

    def images(self) -> dict[str, Image]:
        # All that is made here is kept: the collector would only look at it again and again.
        collecting = gc.isenabled()
        gc.disable()
        try:
            with one_language():
                self._read()
        finally:
            if collecting:
                gc.enable()
        return self.found

    def _read(self) -> None:
        for folder in self.folders:
            self._folder(folder)
        for path in self.named:
            self._named(path)
        self._folders_of_chains()
        self._complete(self.pending)
        starts = list(self.found)
        self._follow()
        for path, claims in self.disputed.items():
            self._settle(path, claims)
        self._data_files()
        self.found.update(on_copies(self.found, self.based))
        if self.cut or not self.parts.isdisjoint(self.found):
            self._prune(starts)
        for path, problem in (*self.notes, *smaller_ones(self.found, self.based)):
            if path in self.found and self.found[path].format != "raw":
                self._note(path, problem)

    # -- files --------------------------------------------------------------------------------------------

    def _folder(self, top: str, *, deep: bool = True) -> None:
        top = top.rstrip("/") or "/"
        if top in self.listed:
            return
        self.listed.add(top)
        pace, row, depth = Pace(), [top], 0
        while row:
            below: list[str] = []
            while row:
                some, row = row[: pace.folders], row[pace.folders :]
                listings = zip(some, pace.each(partial(listing_of, most=MOST_ENTRIES), some), strict=True)
                files = [entry for folder, found in listings for entry in self._entries(folder, found, depth)]
                below += self._files(files, pace)
            if deep:
                row = [name for name in dict.fromkeys(below) if name not in self.listed]
                self.listed.update(row)
            depth += 1

    def _entries(self, folder: str, listing: Listing, depth: int) -> list[os.DirEntry[str]]:
        """Return the entries of a folder; if it cannot be read, or there are too many, the forest says so."""
        if isinstance(listing, NotADirectoryError):
            self.named.setdefault(folder, None)
            return []
        if isinstance(listing, OSError):
            self.found[folder] = unread_folder(folder, listing)
            return []
        self.entries += len(listing)
        if self.entries > MOST_ENTRIES or depth > DEEPEST:
            self.found[folder] = Image(folder, status="not-a-file", problem=too_much(depth, DEEPEST, MOST_ENTRIES))
            return []
        return listing

    def _folders_of_chains(self) -> None:
        """Read each folder that holds a layer of the chains that are asked for: others may be based on it there."""
        listed = {place for folder in self.listed if (place := place_of(folder)) is not None} if self.around else set()
        seen: set[str | Identity] = set()
        for top in self.around:
            path: str | None = top
            above: Image | None = None
            while path is not None and path.startswith("/") and path not in seen:
                seen.add(path)
                folder = os.path.dirname(path)
                place = None if folder in self.listed or is_kernel_path(folder) else place_of(folder)
                if place is not None and place not in listed and os.path.isdir(folder):
                    listed.add(place)  # under another name it is the same folder
                    self.added.append(folder := tidy(folder))
                    self._folder(folder, deep=folder != "/")  # a header could have all of this machine read
                image = self.found.get(path) or self.others.get(path) or self._open(path, folder, above=above)
                if image.identity is not None:
                    if image.identity in seen:
                        break
                    seen.add(image.identity)
                above, reference = image, image.backing
                path = None if reference is None else self.straight.of(image.path, reference).path

    def _files(self, entries: list[os.DirEntry[str]], pace: Pace) -> Iterator[str]:
        """Read the files of folders, and give the folders in these."""
        cache, found, others = self.cache, self.found, self.others
        kept = [entry for entry in entries if not is_incomplete(entry)]
        files = iter(pace.each(self._file, [entry for entry in kept if entry.is_file(follow_symlinks=False)]))
        for entry in kept:
            path = entry.path
            if entry.is_file(follow_symlinks=False):
                image, known = next(files)
                if known is not None:
                    cache[path] = known
                format = image.format
                if format == "qcow2":
                    found[path] = image
                elif format is None and image.status == "unknown":
                    others[path] = image
                else:
                    found[path] = image
                    self.pending.append(image)
            elif entry.is_dir(follow_symlinks=False):
                yield path
            elif entry.is_symlink():
                self._link(path, path.rpartition("/")[0])

    def _file(self, entry: os.DirEntry[str]) -> tuple[Image, tuple[Stamp, Image] | None]:
        """Read a file, unless it is as it was when it was last read; return also what is to be remembered of it."""
        path = entry.path
        known = self.before.get(path)
        if known is not None and known[0] == stamp_of(entry):
            image = with_lock(known[1])
            return image, known if image is known[1] else (known[0], image)
        image, mark = read_image(path, path.rpartition("/")[0], room=self.room)
        return image, (mark, image) if mark is not None and mark[4] < self.oldest else None

    def _link(self, path: str, folder: str) -> None:
        target = self.places.target(path)
        if target is not None and os.path.isdir(target):
            return  # what is in it is found where it is
        image = self._open(path, folder)
        if image.status in {"missing", "not-a-file"} or (image.format is None and image.status == "unknown"):
            self.others[path] = image
        else:
            self.found[path] = image
            self.pending.append(image)

    def _named(self, path: str) -> None:
        if path in self.found:
            image = self.found[path]
            if image.status == "outside":
                image = self._open(path, os.path.dirname(path), trusted=True)
        elif path in self.others:
            image = self.others[path]
        elif path.startswith("/"):
            image = self._open(path, os.path.dirname(path), trusted=True)
        else:
            image = remote(path) if ":" in path else volume(path)
        told = self.named[path]
        if told is not None and image.status in _TOLD and image.format is None:
            image = replace(image, format=told)
        elif told == "raw" and was_read(image):
            image = as_raw(image)
        elif told is not None and told != image.format:
            self.disputed[path] = {told: USER}
        self.found[path] = image
        self.pending.append(image)

    def _open(self, path: str, folder: str, *, trusted: bool = False, above: Image | None = None) -> Image:
        """Read a file that may be a link, or anything else, if that is permitted; `above` is what refers to it."""
        try:
            target = real_path(path) if trusted else self.places.target(path)
            if target is None:
                return self.devices.read(path, above) or self._outside(path)
            status = os.stat(target)
        except (OSError, ValueError) as error:
            return unreachable(path, error)
        if stat.S_ISBLK(status.st_mode) and (device := self.devices.read(path, above, trusted=trusted)) is not None:
            return device
        if not stat.S_ISREG(status.st_mode):
            return not_a_file(path, status)
        known = self.before.get(path)
        if known is not None and known[0] == stamp(status):
            image = with_lock(known[1], target)
            self.cache[path] = (known[0], image)
            return image
        image, mark = read_image(path, folder, target, room=self.room)
        if mark is not None and mark[4] < self.oldest:
            self.cache[path] = (mark, image)
        return image

    def _outside(self, path: str) -> Image:
        if self.follow:
            problem = t("it is a device or a kernel file, so it was not opened")
            return Image(path, status="not-a-file", problem=problem)
        identity = self._identity_outside(path)
        here = None if identity is None else self._by_identity.get(identity)
        if here is not None:  # by a symbolic link, a bind mount or a hard link it is an image that was read
            return replace(self.found[here], path=path)
        return outside(path, identity)

    @cached_property
    def _by_identity(self) -> dict[Identity, str]:
        """The images that were read in the folders, by device and inode: references are followed after that."""
        return {image.identity: path for path, image in self.found.items() if image.identity is not None}

    def _identity_outside(self, path: str) -> Identity | None:
        """Return which file a name outside of the folders leads to: it is resolved, and not opened."""
        try:
            if is_kernel_path(real_path(path)):
                return None
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        return identity_of(status) if stat.S_ISREG(status.st_mode) else None

    def _complete(self, images: list[Image]) -> None:
        """Let qemu-img read what only it can."""
        pending = [
            image
            for image in images
            if image.format not in _OWN_READER
            and image.status == "ok"
            and image.virtual_size is None
            and self.found.get(image.path) is image
        ]
        if not pending:
            return
        for result in read_other(pending):
            path = result.image.path
            self.found[path] = result.image
            for part in {part.path for part in result.image.extents} - {path}:
                self._part(part, known=result.image.status == "ok")
            if (known := self.cache.pop(path, None)) is not None and result.lasting:
                self.cache[path] = (known[0], result.image)

    # -- references ---------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Add what images are based on, and see for which files a reference has another format than their content."""
        found = self.found
        queue = list(found.values())
        for image in queue:
            reference = image.backing
            if image.data_file is not None:
                self.with_data_file.append(image.path)
            if image.dirty and image.held != "write":
                self.notes.append((image.path, t(DIRTY)))
            if reference is None:
                continue
            straight = self.straight.of(image.path, reference)
            if straight is not reference:
                reference, image = straight, replace(image, backing=straight)
                found[image.path] = image
            path = reference.path or reference.key
            base = found.get(path)
            if base is None:
                base = self._reach(path, reference, image)
                self.reached[path] = image.path
                if (above := self._above(base)) is not None:
                    del found[path]
                    found[image.path] = replace(image, backing=replace(reference, path=above))
                    continue
                queue.append(base)
            self.based.append((image.path, path))
            if base.format != reference.format or base.format is None:
                self.disputed.setdefault(path, {}).setdefault(reference.format, image.path)

    def _reach(self, path: str, reference: Reference, above: Image) -> Image:
        if reference.path is None:
            base = remote(path) if reference.kind == "remote" else nowhere(path)
        elif path in self.others:
            base = self.others[path]
        else:
            base = self._open(path, os.path.dirname(path), above=above)
        self.found[path] = base
        self._complete([base])
        return self.found[path]

    def _above(self, base: Image) -> str | None:
        """Return the earlier name of an image that is based on itself by a link: each turn would give it another."""
        identity = base.identity
        if identity is None:
            return None
        if identity in self.seen or identity in self._by_identity:
            above = self.reached.get(base.path)
            while above is not None:
                if self.found[above].identity == identity:
                    return above
                above = self.reached.get(above)
        self.seen.add(identity)
        return None

    @cached_property
    def _agreed(self) -> frozenset[tuple[str | None, str | None]]:
        """Which images are taken by others for which formats."""
        return frozenset((i.backing.path, i.backing.format) for i in self.found.values() if i.backing is not None)

    def _settle(self, path: str, claims: dict[str | None, str]) -> None:
        """Decide what a file is that others take for something else than it begins like."""
        image = self.found[path]
        if image.device and image.status == "outside" and set(claims) == {"raw"}:
            # Nothing of a raw device has to be read to know what it is, and the kernel tells its size.
            raw = as_raw(image)
            self.found[path] = raw if self.follow else replace(raw, status="outside", problem=image.problem)
            return
        told = {claim for claim in claims if claim is not None}
        if image.status in _TOLD and image.format is None and len(told) == 1:
            self.found[path] = replace(image, format=told.pop())
            return
        if not was_read(image) or self.named.get(path) == "raw":
            return
        if image.format is None:
            self._settle_unmarked(path, image, claims)
        elif "raw" in claims and self.named.get(path) != image.format and (path, image.format) not in self._agreed:
            self.cut = True  # what it seemed to be based on may be there for nobody else
            base = None if image.backing is None else self.found.get(image.backing.key)
            raw = replace(as_raw(image), problem=taken_for_raw(claims["raw"], image.format))
            self.found[path] = raw if base is None else replace(raw, hidden_base=base.identity)
        else:
            for claim, who in claims.items():
                if claim is not None:
                    self._note(path, mismatch(who, claim, image.format))

    def _settle_unmarked(self, path: str, image: Image, claims: dict[str | None, str]) -> None:
        if "raw" in claims or None in claims:  # without a format QEMU guesses, and takes it for raw too
            self.found[path] = as_raw(image)
            return
        claim, who = next(iter(claims.items()))
        if claim in _NO_MAGIC:
            self.found[path] = replace(image, format=claim, status="ok", problem=NOTHING)
            self._complete([self.found[path]])
        else:
            self.found[path] = replace(image, status="corrupt", problem=mismatch(who, claim))

    def _note(self, path: str, problem: Message) -> None:
        image = self.found[path]
        problem = clauses((image.problem, problem)) if image.problem else problem
        self.found[path] = Image.build({**vars(image), "problem": problem})

    def _data_files(self) -> None:
        """A data file belongs to the image that names it; it is no image of its own."""
        for path in self.with_data_file:
            data = self.found[path].data_file
            if data is None:  # it turned out to be raw
                continue
            data = self.straight.of(path, data)
            status, problem = look_at_data(data, path, (*self.folders, *self.added))
            image = replace(self.found[path], data_file=data, data_status=status)
            self.found[path] = replace(image, status="unreadable") if status in NO_DATA else image
            if problem:
                self._note(path, problem)
            place = data.path or (f"{os.path.dirname(path)}/{data.written}" if data.kind == "relative" else None)
            self._part(place, known=data.path is not None and (self.follow or status == "ok"))

    def _part(self, path: str | None, *, known: bool) -> None:
        """Remember a file with the data of an image; if it is `known`, others may refer to it under another name."""
        if path is not None:
            self.parts.add(path)
            self.data_places.update({path: at} if known and (at := place_of(path)) is not None else {})

    def _prune(self, starts: list[str]) -> None:
        """Keep what was found in folders or named, and what that is based on, now that all is settled."""
        # What may be based on another image stays: a header could hide somebody's overlay else.
        parts = {p for p in self.parts if (i := self.found.get(p)) and i.backing is None and i.status not in NOT_READ}
        keep: dict[str, None] = dict.fromkeys(path for path in starts if path not in parts or path in self.named)
        queue = list(keep)
        for path in queue:
            backing = self.found[path].backing
            if backing is not None and backing.key not in keep:
                keep[backing.key] = None
                queue.append(backing.key)
        self.found = {path: self.found[path] for path in keep}
