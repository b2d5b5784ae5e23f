"""A terminal on a guest's serial console: keys go to the guest, and what it writes comes at once.

xterm.js is in the folder ``xterm``: version 6.0.0 of the package @xterm/xterm of npm, of which it is ``lib/xterm.mjs``
without its last line, which names a source map. A browser gets it when a terminal is opened.
"""

from __future__ import annotations

import re
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.system.guest.serial import SerialConsole
from vmsnap_nb.words.message import t

__all__ = ["Terminal", "TerminalSwitch"]

_HERE = Path(__file__).parent
_KEPT = 1 << 16
"""Bytes of what the guest wrote that a page gets when it is loaded."""
_MOST_UNSEEN = 1 << 17
"""Bytes that a page may not have drawn yet; then the guest has to wait."""
_LINES_BEFORE = 24
"""Lines of the console's log that are shown first."""
_MOST_CELLS = 1000
_NEXT_TRY = 3.0
"""Seconds until a console that could not be opened is tried again."""


@cache
def _module() -> str:
    xterm = (_HERE / "xterm" / "xterm.mjs").read_text(encoding="utf-8")
    xterm = re.sub(r"export\{(\w+) as Terminal\};", r"const XtermTerminal=\1;", xterm)
    return xterm + (_HERE / "terminal.js").read_text(encoding="utf-8")


@cache
def _style() -> str:
    return "".join((_HERE / name).read_text(encoding="utf-8") for name in ("xterm/xterm.css", "terminal.css"))


class Terminal(anywidget.AnyWidget):
    """The serial console of one guest; one thread reads it, until it is closed or the guest stops."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode("").tag(sync=True)  # why it is not connected
    follows = traitlets.Bool(False).tag(sync=True)  # whether the guest can be told how large it is
    wants_focus = traitlets.Bool(True).tag(sync=True)
    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says

    def __init__(self, guest: Guest) -> None:
        words = {
            "label": t("Serial console of {guest}", guest=guest.name),
            "leave": t("Ctrl-C interrupts; Shift+Tab leaves the terminal."),
            "much": t("Too much output for a screen reader"),
        }
        super().__init__(words=words, _esm=_module(), _css=_style())
        self.guest = guest
        self._change = threading.Condition()
        self._recent = bytearray()
        self._sent = self._seen = 0
        self._console: SerialConsole | None = None
        self._thread: threading.Thread | None = None
        self._tried = 0.0
        self._closed = False
        self._wanted: tuple[int, int] | None = None  # rows, columns
        self._told: tuple[int, int] | None = None
        self._resizer: threading.Thread | None = None
        self.on_msg(lambda _, content, __: self._hear(content))

    def update(self, running: bool) -> None:
        """Connect it if the guest runs now, and it is not connected."""
        with self._change:
            idle = self._thread is None and not self._closed
            if idle and running and time.monotonic() - self._tried > _NEXT_TRY:
                self._tried = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="vmsnap terminal", daemon=True)
                self._thread.start()
        if idle and not running:
            self.hint = t("The terminal connects as soon as the guest is running.")

    def _run(self) -> None:
        hint = ""
        try:
            self.follows = self.guest.commands.takes_commands
            if not self._recent:
                self._show(self._before())
            with self.guest.commands.open_terminal() as console:
                hint = self._pass_on(console)
        except VmsnapError as error:
            hint = str(error)
        except Exception as error:  # noqa: BLE001 - shown to the user, whatever it is
            hint = f"{type(error).__name__}: {error}"
        with self._change:
            self._console = self._thread = None
            self._change.notify_all()
            closed = self._closed
        if not closed:
            self.hint = hint

    def _before(self) -> bytes:
        """Return the last lines of the console's log, where this machine has it."""
        try:
            lines = self.guest.console().split("\n")
        except VmsnapError:
            return b""
        return "\r\n".join(lines[-_LINES_BEFORE:]).encode()

    def _pass_on(self, console: SerialConsole) -> str:
        """Show what the guest writes until there is no more; return why."""
        with self._change:
            self._console, self._told = console, None
            if self._closed:
                return ""
        self.hint = ""
        self._start_resizer()
        while data := console.read():
            self._show(data)
            with self._change:
                self._change.wait_for(lambda: self._closed or self._sent - self._seen < _MOST_UNSEEN)
        return console.ended

    def _show(self, data: bytes) -> None:
        with self._change:
            self._recent += data
            del self._recent[:-_KEPT]
            self._sent += len(data)
            self.send({"number": self._sent}, [data])

    def _hear(self, content: Any) -> None:
        """Take what a page says."""
        if "ready" in content:
            with self._change:
                self.send({"number": self._sent, "to": content["ready"]}, [bytes(self._recent)])
        elif "seen" in content:
            with self._change:
                self._seen = max(self._seen, int(content["seen"]))
                self._change.notify_all()
        elif "rows" in content:
            rows, columns = (min(max(int(content[name]), 1), _MOST_CELLS) for name in ("rows", "columns"))
            with self._change:
                self._wanted = (rows, columns)
            self._start_resizer()
        else:
            self.type(str(content.get("keys", "")).encode() + str(content.get("binary", "")).encode("latin-1"))

    def type(self, data: bytes) -> None:
        """Send keys to the guest."""
        with self._change:
            console = self._console
        if console is None:
            return
        try:
            console.type(data)
        except VmsnapError as error:
            self.hint = str(error)

    def _start_resizer(self) -> None:
        with self._change:
            if self.follows and self._resizer is None and self._wanted not in (None, self._told) and self._console:
                self._resizer = threading.Thread(target=self._resize, name="vmsnap terminal size", daemon=True)
                self._resizer.start()

    def _resize(self) -> None:
        """Tell the guest how large the terminal is: again, if it boots or runs another command meanwhile."""
        while True:
            with self._change:
                size = self._wanted
                if size is None or size == self._told or self._console is None or self._closed:
                    self._resizer = None
                    return
            try:
                done = self.guest.commands.resize_terminal(*size)
            except VmsnapError:
                done = False
            with self._change:
                if done:
                    self._told = size
                else:
                    self._change.wait(1.0)

    def close(self) -> None:
        """Let go of the console."""
        with self._change:
            self._closed = True
            if self._console is not None:
                self._console.stop_waiting()
            self._change.notify_all()
        super().close()


class TerminalSwitch(widgets.VBox):
    """Commands one after the other, or a terminal, which is open as long as it is chosen."""

    children: Any  # the trait of the box, which has no type

    def __init__(self, guest: Guest, console: Any) -> None:
        self._guest, self._commands = guest, console
        self._running = False
        self.terminal: Terminal | None = None
        self.choice = widgets.ToggleButtons(options=[(t("Commands"), False), (t("Terminal"), True)])
        self.choice.tooltips = (
            t("run commands one after the other"),
            t("type in the guest's shell, on its serial console"),
        )
        self.choice.add_class("vmsnap-switch")
        self.choice.observe(lambda _: self._show(), "value")
        super().__init__([self.choice, console])
        self.add_class("vmsnap-console")

    def _show(self) -> None:
        old, self.terminal = self.terminal, Terminal(self._guest) if self.choice.value else None
        self.children = (self.choice, self.terminal or self._commands)
        self.update(self._running)
        if old is not None:
            old.close()

    def update(self, running: bool) -> None:
        """Connect the terminal if the guest runs now."""
        self._running = running
        if self.terminal is not None:
            self.terminal.update(running)

    def close(self) -> None:
        """Close it with its terminal; the commands stay."""
        self.children = ()
        if self.terminal is not None:
            self.terminal.close()
        self.choice.close()
        super().close()
