"""What a call reports while it waits: a line with the phase and its seconds, in a notebook as in a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from html import escape
from types import TracebackType
from typing import Any, Protocol, Self

from vmsnap_nb.words.message import NOTHING, Message, t

__all__ = ["Phases", "Tail", "listener"]

_DELAY = 0.5
"""Seconds before the line appears: what is done sooner needs none."""
_TICK = 0.5


Tail = Callable[[], str]
"""Returns the last lines of what a phase writes elsewhere, as a guest does on its console."""

listener: ContextVar[Callable[[Message, Tail | None], None] | None] = ContextVar("listener", default=None)
"""What is told each phase of the calls in this thread."""


class Phases:
    """A line that says what is done now; it goes away in the end.

    Only for a call in the main thread: a panel that works in others listens, and has its own display.
    """

    def __init__(self, title: Message) -> None:
        self._title = title
        self._phase = NOTHING
        self._tail: Tail | None = None
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._thread = threading.Thread(target=self._show, name="vmsnap: phases", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def tell(self, phase: Message, tail: Tail | None = None) -> None:
        """Say what is done now; a notebook shows what `tail` returns below the line."""
        self._phase, self._tail, self._began = phase, tail, time.monotonic()
        if (told := listener.get()) is not None:
            told(phase, tail)

    @property
    def line(self) -> Message:
        """The line as it is now."""
        seconds = time.monotonic() - self._began
        return t("{title}: {phase} ({seconds:.0f} s)", title=self._title, phase=self._phase, seconds=seconds)

    def _show(self) -> None:
        if self._over.wait(_DELAY):
            return
        bar = _bar(self.line)
        try:
            while not self._over.wait(_TICK):
                tail = self._tail
                if isinstance(bar, _Display) and tail is not None:
                    bar.tail = tail()
                bar.set_description_str(self.line)
        finally:
            bar.close()


class _Shown(Protocol):
    def set_description_str(self, desc: str) -> None: ...

    def close(self) -> None: ...


class _Display:
    """A line in a notebook's output; unlike a widget it leaves nothing in the saved notebook."""

    def __init__(self, line: str) -> None:
        from IPython.display import display

        self.tail = ""
        self._handle: Any = display(_bundle(line), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def set_description_str(self, desc: str) -> None:
        self._handle.update(_bundle(desc, self.tail), raw=True)

    def close(self) -> None:
        self._handle.update(_bundle(""), raw=True)


def _bundle(line: str, tail: str = "") -> dict[str, str]:
    html = f"<div>{escape(line)}</div>" if line else ""
    below = f"<pre>{escape(tail)}</pre>" if tail else ""
    return {"text/plain": "\n".join(filter(None, (line, tail))), "text/html": html + below}


def _bar(line: str) -> _Shown:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is not None:
        return _Display(line)
    from tqdm import tqdm

    # tqdm itself keeps quiet where nobody looks: in a pipe, in a log.
    bar: tqdm[Any] = tqdm(desc=line, bar_format="{desc}", leave=False, disable=None)
    return bar
