"""The child process that reads file systems: ``python -m vmsnap_nb.system.filesystems.child REQUEST``.

REQUEST is the number of a descriptor with the request. All libraries are loaded, then everything but reading is given
up (`sandbox`), and only then is the first byte of a volume looked at by code that is not Python's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from vmsnap_nb.errors import MissingPartError, VmsnapError
from vmsnap_nb.system.disk.disk import Disk
from vmsnap_nb.system.disk.layer import Layer, RawLayer
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.filesystems.messages import encode, error_line
from vmsnap_nb.system.filesystems.region import Cache
from vmsnap_nb.system.filesystems.sandbox import end_with_parent, lock_down
from vmsnap_nb.system.filesystems.served import ServedSource
from vmsnap_nb.system.sources.file import FileSource
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.language import language, translated
from vmsnap_nb.words.message import t

_OUT = 1
_PIECE = 256 << 10
_FEW_TABLES = 8
"""L2 tables that are full and of usual size: parsed without numpy in the time that loading it takes."""


class _Out:
    """Standard output, written in large pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __call__(self, line: bytes) -> None:
        self._buffer += line
        if len(self._buffer) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        while self._buffer:
            count = os.write(_OUT, self._buffer)
            del self._buffer[:count]


def _served(described: dict[str, Any]) -> Source:
    """Return a source that the parent reads; a guest may write to the last layer, so that nothing of it is kept."""
    source = ServedSource(described["name"], described["fd"], described["size"])
    return source if described["last"] else Cache(source)


def _layer(described: dict[str, Any]) -> Layer:
    name = described["name"]
    source: Source = (
        FileSource(name, devices=True, fd=described["fd"]) if described["size"] is None else _served(described)
    )
    if described["format"] == "raw":
        return RawLayer(source)
    data = described["data"]
    data_source = None if data is None else FileSource(f"the data of {name}", devices=True, fd=data)
    return Qcow2Layer(source, data=data_source, snapshot=described["snapshot"])


def _prepare_tables(layers: Iterable[Layer]) -> None:
    """Load numpy for many tables; a few are parsed before it would be loaded, and then it must not be looked for."""
    if sum(len(layer.tables) for layer in layers if isinstance(layer, Qcow2Layer)) > _FEW_TABLES:
        importlib.import_module("numpy")
    else:
        sys.modules["numpy"] = None  # type: ignore[assignment]


def _work(request: dict[str, Any], say: Callable[[bytes], None]) -> None:
    # Nothing can be loaded afterwards: what is loaded by a compressed cluster or a message.
    translated("", "", 1, language())
    importlib.import_module("zstandard")

    try:
        from vmsnap_nb.system.filesystems import answers
    except ImportError as error:
        raise MissingPartError(
            t("read files on a disk"),
            said=str(error),
            next_step=t("install it: {commands}", commands="pip install pytsk3 libfsxfs-python"),
        ) from error
    layers = [[_layer(layer) for layer in disk] for disk in request["disks"]]
    _prepare_tables(layer for disk in layers for layer in disk)
    disks = [Disk(disk) for disk in layers]
    if not lock_down():
        say(
            encode(
                "note",
                t(
                    "this system has no seccomp filter: the process that reads files is restricted only by "
                    "resource limits"
                ),
            )
        )
    answers.answer(request, disks, say)


def main() -> None:
    """Answer one request."""
    say = _Out()
    with open(int(sys.argv[1]), "rb") as file:
        request = json.load(file)
    end_with_parent(request["parent"])
    try:
        _work(request, say)
    except (VmsnapError, OSError, ValueError, MemoryError, RecursionError) as error:
        say(error_line(error))
    say(encode("end"))
    with contextlib.suppress(BrokenPipeError):
        say.flush()
    os._exit(0)  # libraries need not put away what they hold


if __name__ == "__main__":
    main()
