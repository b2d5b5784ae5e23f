"""All images of some folders, and all that they stand on, read into one forest."""

from __future__ import annotations

import gc
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system import foreign
from vmsnap_nb.system.image_file import Stamp, not_a_file, raw_size, read_image, stamp, with_lock
from vmsnap_nb.system.places import Places

__all__ = ["Survey"]

DEEPEST = 16
"""Folders below a given one that are entered."""
MOST_ENTRIES = 200_000
"""Names in folders that are looked at in one reading."""

_FRESH = 20_000_000
"""Nanoseconds. The clock of file systems goes in steps of up to 10 ms: a file changed twice within a step looks the
same, so what changed just before it was read is read again the next time."""
_NOT_ENTERED = ("/proc", "/sys", "/dev")
_OWN_READER = frozenset({"qcow2", "raw", None})
_NO_MAGIC = frozenset({"vpc"})
"""Formats that have kinds without a mark at the beginning."""


class Survey:
    """Reads images, and what they stand on; reads only what has changed when asked again.

    Folders are read with the folders in them, up to `DEEPEST` levels and `MOST_ENTRIES` names; symbolic links to
    folders are not entered. A file is an image if it begins like one, or if another image or a guest refers to it.
    What is reached only by reference is opened if it lies in one of the folders, and otherwise is in the forest with
    the status ``outside``. Network addresses have the status ``remote``. Nothing is ever written or locked.

    Parameters
    ----------
    folders : iterable of str
        Absolute paths.
    images : mapping of str to (str or None)
        Paths that somebody vouches for, a guest or the user, with the format that they give, or None. They are opened
        wherever they are; given ``raw``, a file is raw whatever it contains.
    follow : bool
        Whether to open local files outside of the folders that images refer to.

    Attributes
    ----------
    folders : tuple of str
        As given.
    images : dict
        As given; may be changed between two readings.
    follow : bool
        As given.
    """

    def __init__(
        self, folders: Iterable[str] = (), *, images: Mapping[str, str | None] | None = None, follow: bool = False
    ) -> None:
        self.folders = tuple(folders)
        self.images = dict(images or {})
        self.follow = follow
        self._cache: dict[str, tuple[Stamp, Image]] = {}

    def read(self, uses: Iterable[Use] = ()) -> Forest:
        """Read, or read again.

        Parameters
        ----------
        uses : iterable of Use
            The disks of guests; their images are opened like those of `images`.

        Returns
        -------
        Forest
            What cannot be read is in it, with a status and a problem that say why.
        """
        uses = tuple(uses)
        named = {use.path: None for use in uses} | self.images
        reading = _Reading(self.folders, named, self.follow, self._cache)
        images = reading.images()
        self._cache = reading.cache
        return Forest(images, uses, self.folders, datetime.now(UTC))


