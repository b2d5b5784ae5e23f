"""A reference from one image to another, as written and as resolved."""

from __future__ import annotations

import json
import os
import posixpath
import re
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Reference", "parse_reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """What an image's header says of another file, and where that leads.

    Attributes
    ----------
    written : str
        The reference as it stands in the header. Bytes that are not text are kept as `os.fsdecode` keeps them.
    kind : str
        ``relative``, ``absolute``, ``file:`` (with that prefix), ``json:`` or ``remote``.
    path : str or None
        The absolute local path that it leads to, or None for a network address and for what cannot be understood.
    format : str or None
        The format that the header gives for the file, or None: then QEMU would have to guess it.
    """

    written: str
    kind: Literal["relative", "absolute", "file:", "json:", "remote"]
    path: str | None
    format: str | None = None

    @property
    def key(self) -> str:
        """The name under which a Forest holds the image: its path, or else the address as written."""
        return self.path if self.path is not None else self.written


# A frozen dataclass's constructor looks each field up by its name; this takes a third of its time.
_new = object.__new__
_set_written, _set_kind, _set_path, _set_format = (
    getattr(Reference, name).__set__ for name in ("written", "kind", "path", "format")
)


def parse_reference(written: str, *, folder: str, format: str | None = None) -> Reference:
    """Resolve a backing reference in QEMU's way.

    Parameters
    ----------
    written : str
        The reference as it stands in the header.
    folder : str
        Absolute path of the folder that holds the image whose header it is.
    format : str, optional
        The backing format of the header.

    Returns
    -------
    Reference
        `Reference.path` is None for everything but a local file with a known place. After ``file:`` and in ``json:``
        a relative name has no known place: QEMU takes it relative to the folder that it was started in.

    Notes
    -----
    A protocol is what stands before the first ``:``, unless a ``/`` comes before that
    (QEMU, block.c, ``path_has_protocol``). So ``./a:b`` is a file and ``a:b`` is not.

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
    if written.startswith("file:"):
        return Reference(written, "file:", _absolute(written[5:]), format)
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
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_DEEPEST = 16


def _from_json(written: str, format: str | None) -> Reference:
    options = _options(written[5:])
    if options is None:
        return Reference(written, "json:", None, format)
    driver = options.get("driver")
    if format is None and isinstance(driver, str) and driver not in _LOCAL:
        format = driver
    # Formats and filters stand on another node, "file"; the last one is what is really opened.
    prefix = ""
    for _ in range(_DEEPEST):
        if not any(key.startswith(f"{prefix}file.") for key in options):
            break
        prefix += "file."
    driver = options.get(f"{prefix}driver", "file")
    if driver not in _LOCAL:
        return Reference(written, "remote", None, format if prefix else None)
    return Reference(written, "json:", _absolute(options.get(f"{prefix}filename")), format)


def _options(text: str) -> dict[str, Any] | None:
    """Read QEMU's JSON, which also has strings in single quotes, and flatten it to dotted keys."""
    try:
        options = json.loads(_QUOTED.sub(_double_quoted, text) if "'" in text else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(options, dict):
        return None
    flat: dict[str, Any] = {}
    level: list[tuple[str, dict[str, Any]]] = [("", options)]
    for prefix, part in level:
        for key, value in part.items():
            if isinstance(value, dict):
                level.append((f"{prefix}{key}.", value))
            else:
                flat[prefix + key] = value
    return flat


def _double_quoted(match: re.Match[str]) -> str:
    inner = match[1]
    if inner is None:
        return match[0]
    return '"' + inner.replace("\\'", "'").replace('"', '\\"') + '"'
