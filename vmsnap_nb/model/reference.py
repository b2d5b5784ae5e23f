"""A reference from one image to another, as written and as resolved."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from vmsnap_nb.model.address import options_of, plain_address

__all__ = ["Reference", "parse_reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference in an image's header to another file.

    Attributes
    ----------
    written : str
        The reference, as the header contains it. Bytes that are not valid UTF-8 become surrogate escapes, as in
        `os.fsdecode`.
    kind : str
        ``relative``, ``absolute``, ``file:`` (with this prefix or a prefix for devices), ``json:`` or ``remote``.
    path : str or None
        The absolute local path to which the reference leads; None for a network address or an unknown form.
    format : str or None
        The format that the header records for the file; None if QEMU would have to guess the format.
    """

    written: str
    kind: Literal["relative", "absolute", "file:", "json:", "remote"]
    path: str | None
    format: str | None = None

    @property
    def key(self) -> str:
        """The key of the image in a `Forest`: its path, or the address as written."""
        if self.path is not None:
            return self.path
        return plain_address(self.written) if self.kind == "remote" else self.written

    @property
    def name(self) -> str:
        """The file name as written, without a prefix; empty if the reference names no file, or several files."""
        if self.kind == "json:":
            names = _files_of(self.written)
            return names[0] if len(names) == 1 and isinstance(names[0], str) else ""
        return self.written.partition(":")[2] if self.kind == "file:" else self.written

    @property
    def is_plain(self) -> bool:
        """Whether the reference contains only a file and a format, so that writing it again loses nothing.

        A ``json:`` reference can name a part of a file (``offset``, ``size``: a disk in a container, libvirt's
        ``<slices>``), a backing file of its own, a key or a filter (QEMU, qapi/block-core.json, BlockdevOptions).
        """
        if not self.written.startswith("json:"):
            return True
        options = options_of(self.written[5:])
        return options is not None and all(map(_is_plain, options.items()))

    @property
    def part(self) -> tuple[str, str] | None:
        """The offset and size, as digits, if the reference names only a part of the file; otherwise None."""
        options = options_of(self.written[5:]) if self.written.startswith("json:") else None
        ends = [
            str(value)
            for name in ("offset", "size")
            for key, value in (options or {}).items()
            if key.rpartition(".")[2] == name
        ]
        return (ends[0], ends[1]) if len(ends) == 2 else None

    @property
    def is_certain(self) -> bool:
        """Whether the reference leads to exactly `path`, or to a network address.

        QEMU resolves some references relative to the folder or the process in which it is started. Others name several
        files, or use a driver for tests (``blkdebug:``).
        """
        if self.path is not None:
            names = set(map(_absolute, _files_of(self.written))) if self.kind == "json:" else {self.path}
            return not self.path.startswith("/proc/") and None not in names and len(names) == 1
        if self.kind != "remote":
            return False
        scheme = _protocol_of_json(self.written) or self.written.partition(":")[0]
        return scheme.partition("+")[0] in _NETWORK

    def mentions(self, names: Iterable[str]) -> bool:
        """Return whether the reference contains the last part of one of these paths, wherever it leads."""
        options = options_of(self.written[5:]) if self.written.startswith("json:") else None
        text = self.written if options is None else json.dumps(options, ensure_ascii=False)
        return any(posixpath.basename(name) in text for name in names)


# A frozen dataclass's constructor looks each field up by its name; this takes a third of its time.
_new = object.__new__
_set_written, _set_kind, _set_path, _set_format = (
    getattr(Reference, name).__set__ for name in ("written", "kind", "path", "format")
)