class _Reading:
    """One reading. Files are opened in the order: folders, named images, what those refer to."""

    def __init__(
        self,
        folders: tuple[str, ...],
        named: Mapping[str, str | None],
        follow: bool,
        before: dict[str, tuple[Stamp, Image]],
    ) -> None:
        self.folders = folders
        self.named = dict(named)
        self.before = before
        self.follow = follow
        self.places = Places(folders, anywhere=follow)
        self.oldest = time.time_ns() - _FRESH
        self.cache: dict[str, tuple[Stamp, Image]] = {}
        self.found: dict[str, Image] = {}
        self.others: dict[str, Image] = {}
        self.parts: set[str] = set()
        self.listed: set[str] = set()
        self.disputed: dict[str, dict[str | None, str]] = {}
        self.pending: list[Image] = []
        self.with_data_file: list[str] = []
        self.dirty: list[str] = []
        self.cut = False
        self.straight: dict[tuple[str, str], str | None] = {}
        self.entries = 0

    def images(self) -> dict[str, Image]:
        # All that is made here is kept: the collector would only look at it again and again.
        collecting = gc.isenabled()
        gc.disable()
        try:
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
        self._complete(self.pending)
        starts = list(self.found)
        self._follow()
        for path, claims in self.disputed.items():
            self._settle(path, claims)
        self._data_files()
        if self.cut or not self.parts.isdisjoint(self.found):
            self._prune(starts)
        self._note_dirty()

    # -- files --------------------------------------------------------------------------------------------

    def _folder(self, top: str) -> None:
        top = top.rstrip("/") or "/"
        if top in self.listed:
            return
        waiting = [(top, 0)]
        self.listed.add(top)
        for folder, depth in waiting:
            if folder in _NOT_ENTERED:
                continue
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=attrgetter("name"))
            except NotADirectoryError:
                self.named.setdefault(folder, None)
                continue
            except OSError as error:
                self.found[folder] = _unread(folder, error)
                continue
            self.entries += len(entries)
            if self.entries > MOST_ENTRIES or depth > DEEPEST:
                much = f"more than {MOST_ENTRIES} names" if depth <= DEEPEST else f"more than {DEEPEST} folders deep"
                problem = f"this folder was not read: {much}; read it by itself"
                self.found[folder] = Image(folder, status="not-a-file", problem=problem)
                continue
            for name in self._files(entries, folder):
                if name not in self.listed:
                    self.listed.add(name)
                    waiting.append((name, depth + 1))

    def _files(self, entries: list[os.DirEntry[str]], folder: str) -> Iterator[str]:
        """Read the files of a folder, and give the folders in it."""
        before, cache, found, others, oldest = self.before, self.cache, self.found, self.others, self.oldest
        for entry in entries:
            path = entry.path
            if entry.is_file(follow_symlinks=False):
                known = before.get(path)
                if known is not None and known[0] == _stamp_of(entry):
                    image = with_lock(known[1])
                    cache[path] = known if image is known[1] else (known[0], image)
                else:
                    image, mark = read_image(path, folder)
                    if mark is not None and mark[4] < oldest:
                        cache[path] = (mark, image)
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
                self._link(path, folder)

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
            image = _remote(path)
        told = self.named[path]
        if told is not None and image.status == "unreadable" and image.format is None:
            image = replace(image, format=told)
        elif told == "raw" and _is_read(image):
            image = _as_raw(image)
        elif told is not None and told != image.format:
            self.disputed[path] = {told: "who uses it"}
        self.found[path] = image
        self.pending.append(image)

    def _open(self, path: str, folder: str, *, trusted: bool = False) -> Image:
        """Read a file that may be a link, or anything else, if that is permitted."""
        try:
            target = os.path.realpath(path) if trusted else self.places.target(path)
            if target is None:
                return self._outside(path)
            status = os.stat(target)
        except (OSError, ValueError) as error:
            return _unreachable(path, error)
        if not stat.S_ISREG(status.st_mode):
            return not_a_file(path, status)
        known = self.before.get(path)
        if known is not None and known[0] == stamp(status):
            image = with_lock(known[1], target)
            self.cache[path] = (known[0], image)
            return image
        image, mark = read_image(path, folder, target)
        if mark is not None and mark[4] < self.oldest:
            self.cache[path] = (mark, image)
        return image

    def _outside(self, path: str) -> Image:
        if self.follow:
            return Image(path, status="not-a-file", problem="it is a device or a file of the kernel; it was not opened")
        return Image(
            path,
            status="outside",
            problem="it is outside of the folders that were read, so it was not opened; "
            "name its folder too, or read with follow=True",
        )

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
        for result in foreign.read_foreign(pending):
            path = result.image.path
            self.found[path] = result.image
            self.parts.update(result.parts)
            if not result.lasting:
                self.cache.pop(path, None)
            elif path in self.cache:
                self.cache[path] = (self.cache[path][0], result.image)

    # -- references ---------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Add what images stand on, and see for which files a reference has another format than their content."""
        found = self.found
        queue = list(found.values())
        for image in queue:
            reference = image.backing
            if image.data_file is not None:
                self.with_data_file.append(image.path)
            if image.dirty:
                self.dirty.append(image.path)
            if reference is None:
                continue
            if ".." in reference.written:
                reference = self._straight(image, reference)
            path = reference.path or reference.written
            base = found.get(path)
            if base is None:
                base = self._reach(path, reference)
                queue.append(base)
            if base.format != reference.format or base.format is None:
                self.disputed.setdefault(path, {}).setdefault(reference.format, image.path)

    def _reach(self, path: str, reference: Reference) -> Image:
        if reference.path is None:
            base = _remote(path) if reference.kind == "remote" else _nowhere(path)
        elif path in self.others:
            base = self.others[path]
        else:
            base = self._open(path, os.path.dirname(path))
        self.found[path] = base
        self._complete([base])
        return self.found[path]

    def _straight(self, image: Image, reference: Reference) -> Reference:
        """Where a symbolic link comes before ``..``, the system goes elsewhere than the letters say."""
        if reference.path is None or reference.kind == "json:" or not self.places.near(reference.path):
            return reference
        folder, _, last = reference.written.removeprefix("file:").rpartition("/")
        where = (image.path.rpartition("/")[0], folder)
        if where not in self.straight:
            real = os.path.realpath(folder if folder.startswith("/") else "/".join(where))
            same = real == os.path.realpath(os.path.dirname(reference.path))
            self.straight[where] = None if same else real.rstrip("/")
        real_folder = self.straight[where]
        if real_folder is None or last in {"", ".", ".."}:
            return reference
        reference = replace(reference, path=f"{real_folder}/{last}")
        self.found[image.path] = replace(image, backing=reference)
        return reference

    @cached_property
    def _agreed(self) -> frozenset[tuple[str | None, str | None]]:
        """Which images are taken by others for which formats."""
        return frozenset((i.backing.path, i.backing.format) for i in self.found.values() if i.backing is not None)

    def _settle(self, path: str, claims: dict[str | None, str]) -> None:
        """Decide what a file is that others take for something else than it begins like."""
        image = self.found[path]
        if not _is_read(image) or self.named.get(path) == "raw":
            return
        if image.format is None:
            self._settle_unmarked(path, image, claims)
        elif "raw" in claims and (path, image.format) not in self._agreed:
            self.cut = True  # what it seemed to stand on may be there for nobody else
            self.found[path] = replace(
                _as_raw(image),
                problem=f"{claims['raw']} takes it for raw, though it begins like {image.format}: if that is a "
                f"mistake, its overlays see the file instead of the disk in it",
            )
        else:
            for claim, who in claims.items():
                if claim is not None:
                    self._note(path, f"{who} takes it for {claim}, and it begins like {image.format}")

    def _settle_unmarked(self, path: str, image: Image, claims: dict[str | None, str]) -> None:
        if "raw" in claims or None in claims:  # without a format QEMU guesses, and takes it for raw too
            self.found[path] = _as_raw(image)
            return
        claim, who = next(iter(claims.items()))
        if claim in _NO_MAGIC:
            self.found[path] = replace(image, format=claim, status="ok", problem="")
            self._complete([self.found[path]])
        else:
            problem = f"{who} takes it for {claim}, and it does not begin like that"
            self.found[path] = replace(image, status="corrupt", problem=problem)

    def _note(self, path: str, problem: str) -> None:
        image = self.found[path]
        self.found[path] = replace(image, problem=f"{image.problem}; {problem}" if image.problem else problem)

    def _data_files(self) -> None:
        """A data file belongs to the image that names it; it is no image of its own."""
        for path in self.with_data_file:
            image = self.found[path]
            data = image.data_file
            if data is None:  # it turned out to be raw
                continue
            if data.path is None:
                beside = f"{os.path.dirname(path)}/{data.written}"
                if data.kind == "relative" and (beside in self.found or beside in self.others):
                    self.parts.add(beside)
                self._note(
                    path,
                    "its data is at a network address"
                    if data.kind == "remote"
                    else f"its data is in {data.written!r}, which QEMU looks for in the folder that it is started in",
                )
                continue
            self.parts.add(data.path)
            target = self.places.target(data.path)
            if target is not None and not os.path.exists(target):
                self.found[path] = replace(image, status="unreadable")
                self._note(path, f"its data is in {data.path}, and there is no such file")

    def _prune(self, starts: list[str]) -> None:
        """Keep what was found in folders or named, and what that stands on, now that all is settled."""
        keep: dict[str, None] = dict.fromkeys(path for path in starts if path not in self.parts or path in self.named)
        queue = list(keep)
        for path in queue:
            backing = self.found[path].backing
            if backing is not None and backing.key not in keep:
                keep[backing.key] = None
                queue.append(backing.key)
        self.found = {path: self.found[path] for path in keep}

    def _note_dirty(self) -> None:
        for path in self.dirty:
            if path in self.found and self.found[path].dirty and self.found[path].held != "write":
                self._note(path, "it was not closed properly; QEMU repairs it when it is next opened for writing")


