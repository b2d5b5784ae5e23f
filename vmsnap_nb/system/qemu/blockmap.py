"""Reading what an image holds itself by `qemu-img map`, and putting its map together."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vmsnap_nb.errors import CommandError, ImageError
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.size import human_size
from vmsnap_nb.system.files.devices import protocol_of
from vmsnap_nb.system.process import Limits
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.system.qemu.qemu_img import unreadable
from vmsnap_nb.words.message import Message, t

__all__ = ["LayerParser", "MapParser", "Piece", "map_argv", "read_map", "reads_none_of"]

MAP_LIMITS = Limits(seconds=300)
"""What `qemu-img map` may take: an image of 256 TiB takes it about one second."""
_LONGEST_LINE = 1 << 20

Piece = tuple[int, int, bool, bool]
"""Start and length of a part of the disk in bytes, whether it is zero, and whether it takes as much of the file."""

_RAW_UNIT = 4096
"""What file systems allocate at once; a raw image has no clusters of its own."""


def map_argv(path: str, format: str) -> tuple[str, ...]:
    """Return the command that maps one image as if it had no backing file, also while somebody writes to it.

    Without ``"backing": null`` QEMU would map the whole chain, in which upper layers hide what lower ones hold.
    """
    start, driver = ("qemu-img", "map", "--output=json", "-U"), protocol_of(path)
    if not path.isprintable() and any("\udc80" <= char <= "\udcff" for char in path):
        # No JSON can hold a name that is no UTF-8; in this form of options a comma is written twice.
        nothing_below = "" if format == "raw" else ",backing="
        name = path.replace(",", ",,")
        return (*start, "--image-opts", f"driver={format},file.driver={driver},file.filename={name}{nothing_below}")
    options: dict[str, object] = {"driver": format, "file": {"driver": driver, "filename": path}}
    if format != "raw":
        options["backing"] = None
    return (*start, "json:" + json.dumps(options))


class MapParser:
    """Takes what `qemu-img map` writes, piece by piece: ``MapEntry`` objects of QEMU's qapi/block-core.json, as JSON.

    There is one line for each, and `each` is called with them.
    """

    def __init__(self, tried: Message, each: Callable[[Mapping[str, Any]], object]) -> None:
        self._tried = tried
        self._each = each
        self._pending = bytearray()
        self._is_list = False

    def take(self, piece: bytes) -> None:
        """Take a piece, which can end anywhere."""
        self._pending += piece
        end = self._pending.rfind(b"\n") + 1
        if end:
            lines = bytes(self._pending[:end])
            del self._pending[:end]
            self._parse(lines)
        elif len(self._pending) > _LONGEST_LINE:
            why = t("the output of qemu-img contains a line of more than {size}", size=human_size(_LONGEST_LINE))
            raise unreadable(self._tried, why)

    def end(self) -> None:
        """Take what is left: there is no more."""
        if not self._is_list and not self._pending:
            raise unreadable(self._tried, t("the output of qemu-img is empty"))
        self._parse(bytes(self._pending))

    def _parse(self, lines: bytes) -> None:
        text = lines.strip()
        if not self._is_list:
            self._is_list = text.startswith(b"[")
            text = text[1:] if self._is_list else b"no list"
        try:
            for entry in json.loads(b"[" + text.removesuffix(b"]").removesuffix(b",") + b"]"):
                self._each(entry)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise unreadable(
                self._tried, t("cannot parse the output of qemu-img ({error})", error=str(error))
            ) from error


class LayerParser:
    """Puts the map of one image together.

    It is an error if its tables name more than the file can hold: then they name the same place again and again, and a
    small file would have a map that takes all memory. `room` is told how many parts there are more, and may refuse.
    """

    def __init__(self, image: Image, tried: Message, room: Callable[[int], None] = lambda _: None) -> None:
        self._image = image
        self._tried = tried
        self._room = room
        self._found: list[Extent] = []
        self._counted = 0
        self._stored = 0

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take one entry of the map."""
        if not entry["present"]:
            return
        zero = bool(entry["zero"])
        self.add([(int(entry["start"]), int(entry["length"]), zero, not zero and "offset" in entry)])

    def add(self, pieces: Iterable[Piece]) -> None:
        """Add parts that follow those before them."""
        found, stored = self._found, 0
        begin = end = -1
        zero = False
        if found:
            last = found.pop()
            begin, end, zero = last.start, last.end, last.zero
        for start, length, is_zero, is_stored in pieces:
            if start != end or is_zero != zero:
                if end >= 0:
                    found.append(Extent(begin, end - begin, zero))
                begin, zero = start, is_zero
            end = start + length
            if is_stored:
                stored += length
        if end >= 0:
            found.append(Extent(begin, end - begin, zero))
        self._stored += stored

    def restart(self) -> None:
        """Forget what was found."""
        self._room(-self._counted)
        self._found, self._counted, self._stored = [], 0, 0

    def check(self) -> None:
        """Check that the file can hold what was found so far, and that there is room for it."""
        self._room(len(self._found) - self._counted)
        self._counted = len(self._found)
        image = self._image
        if image.format == "vmdk" or image.file_size is None or self._fits(image.file_size):
            return  # the data of a vmdk can lie in other files
        with contextlib.suppress(OSError):
            status = os.stat(image.path)
            # What a guest frees and uses again while this is read is counted twice.
            now = max(image.file_size, status.st_size) * (2 if image.held == "write" else 1)
            if not stat.S_ISREG(status.st_mode) or self._fits(now):
                return
        raise unreadable(
            self._tried,
            t(
                "its tables refer to at least {size} of data in {count} parts. A file of {file_size} "
                "cannot hold that much, so several entries point to the same cluster",
                size=human_size(self._stored),
                count=len(self._found),
                file_size=human_size(image.file_size),
            ),
        )

    def _fits(self, size: int) -> bool:
        image = self._image
        # An entry of a table takes 8 bytes, in some formats 4; where it takes 16, it tells of 32 parts.
        parts = 2 * size if image.extended_l2 else size // (8 if image.format == "qcow2" else 4)
        data = size + (image.cluster_size or _RAW_UNIT)
        return len(self._found) <= parts + 1 and (image.data_file is not None or self._stored <= data)

    def layer(self) -> LayerMap:
        """Return the map."""
        self.check()
        image = self._image
        return LayerMap(image.path, image.virtual_size or 0, tuple(self._found), image.cluster_size or _RAW_UNIT)


