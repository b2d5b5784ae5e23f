"""Sees which files, folders, programs and sockets Python opens: what the interpreter's own audit events tell."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_EVENTS = {"open", "os.scandir", "os.listdir", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"}
_watched: list[tuple[list[str], frozenset[threading.Thread]]] = []
"""Where it is collected, and the threads whose doings are not."""


def _see(event: str, arguments: tuple[object, ...]) -> None:
    if _watched and event in _EVENTS:
        what = str(arguments)
        if event == "open" or event.startswith("os."):
            what = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else what
        own = threading.current_thread()
        for seen, others in _watched:
            if own not in others:
                seen.append(what)


sys.addaudithook(_see)


@contextlib.contextmanager
def watch() -> Iterator[list[str]]:
    """Collect what this thread opens meanwhile, and those that it starts: paths, and whole command lines and addresses.

    A thread that was there before looks around just when it likes, as that which collects ended processes in /proc.
    """
    seen: list[str] = []
    watched = (seen, frozenset(threading.enumerate()) - {threading.current_thread()})
    _watched.append(watched)
    try:
        yield seen
    finally:
        _watched.remove(watched)
