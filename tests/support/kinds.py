"""What was really tried of each kind of snapshot, on which libvirt, and how it ended.

Tests call `record` once they have seen the end of an operation. At the end of the session `save` adds what they told
to build/kinds/, one file for each version of libvirt; scripts/kinds.py makes docs/kinds.md of these files.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import Literal

from support import ROOT
from vmsnap_nb.system.libvirt.library import library

Kind = Literal["internal-disk", "internal-checkpoint", "external-disk", "external-checkpoint", "vm-state"]
State = Literal["off", "running"]
"""What the guest does when the operation begins; one that is paused counts as running: QEMU has its images open."""
Operation = Literal["create", "list", "revert", "delete"]

FOLDER = ROOT / "build" / "kinds"

_rows: dict[tuple[str, str, str, str], str] = {}


def record(kind: Kind, state: State, operation: Operation, result: str = "works") -> None:
    """Note how an operation ended, as ``works``, ``works, in single steps`` or ``refused: not-supported``.

    Rows of other tests about the same stay; what the same test told before is replaced.
    """
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].partition("@")[0]  # @: its group
    _rows[kind, state, operation, test] = result


def save() -> None:
    """Add what was told to the file of the libvirt in use."""
    if not _rows:
        return
    number = library().getVersion()
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    path = FOLDER / f"{version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:  # several processes may run the tests
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = json.loads(path.read_text()) if path.exists() else []
        rows = {tuple(row[:4]): row[4] for row in known} | _rows
        path.write_text(json.dumps([[*key, result] for key, result in sorted(rows.items())], indent=0) + "\n")
