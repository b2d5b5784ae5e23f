"""Runs a qemu-img command that takes long: it says how far it is, and can be ended.

With ``-p`` qemu-img writes ``(12.34/100%)`` and a carriage return, again and again
(https://www.qemu.org/docs/master/tools/qemu-img.html).
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import tempfile
from collections.abc import Callable, Sequence

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.os_errors import from_os_error
from vmsnap_nb.system.packages import install_sentence
from vmsnap_nb.system.process import Completed

__all__ = ["run_watched"]

_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_LOOK = 0.1
"""Seconds between two looks whether it should end."""


def run_watched(argv: Sequence[str], *, tried: str, tell: Callable[[float], None], stop: Callable[[], bool]) -> bool:
    """Run a qemu-img command to its end, or until it should stop.

    Parameters
    ----------
    argv : sequence of str
        The whole command; its ``-q`` becomes ``-p``.
    tried : str
        What it is for, as a sentence without a full stop.
    tell : callable
        Is told again and again how much is done, from 0 to 1.
    stop : callable
        Whether to end it: it is killed, so only give it where that leaves the images valid.

    Returns
    -------
    bool
        Whether it came to its end.

    Raises
    ------
    VmsnapError
        As `vmsnap_nb.system.qemu_img.run`.
    """
    command = tuple("-p" if word == "-q" else word for word in argv)
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                start_new_session=True,  # an interrupt is for us to hear, and `stop` then ends it
            )
        except FileNotFoundError as error:
            raise MissingPartError(
                tried,
                said=f"there is no program {command[0]}",
                next_step=f"install it: {install_sentence(command[0])}",
            ) from error
        except OSError as error:
            raise from_os_error(error, tried) from error
        with process:
            try:
                ended = _follow(process, tell, stop)
            finally:
                if process.poll() is None:
                    process.kill()
        if not ended:
            return False
        complaints.seek(0)
        words = complaints.read().decode(errors="replace")
    if process.returncode != 0:
        raise qemu_img.error_of(Completed(command, process.returncode, b"", words), tried)
    return True


def _follow(process: subprocess.Popen[bytes], tell: Callable[[float], None], stop: Callable[[], bool]) -> bool:
    assert process.stdout is not None
    shown = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not stop():
            if not selector.select(_LOOK):
                continue
            piece = os.read(process.stdout.fileno(), 1 << 12)
            if not piece:
                process.wait()
                return True
            shown = (shown + piece)[-64:]
            numbers = _PERCENT.findall(shown)
            if numbers:
                tell(float(numbers[-1]) / 100)
    return False
