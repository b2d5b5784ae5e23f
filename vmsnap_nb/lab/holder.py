"""Who has a lab open: the notebook or program and its process, as it writes itself down in the lab's folder."""

from __future__ import annotations

import os
import sys

from vmsnap_nb.errors import LabBusyError
from vmsnap_nb.words.message import Message, t

__all__ = ["MOST_OF_HOLDER", "busy", "own_name"]

MOST_OF_HOLDER = 4096
"""Bytes that are read of what the other process wrote."""


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


def busy(tried: Message, holder: str) -> LabBusyError:
    """Return the error of a lab that another process has open, from what that process wrote down."""
    pid, name, *_ = (*("".join(c for c in line if c.isprintable()) for line in holder.splitlines()), "", "")
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
