"""The journal: entries beside images that say what is being done to them, so that what is cut short is known and ended.

An entry is a file: a JSON object with the version of its form and the fields of one of the classes here. The name of
the file tells the kind. A field that an entry may be without has a default, so an entry that was written before there
was such a field is read with that; a form of a higher version is only reported, never acted on.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.kernel_paths import is_kernel_path
from vmsnap_nb.model.reference import Reference, parse_reference
from vmsnap_nb.model.snapshot import SnapshotRecord

__all__ = [
    "KINDS",
    "MOMENT",
    "Began",
    "Entry",
    "FileFact",
    "InsideEntry",
    "MergeEntry",
    "Phase",
    "PullEntry",
    "RecordEntry",
    "RevertEntry",
    "SnapshotEntry",
    "Stranger",
    "Switch",
    "UnknownEntry",
    "UnreadEntry",
    "entry_of",
    "kind_of",
    "revert_places",
    "text_of",
    "written_before_clock",
]

MOMENT = 10_000_000_000
"""Nanoseconds in which what an entry says has begun, such as that a guest that runs is stopped."""
_VERSION = 3
_SUFFIX = ".json"

_Path = Annotated[str, "absolute"]


Phase = Literal["copying", "ready", "pivoting", "copied"]
"""How far a commit is; only from the last on must nothing be copied again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What each kind of entry has."""

    kind: ClassVar[Literal["inside", "merge", "pull", "record", "revert", "snapshot"]]

    @property
    def path(self) -> str:
        """Where it lies."""
        raise NotImplementedError

    @property
    def is_sound(self) -> bool:
        """Whether the fields, each of its type, go together."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFact:
    """Which file an image was, and as of when, as an entry was written.

    Of a block device `inode` is its number; `device` and the time, which it does not tell, are 0.
    """

    path: _Path
    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """Who has written an entry, and when (UTC, as ISO 8601 has it)."""

    user: str
    uid: int
    pid: int
    host: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeEntry(Entry):
    """What a merge of layers down into a base was about to do; it lies beside the base.

    Where that is a device it lies beside the first of the other images that is a file.
    """

    kind = "merge"

    base: _Path
    top: _Path
    # All layers that are merged, lowest first; `top` is the last.
    merged: tuple[_Path, ...]
    # The overlays of `top`, which will be based on `base`.
    children: tuple[_Path, ...] = ()
    # copying: the data may be in `base` partly; at the end of that QEMU bases an overlay on `base`.
    # ready: QEMU has copied all, and writes to both for the guest; pivoting: it was told to write to `base` alone.
    # copied: all of it is there, and must never be copied again, since overlays may be based on `base` itself already.
    phase: Phase = "copying"
    # Whether the merged files are to be removed in the end.
    remove: bool = False
    # Whether a guest that runs writes to `top`; in the end it writes to `base`.
    active: bool = False
    # Whether it is a deletion by libvirt, which may go on alone, and then removes the merged file itself.
    by_libvirt: bool = False
    # The guest whose verb began it; empty where a forest's did, or an older version has written this.
    guest: str = ""
    uuid: str = ""
    # The files of `base` and of what is merged, as this entry was written; empty where an older version has written it.
    files: tuple[FileFact, ...] = ()
    began: Began | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """The images that must be the same files when this is finished."""
        return tuple(dict.fromkeys((self.base, *self.merged)))

    @property
    def path(self) -> str:
        """Where it lies: the same merge finds it there again."""
        folder = _folder(self.base, self.top, *self.merged, *self.children)
        return _place(self.kind, folder, _digest(self.base, *self.merged))

    @property
    def is_sound(self) -> bool:
        """Whether `top` is the highest of the layers."""
        return self.merged[-1:] == (self.top,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullEntry(Entry):
    """What the QEMU of a running guest was about to do when it copied data up into an image; it lies beside that.

    In the end QEMU writes the new backing file's name into the header at once, but of the tables that say where the
    copied data is it keeps a part in memory until the guest flushes its disk (seen with QEMU 7.2, not with 10.0). If it
    dies in between, the image has lost what it read from below. The entry tells the old backing file, with which the
    image reads the same in any case.
    """

    kind = "pull"

    image: _Path
    # Its backing file before, as its header names it, and the format that the header gives for that.
    written: str
    format: str | None = None
    # The image on which it will stand, perhaps on the network; None if it will stand alone.
    base: str | None = None
    # The files of the image and of its backing file before, as this entry was written.
    files: tuple[FileFact, ...] = ()
    began: Began | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """The images that must be the same files when this is finished."""
        return (self.image, self.before.key)

    @property
    def path(self) -> str:
        """Where it lies: the next pull into the image finds it there again."""
        return _place(self.kind, _folder(self.image, self.before.key, self.base), _digest(self.image))

    @property
    def is_sound(self) -> bool:
        """Whether the base is a path or an address."""
        return self.base is None or ("\0" not in self.base and (self.base.startswith("/") or ":" in self.base))

    @property
    def before(self) -> Reference:
        """The backing file before, resolved."""
        return parse_reference(self.written, folder=posixpath.dirname(self.image), format=self.format)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertEntry(Entry):
    """What a revert of a guest was about to do; it lies beside the guest's images, and a guest has at most one."""

    kind = "revert"

    folder: _Path
    guest: str
    uuid: str
    # The snapshot, and how the guest was to be afterwards.
    name: str
    to: Literal["as-taken", "running", "paused", "off"]
    # The snapshot of what was there before; None where that was to be thrown away.
    kept: str | None = None
    # Overlays whose content was to be thrown away.
    discards: tuple[str, ...] = ()
    # The files of the guest's disks, as this entry was written; empty where an older version has written it.
    files: tuple[FileFact, ...] = ()

    @property
    def path(self) -> str:
        """Where it lies."""
        return _place(self.kind, self.folder, self.uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEntry(Entry):
    """A record of a snapshot that libvirt was about to write anew; it lies beside the image of the guest's first disk.

    libvirt lists a snapshot no more whose record it cannot write, and reads the old one only when it is restarted.
    """

    kind = "record"

    folder: _Path
    guest: str
    uuid: str
    # The snapshot, its record as it was (with passwords), and whether it was the current one.
    name: str
    xml: str
    current: bool = False

    @property
    def path(self) -> str:
        """Where it lies: the next change of the record finds it there again."""
        return _place(self.kind, self.folder, _digest(self.uuid, self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """That QEMU goes over from one image of a disk to a new overlay on it."""

    target: str
    source: _Path
    file: _Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEntry(Entry):
    """What an external snapshot of a guest was about to do; it lies beside the image of its first disk.

    While the guest runs, QEMU goes over to the overlays of all disks at once, and libvirt writes that down afterwards.
    """

    kind = "snapshot"

    guest: str
    uuid: str
    # The snapshot.
    name: str
    disks: tuple[Switch, ...]
    # The files that it was about to create, overlays and memory: none of them was there before.
    made: tuple[_Path, ...] = ()
    # The files on which the overlays are, as this entry was written; empty where an older version has written it.
    files: tuple[FileFact, ...] = ()

    @property
    def path(self) -> str:
        """Where it lies: the next snapshot of the guest finds it there again."""
        folder = _folder(*(disk.source for disk in self.disks), *(disk.file for disk in self.disks))
        return _place(self.kind, folder, self.uuid)

    @property
    def is_sound(self) -> bool:
        """Whether there is a disk."""
        return bool(self.disks)


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideEntry(Entry):
    """What was about to be done with an internal snapshot of an image; it lies beside the image.

    If QEMU is interrupted, or a flush fails, it can leave clusters that are counted wrongly, or a header that names a
    table of snapshots which it has freed again. The table before is still where it was; so the entry says where.
    """

    kind = "inside"

    image: _Path
    # The snapshot, and what was to happen to it.
    name: str
    change: Literal["create", "delete", "revert"]
    # The table of internal snapshots before: its offset in the file, and the snapshots in it, in its order.
    table: int
    names: tuple[str, ...] = ()
    # The file of the image, as this entry was written.
    files: tuple[FileFact, ...] = ()
    began: Began | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """The images that must be the same files when this is finished."""
        return (self.image,)

    @property
    def path(self) -> str:
        """Where it lies: the next change inside the image finds it there again."""
        return _place(self.kind, _folder(self.image), _digest(self.image))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEntry:
    """An entry that says that something is going on, and that cannot be acted on.

    It is in the form of a higher version, or was begun under another name of its `folder`, as of a symbolic link. With
    `is_elsewhere` that is another folder: this one, or the entry alone, was moved or copied.
    """

    path: str
    version: int
    folder: str = ""
    is_elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """A file that is named like an entry, and on whose strength nothing is done: why it may be somebody else's."""

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadEntry:
    """An entry, or a folder where entries may be, that could not be read: what it says is not known.

    `is_closed` if it is a folder in which this user may create no entries either, `is_damaged` if it is an entry of
    which not all is there, as after a loss of power, and `is_unmarked` if it may be another file that was renamed.
    """

    path: str
    why: str
    is_folder: bool = False
    is_closed: bool = False
    is_damaged: bool = False
    is_unmarked: bool = False


KINDS: Mapping[str, type[Entry]] = {
    cls.kind: cls for cls in (InsideEntry, MergeEntry, PullEntry, RecordEntry, RevertEntry, SnapshotEntry)
}
"""The classes of entries by their kinds, which the names of the files begin with."""


def kind_of(path: str) -> str | None:
    """Return the kind of entry that a file of this name is, None where it is none."""
    name = posixpath.basename(path)
    return next((kind for kind in KINDS if name.startswith(_prefix(kind)) and name.endswith(_SUFFIX)), None)


def text_of(entry: Entry) -> str:
    """Return the text of an entry's file."""
    return json.dumps({"version": _VERSION, **asdict(entry)}, indent=1) + "\n"


def entry_of(path: str, text: str, is_folder: Callable[[str], bool] = lambda _: False) -> Entry | UnknownEntry | None:
    """Return the entry that a file holds; None where it is none, is not whole, or does not belong at that path.

    `is_folder` tells whether a path is another name of the folder in which it was found.
    """
    kind = kind_of(path)
    if kind is None:
        return None
    try:
        values = json.loads(text)
        version = _checked(values.pop("version"), int)
        if version > _VERSION:
            return UnknownEntry(path=path, version=version)
        entry: Entry = _checked(values, KINDS[kind])
        if version < 1 or not entry.is_sound or posixpath.basename(entry.path) != posixpath.basename(path):
            return None
        if entry.path == path:
            return entry
        folder = posixpath.dirname(entry.path)
        return UnknownEntry(path=path, version=version, folder=folder, is_elsewhere=not is_folder(folder))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def written_before_clock(files: Iterable[FileFact], path: str, written: int, began: int) -> bool:
    """Return whether a file seems to be `written` before an entry `began`, but not at the time that this has recorded.

    It was written later, and the clock was set back in between.
    """
    recorded = next((fact.mtime_ns for fact in files if fact.path == path), written)
    return written != recorded and written < began - MOMENT


def revert_places(domain: Domain, records: Iterable[SnapshotRecord]) -> tuple[str, ...]:
    """Return where the entry of a guest's revert may lie: wherever it has or had images."""
    own = (record for record in records if record.guest == domain.name)
    named = (path for record in own for disk in record.disks for path in (disk.source, disk.file) if path)
    folders = dict.fromkeys(map(posixpath.dirname, (*(use.path for use in domain.uses), *named)))
    return tuple(_place(RevertEntry.kind, folder, domain.uuid) for folder in folders if folder.startswith("/"))


def _prefix(kind: str) -> str:
    return f".vmsnap-{kind}-"


def _folder(*paths: str | None) -> str:
    """Return the folder of the first image that is not below /dev: what is written there is lost with a restart."""
    found = [path for path in paths if path is not None and path.startswith("/")]
    kept = (path for path in found if not is_kernel_path(path))
    return posixpath.dirname(next(kept, found[0]))


def _place(kind: str, folder: str, token: str) -> str:
    return posixpath.join(folder, f"{_prefix(kind)}{token}{_SUFFIX}")


def _digest(*paths: str) -> str:
    return hashlib.sha256("\0".join(paths).encode(errors="surrogateescape")).hexdigest()[:16]


def _checked(value: Any, declared: Any) -> Any:
    """Return a value out of JSON as its declared type; ValueError, TypeError or KeyError if it does not fit."""
    origin, parts = get_origin(declared), get_args(declared)
    if is_dataclass(declared):
        hints = get_type_hints(declared, include_extras=True)
        types = {field.name: hints[field.name] for field in fields(declared)}
        return declared(**{name: _checked(one, types[name]) for name, one in value.items()})  # type: ignore[operator]
    if origin is tuple:
        if type(value) is not list:
            raise TypeError
        types_of = parts[:1] * len(value) if parts[1:] == (Ellipsis,) else parts
        return tuple(_checked(one, of) for one, of in zip(value, types_of, strict=True))
    if origin in (Union, UnionType):
        [declared] = [part for part in parts if (part is NoneType) == (value is None)]
        return _checked(value, declared)
    if origin is Literal:
        fits = any(type(value) is type(one) and value == one for one in parts)
    elif origin is Annotated:
        fits = _checked(value, parts[0]).startswith("/") and "\0" not in value
    else:
        fits = type(value) is declared
    if type(value) is str:
        value.encode(errors="surrogateescape")  # what no file name of a system can be is no text either
    if not fits:
        raise ValueError
    return value