def parse_reference(written: str, *, folder: str, format: str | None = None) -> Reference:
    """Resolve a backing reference of an image in `folder` in QEMU's way.

    A protocol is what stands before the first ``:``, unless a ``/`` comes before that (QEMU, block.c,
    ``path_has_protocol``). So ``./a:b`` is a file and ``a:b`` is not.

    `Reference.path` is None for everything but a local file with a known place. After ``file:`` and in ``json:`` a
    relative name has no known place: QEMU takes it relative to the folder that it was started in.

    Examples
    --------
    >>> parse_reference("../base.qcow2", folder="/images/guests").path
    '/images/base.qcow2'
    >>> parse_reference("file:/images/base.raw", folder="/", format="raw")
    Reference(written='file:/images/base.raw', kind='file:', path='/images/base.raw', format='raw')
    >>> parse_reference("nbd://box:10809/disk", folder="/images").kind
    'remote'
    """
    if written.startswith("/"):
        path = written
        kind = "absolute"
    elif ":" not in written.partition("/")[0]:
        path = f"{folder}/{written}"
        kind = "relative"
    else:
        return _with_protocol(written, format)
    if "/." in path or "//" in path or path.endswith("/"):
        path = _tidy(path)
    reference = _new(Reference)
    _set_written(reference, written)
    _set_kind(reference, kind)
    _set_path(reference, path)
    _set_format(reference, format)
    return reference


def _with_protocol(written: str, format: str | None) -> Reference:
    protocol, _, rest = written.partition(":")
    if protocol in _LOCAL:
        return Reference(written, "file:", _absolute(rest), format)
    if written.startswith("json:"):
        return _from_json(written, format)
    return Reference(written, "remote", None, format)


def _tidy(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def _absolute(name: object) -> str | None:
    if not isinstance(name, str) or not name.startswith("/") or "\0" in name:
        return None
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # JSON can write characters that no file name has
        return None
    return _tidy(name)


# -- json: ------------------------------------------------------------------------------------------------

_LOCAL = ("file", "host_device", "host_cdrom")
_DEEPEST = 16


def _from_json(written: str, format: str | None) -> Reference:
    options = options_of(written[5:])
    if options is None:
        return Reference(written, "json:", None, format)
    driver = options.get("driver")
    if format is None and isinstance(driver, str) and driver not in _LOCAL:
        format = driver
    # Formats and filters are based on another node, "file"; the last one is what is really opened.
    prefix = ""
    for _ in range(_DEEPEST):
        if not any(key.startswith(f"{prefix}file.") for key in options):
            break
        prefix += "file."
    if prefix and any(f"{level}{name}" in options for level in _levels(prefix) for name in ("offset", "size")):
        format = "raw"  # the file is a container, and only what it contains has the format that is recorded
    driver = options.get(f"{prefix}driver", "file")
    if driver not in _LOCAL:
        return Reference(written, "remote", None, format if prefix else None)
    return Reference(written, "json:", _absolute(options.get(f"{prefix}filename")), format)


def _levels(prefix: str) -> Iterator[str]:
    """Yield the prefixes of the nodes above the last one, the first of which is the backing file itself."""
    for depth in range(prefix.count(".")):
        yield "file." * depth


_NETWORK = frozenset(
    ("nbd", "ssh", "rbd", "iscsi", "iser", "gluster", "http", "https", "ftp", "ftps", "nfs", "sheepdog", "vxhs", "nvme")
)


def _protocol_of_json(written: str) -> str:
    """Return the driver that opens what a ``json:`` reference names, if it names nothing else."""
    options = options_of(written[5:]) if written.startswith("json:") else None
    if options is None or _files_of(written):
        return ""
    deepest = max((key for key in options if key.rpartition(".")[2] == "driver"), key=len, default="")
    return str(options.get(deepest, ""))


def _files_of(written: str) -> tuple[object, ...]:
    """Return all that a ``json:`` reference gives as names of files, and lists of other nodes."""
    options = options_of(written[5:]) or {}
    return tuple(
        value for key, value in options.items() if key.rpartition(".")[2] == "filename" or isinstance(value, list)
    )


_FORMATS = frozenset({"raw", "qcow2", "qed", "vdi", "vhdx", "vmdk", "vpc", "qcow", "parallels", "dmg", "luks", *_LOCAL})
_HARMLESS = frozenset(
    {"filename", "node-name", "read-only", "auto-read-only", "discard", "detect-zeroes", "aio", "locking"}
)
"""Options that say how a file is opened, and not which of its bytes are read."""


def _is_plain(option: tuple[str, object]) -> bool:
    key, value = option
    levels = key.split(".")
    name = levels[-1]
    if levels[:-1] not in ([], ["file"], ["cache"], ["file", "cache"]):
        return False  # one node upon another: what is read is not what the file holds
    if name == "driver":
        return isinstance(value, str) and value in _FORMATS
    return name in _HARMLESS or "cache" in levels
