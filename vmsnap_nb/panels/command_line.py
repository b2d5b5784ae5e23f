"""A line for the shell of a guest, run by Enter or by its button."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.words.message import t

__all__ = ["CommandLine"]


class CommandLine(anywidget.AnyWidget):
    """Takes a line, and calls `entered` with exactly what stands there when it is entered."""

    _esm = Path(__file__).parent / "command_line.js"

    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says

    def __init__(self, entered: Callable[[str], None], **options: Any) -> None:
        words = {
            "label": t("Command"),
            "placeholder": t("a command line for the guest's shell"),
            "run": t("Run in guest"),
        }
        super().__init__(words=words, **options)
        self.on_msg(lambda _, content, __: entered(str(content["line"])))
