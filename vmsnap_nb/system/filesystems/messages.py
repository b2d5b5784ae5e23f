"""What this process and its child say to each other: one request, and lines of JSON with bounded content as answers.

The child has read what somebody else made, and may have been taken over by it: each answer is checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, get_args

from vmsnap_nb.errors import (
    ImageError,
    InvalidRequestError,
    MissingPartError,
    NotFoundError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.model.files import Change, FileEntry, FileKind, FilePart
from vmsnap_nb.words.message import N_

__all__ = ["DAMAGED", "MOST_DATA", "Answers", "Row", "decode_entry", "encode", "encode_entry", "error_line"]

DAMAGED = N_(
    "the file system may be damaged, or was written to while it was read. Shut the guest down and try again, or check "
    "the file system in the guest"
)
MOST_DATA = 1 << 20
"""Bytes of content that follow one line."""
_MOST_LINE = 1 << 20
_MOST_TEXT = 64 << 10
_ERRORS: Mapping[str, type[VmsnapError]] = {
    error.__name__: error
    for error in (ImageError, InvalidRequestError, MissingPartError, NotFoundError, StalePlanError)
}
_FIELDS = tuple(field.name for field in fields(FileEntry))
_KINDS, _CHANGES = frozenset(get_args(FileKind)), frozenset(get_args(Change))
_PARTS = frozenset({"data", "zero", "inode", "unknown"})


def encode(*message: Any) -> bytes:
    """Return a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def encode_entry(entry: FileEntry | None) -> list[Any] | None:
    """Return a file as a list."""
    return None if entry is None else [getattr(entry, name) for name in _FIELDS]


def error_line(error: BaseException) -> bytes:
    """Return the line that says an error."""
    if isinstance(error, VmsnapError):
        name = type(error).__name__ if type(error).__name__ in _ERRORS else "ImageError"
        return encode("error", name, error.tried, error.why or "", error.quoted or "", error.next_step or "")
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    return encode("error", "ImageError", "", "", said, "")


class Row(NamedTuple):
    """A change as the child says it: what changed, its kind, both entries, and the number of the layer or -1."""

    path: str
    change: Change
    before: FileEntry | None
    after: FileEntry | None
    layer: int


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise ValueError("text")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 64:
        raise ValueError("a number")
    return value


def _maybe(value: Any) -> int | None:
    return None if value is None else _number(value)


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "path": _text,
    "target": _text,
    "volume": _text,
    "size": _number,
    "inode": _number,
    "links": _number,
}
"""What each field of a file must be; the others may be None."""


def _checked(name: str, value: Any) -> Any:
    check: Callable[[Any], Any] = _CHECKS.get(name, _maybe)
    return check(value)


def decode_entry(value: Any) -> FileEntry | None:
    """Return the file that a list describes."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != len(_FIELDS):
        raise ValueError("a file")
    found = dict(zip(_FIELDS, value, strict=True))
    if found["kind"] not in _KINDS:
        raise ValueError("a kind of file")
    return FileEntry(**{name: value if name == "kind" else _checked(name, value) for name, value in found.items()})


class Answers:
    """What a child has said so far; given its output piece by piece."""

    def __init__(self, sink: Callable[[bytes], object] | None = None) -> None:
        self.entries: list[FileEntry] = []
        self.rows: list[Row] = []
        self.parts: list[FilePart] = []
        self.notes: list[str] = []
        self.volumes: list[str] = []
        self.error: tuple[type[VmsnapError], str, str, str, str] | None = None
        self.ended = False
        self._buffer = bytearray()
        self._content = 0
        self._sink = sink
        self._takers: dict[str, Callable[..., None]] = {
            "file": self._take_file,
            "change": self._take_change,
            "part": self._take_part,
            "note": self._take_note,
            "volume": self._take_volume,
            "data": self._take_data,
            "error": self._take_error,
            "end": self._take_end,
        }

    def feed(self, piece: bytes) -> None:
        """Take more output."""
        self._buffer += piece
        start = 0
        while start < len(self._buffer):
            if self._content:
                count = min(self._content, len(self._buffer) - start)
                if self._sink is not None:
                    self._sink(bytes(self._buffer[start : start + count]))
                self._content -= count
                start += count
                continue
            end = self._buffer.find(b"\n", start)
            if end < 0:
                break
            self._take(bytes(self._buffer[start:end]))
            start = end + 1
        del self._buffer[:start]
        if len(self._buffer) > _MOST_LINE:
            raise ValueError("a line without an end")

    def _take(self, line: bytes) -> None:
        message = json.loads(line)
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise ValueError("no message")
        kind, *values = message
        take = self._takers.get(kind)
        if take is None or self.ended:
            raise ValueError("an unknown message")
        take(*values)

    def _take_file(self, value: Any) -> None:
        entry = decode_entry(value)
        if entry is not None:
            self.entries.append(entry)

    def _take_change(self, path: Any, change: Any, before: Any, after: Any, layer: Any) -> None:
        if change not in _CHANGES:
            raise ValueError("a change")
        self.rows.append(
            Row(
                path=_text(path),
                change=change,
                before=decode_entry(before),
                after=decode_entry(after),
                layer=_number(layer),
            )
        )

    def _take_part(self, start: Any, length: Any, layer: Any, kind: Any, place: Any) -> None:
        if kind not in _PARTS:
            raise ValueError("a part")
        self.parts.append(
            FilePart(
                start=_number(start),
                length=_number(length),
                layer=_maybe(layer),
                image="",
                kind=kind,
                place=_maybe(place),
            )
        )

    def _take_note(self, text: Any) -> None:
        self.notes.append(_text(text))

    def _take_volume(self, text: Any) -> None:
        self.volumes.append(_text(text))

    def _take_data(self, length: Any) -> None:
        if not 0 < _number(length) <= MOST_DATA:
            raise ValueError("content")
        self._content = length

    def _take_error(self, name: Any, tried: Any, why: Any, said: Any, step: Any) -> None:
        if name not in _ERRORS:
            raise ValueError("an error")
        self.error = _ERRORS[name], _text(tried), _text(why), _text(said), _text(step)

    def _take_end(self) -> None:
        self.ended = True