def _stamp_of(entry: os.DirEntry[str]) -> Stamp | None:
    try:
        return stamp(entry.stat(follow_symlinks=False))
    except OSError:
        return None


def _is_read(image: Image) -> bool:
    return image.identity is not None and image.status != "not-a-file"


def _as_raw(image: Image) -> Image:
    return Image(
        image.path,
        "raw",
        virtual_size=None if image.file_size is None else raw_size(image.file_size),
        allocated=image.allocated,
        identity=image.identity,
        file_size=image.file_size,
        mtime_ns=image.mtime_ns,
        writable=image.writable,
        held=image.held,
    )


def _remote(path: str) -> Image:
    return Image(path, status="remote", problem="it is no local file, and is never opened")


def _nowhere(path: str) -> Image:
    return Image(
        path,
        status="unknown",
        problem="QEMU would look for it in the folder that it is started in, or cannot understand the reference: "
        "write the absolute path into the overlay (qemu-img rebase -u)",
    )


def _unreachable(path: str, error: OSError | ValueError) -> Image:
    status: Status = "missing" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
    said = error.strerror if isinstance(error, OSError) else str(error)
    problem = "there is no such file" if status == "missing" else f"it cannot be looked at: {said}"
    return Image(path, status=status, problem=problem)


def _unread(folder: str, error: OSError) -> Image:
    if isinstance(error, FileNotFoundError):
        return Image(folder, status="missing", problem="there is no such folder")
    problem = f"this folder cannot be listed, so its images are not known: {error.strerror}"
    return Image(folder, status="unreadable", problem=problem)
