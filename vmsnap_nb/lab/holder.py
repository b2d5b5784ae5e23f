"""Who has a lab open: the notebook or program and its process, as it writes itself down in the lab's folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vmsnap_nb.errors import LabBusyError
from vmsnap_nb.words.message import Message, counted, listed, t

__all__ = ["MOST_OF_HOLDER", "busy", "has_ended", "own_name"]

MOST_OF_HOLDER = 4096
"""Bytes that are read of what the other process wrote."""
_DIGITS = 9
"""Of the number of a process, at most."""


def own_name() -> str:
    """Return what this process writes down: its number, and the name of its notebook or script on a second line."""
    return f"{os.getpid()}\n{_notebook() or _script()}\n"


def _notebook() -> str:
    # Jupyter Server says it to each kernel that it starts, and VS Code's extension in a variable of the notebook.
    main = sys.modules.get("__main__")
    return os.environ.get("JPY_SESSION_NAME") or str(getattr(main, "__vsc_ipynb_file__", ""))


def _script() -> str:
    # The program that starts kernels has the same name for all of them.
    name = sys.argv[0] if sys.argv and "ipykernel" not in sys.modules else ""
    return name if os.path.isfile(name) else ""


def has_ended(holder: str) -> bool:
    """Return whether the process that wrote itself down has ended."""
    number = _lines(holder)[0]
    if not number.isdecimal() or len(number) > _DIGITS or not int(number):
        return False
    try:
        os.kill(int(number), 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False


def _lines(holder: str) -> tuple[str, ...]:
    return (*("".join(c for c in line if c.isprintable()) for line in holder.splitlines()), "", "")


def busy(tried: Message, holder: str, left: Sequence[tuple[int, str]] = ()) -> LabBusyError:
    """Return the error of a lab that another process has open, from what that process wrote down.

    If that process has ended, `left` are those that still have its lock open, with their commands, as far as this user
    sees them.
    """
    pid, name, *_ = _lines(holder)
    if left:
        names = [t("process {pid} ({command})", pid=own, command=command) for own, command in left]
        return LabBusyError(
            tried,
            why=counted(
                "{left} still has it open, although process {pid}, which opened the lab, has ended",
                "{left} still have it open, although process {pid}, which opened the lab, has ended",
                len(left),
                left=listed(names),
                pid=pid,
            ),
            next_step=counted(
                "end that process or wait until it ends, or open another lab: Lab(root=…)",
                "end these processes or wait until they end, or open another lab: Lab(root=…)",
                len(left),
            ),
        )
    if name.endswith(".ipynb"):
        return LabBusyError(
            tried,
            why=t("the notebook {notebook} (process {pid}) has it open", notebook=name, pid=pid),
            next_step=t(
                "shut down the kernel of that notebook (in JupyterLab: Running Terminals and Kernels), or open another "
                "lab: Lab(root=…)"
            ),
        )
    why = t("another process has it open")
    if pid:
        why = t("process {pid} has it open", pid=pid)
    if name:
        why = t("the program {program} (process {pid}) has it open", program=name, pid=pid)
    return LabBusyError(
        tried,
        why=why,
        next_step=t(
            "end that process (in JupyterLab: shut down the kernel of that notebook), or open another lab: Lab(root=…)"
        ),
    )