def read_map(
    argv: tuple[str, ...],
    *,
    tried: Message,
    each: Callable[[Mapping[str, Any]], object],
    check: Callable[[], object] = lambda: None,
) -> None:
    """Run a `qemu-img map` command within `MAP_LIMITS`; call `each` with every entry, and `check` now and then."""
    parser = MapParser(tried, each)

    def take(piece: bytes) -> None:
        parser.take(piece)
        check()

    try:
        qemu_img.run(argv, tried=tried, limits=MAP_LIMITS, take=take)
    except CommandError as error:
        if error.exit_status is not None and error.exit_status > 0:
            raise
        raise unreadable(tried, error.why, said=error.quoted) from error
    parser.end()


def reads_none_of(path: str, left: int, *, below: bool) -> bool:
    """Ask QEMU whether an image reads nothing from the layers right below it, so that they can be left out.

    The image is a qcow2 that nobody writes to; QEMU opens its backing files too. `left` is how many layers are meant;
    none of them may be shorter than the image if there are others `below` them. Without those, zeros that are read from
    a layer are read without it too. False also where QEMU's answer does not show it.
    """
    argv = ("qemu-img", "map", "--output=json", "-f", "qcow2", "--", path)
    read: list[int] = []

    def each(entry: Mapping[str, Any]) -> None:
        if 1 <= entry["depth"] <= left and (below or entry["data"] or not entry["zero"]):
            read[:] = [entry["start"]]

    try:
        read_map(argv, tried=t("map {image}", image=path), each=each)
    except ImageError:
        return False
    return not read
