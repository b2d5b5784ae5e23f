"""Sources that only this process can read, for a child that has given up all but its descriptors: both ends.

The child writes offset and length, and is given how many bytes there are, and these; or -1 after an error, which stays
here. It can ask for nothing but the bytes of the one source at the other end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from struct import Struct

from vmsnap_nb.errors import ImageError, VmsnapError
from vmsnap_nb.system.filesystems.messages import DAMAGED
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import t

__all__ = ["ServedSource", "Server"]

_QUESTION, _ANSWER = Struct("<QQ"), Struct("<q")
_MOST = 4 << 20
"""Bytes of an answer."""
_PATIENCE = 5.0


class Server:
    """Reads a source for a child, in a thread; `fd` is the descriptor for the child."""

    def __init__(self, source: Source) -> None:
        self.error: VmsnapError | None = None
        self._source = source
        self._own, self._other = socket.socketpair()
        self.fd = self._other.fileno()
        self._thread = threading.Thread(target=self._serve, name="vmsnap volume", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while len(question := self._received(_QUESTION.size)) == _QUESTION.size:
                offset, length = _QUESTION.unpack(question)
                try:
                    found = self._source.pread(offset, min(length, _MOST))
                except VmsnapError as error:
                    self.error = error
                    self._own.sendall(_ANSWER.pack(-1))
                    return
                self._own.sendall(_ANSWER.pack(len(found)) + found)

    def _received(self, length: int) -> bytes:
        found = b""
        while len(found) < length and (piece := self._own.recv(length - len(found))):
            found += piece
        return found

    def close(self) -> None:
        """End it: the child has ended."""
        self._other.close()
        self._own.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE)
        self._own.close()


class ServedSource(Source):
    """The child's end."""

    def __init__(self, name: str, fd: int, size: int) -> None:
        self.name, self._fd, self._size = name, fd, size

    @property
    def size(self) -> int:
        """Bytes that there were when it was opened."""
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset, fewer only where the source ends."""
        found = bytearray()
        length = min(length, self._size - offset)
        while len(found) < length:
            os.write(self._fd, _QUESTION.pack(offset + len(found), length - len(found)))
            (count,) = _ANSWER.unpack(self._received(_ANSWER.size))
            if count < 0:
                raise ImageError(t("read {path}", path=self.name), next_step=t(DAMAGED))
            if not count:
                break
            found += self._received(count)
        return bytes(found)

    def _received(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            piece = os.read(self._fd, length - len(found))
            if not piece:
                why = t("the process that was reading it has exited")
                raise ImageError(t("read {path}", path=self.name), why=why, next_step=t("try again"))
            found += piece
        return bytes(found)
