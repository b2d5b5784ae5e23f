"""Runs a qemu-img command that takes long: it says how far it is, and can be ended.

With ``-p`` qemu-img writes ``(12.34/100%)`` and a carriage return, again and again
(https://www.qemu.org/docs/master/tools/qemu-img.html).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.words.message import Message

__all__ = ["run_watched"]

_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")


def run_watched(
    argv: Sequence[str], *, tried: Message, tell: Callable[[float], None], stop: Callable[[], bool]
) -> bool:
    """Run a qemu-img command until it ends or should stop; return whether it came to its end.

    Its ``-q`` becomes ``-p``. `tell` is called again and again with how much is done, from 0 to 1. Where `stop` says so
    the command is killed, so only give it where that leaves the images valid.
    """
    shown = b""

    def take(piece: bytes) -> None:
        nonlocal shown
        shown = (shown + piece)[-64:]
        numbers = _PERCENT.findall(shown)
        if numbers:
            tell(float(numbers[-1]) / 100)

    command = tuple("-p" if word == "-q" else word for word in argv)
    return not qemu_img.run(command, tried=tried, take=take, stop=stop).stopped
