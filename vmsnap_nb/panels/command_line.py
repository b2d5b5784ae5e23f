"""A line for the shell of a guest, run by Enter or by its button."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget

__all__ = ["CommandLine"]


class CommandLine(anywidget.AnyWidget):
    """Takes a line, and hands over exactly what stands there when it is entered.

    Parameters
    ----------
    entered : callable
        Called with each line.
    """

    _esm = Path(__file__).parent / "command_line.js"

    def __init__(self, entered: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)
        self.on_msg(lambda _, content, __: entered(str(content["line"])))
