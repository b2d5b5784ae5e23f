"""A guest's console: what is entered appears at once, and then what it printed and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.words.message import t

__all__ = ["Console"]

_KEPT = 50
"""Commands that stay to be seen."""


class Console(anywidget.AnyWidget):
    """Runs lines in the shell of one guest, one after the other, and shows them."""

    _esm = Path(__file__).parent / "console.js"

    # Each a token, the prompt, the line, its output, a state (running, ok, failed) and the words on its badge.
    entries: Any = traitlets.List([]).tag(sync=True)
    prompt = traitlets.Unicode("").tag(sync=True)
    booting = traitlets.Unicode("").tag(sync=True)  # the last lines of the guest's own console while it boots
    hint = traitlets.Unicode("").tag(sync=True)  # why nothing can be run now
    closed = traitlets.Bool(False).tag(sync=True)  # whether that is so until somebody starts the guest
    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says

    def __init__(self, guest: Guest, ended: Callable[[str, str], None] = lambda *_: None) -> None:
        words = {
            "label": t("Command"),
            "placeholder": t("shell command"),
            "run": t("Run in guest"),
            "stop": t("Interrupt"),
            "stop_title": t("stop the running command (Ctrl-C)"),
            "running": t("running"),
            "output": t("Output of the console"),
            "booting": t("Last lines of the console"),
        }
        super().__init__(words=words, prompt=guest.name)
        self.guest = guest
        self._ended = ended
        self._one = threading.Lock()
        self._change = threading.Lock()
        self._count = 0
        self._interrupted = False
        self.on_msg(lambda _, content, __: self._told(content))

    def _told(self, content: Any) -> None:
        if content.get("interrupt"):
            self.interrupt()
        else:
            self.execute(str(content["line"]), str(content.get("token", "")))

    def execute(self, line: str, token: str = "") -> threading.Thread:
        """Run a line in a thread; those that were entered before come first."""
        with self._change:
            self._count += 1
            token = token or f"python-{self._count}"
            entry = {"token": token, "prompt": self.prompt, "line": line, "text": "", "state": "running", "badge": ""}
            self.entries = [*self.entries[-_KEPT + 1 :], entry]
        thread = threading.Thread(target=self._run, args=(line, token), name="vmsnap console", daemon=True)
        thread.start()
        return thread

    def _run(self, line: str, token: str) -> None:
        with self._one:
            self._interrupted = False
            try:
                done = self.guest.execute(line)
            except VmsnapError as error:
                text, state, badge = str(error), "failed", t("failed")
                if self._interrupted:
                    text, badge = "", t("interrupted")
            except Exception as error:  # noqa: BLE001 - shown to the user, whatever it is
                text, state, badge = f"{type(error).__name__}: {error}", "failed", t("failed")
            else:
                text = (done.stdout + done.stderr).removesuffix("\n")
                text = "\n".join([text, t("[the output is truncated]")]) if done.cut else text
                state = "failed" if done.exit_status else "ok"
                badge = t("exit {status}", status=done.exit_status)
        with self._change:
            ended = {"text": text, "state": state, "badge": badge}
            self.entries = [{**one, **ended} if one["token"] == token else one for one in self.entries]
        self._ended(line, badge)

    def interrupt(self) -> None:
        """End the command that is running."""
        self._interrupted = self.guest.commands.interrupt()
