"""Make docs/kinds.md: which operation works on which kind of snapshot, as tests have seen it on real libvirts.

Usage: ``python scripts/kinds.py`` takes what tests have left in build/kinds and build/debian13/kinds into
docs/kinds.json, and writes the page anew. ``python scripts/kinds.py --check`` only looks whether the page is what
docs/kinds.json gives. Without docs/kinds.json it begins from nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from chinese_tables import chinese_page, in_chinese

ROOT = Path(__file__).resolve().parent.parent
LEFT_BY_TESTS = ("build/kinds", "build/debian13/kinds")
ROWS, PAGE = ROOT / "docs" / "kinds.json", ROOT / "docs" / "kinds.md"

KINDS = ("internal-disk", "internal-checkpoint", "external-disk", "external-checkpoint", "vm-state")
STATES = ("off", "running")
OPERATIONS = ("create", "list", "revert", "delete")

REASONS = {
    ("vm-state", "running", "revert"): "a guest resumes from saved memory only after it was shut off",
    (
        "vm-state",
        "running",
        "list",
    ): "libvirt keeps saved memory only for a guest that is off",
    (
        "vm-state",
        "off",
        "delete",
    ): "the state is one file: remove a managed save with `virsh managedsave-remove`, and other files with `rm`",
    ("vm-state", "running", "delete"): "a managed save is used up when its guest starts",
}
"""Why nothing was tried, by kind, state and operation."""

VERBS = ("external snapshot", "internal snapshot", "commit", "pull", "revert", "delete a snapshot")
_W, _NO = "works", "refused: not-supported"
_FILE = "works if you specify a file for the overlay"
_ROOM = "works; refused: no-space if the device is too small"
_INSIDE = f"{_NO}, as only qcow2 can hold internal snapshots"
_KEY = f"{_NO}, as qemu-img has no key"
_STARTS = f"{_NO}, as libvirt would not start the guest"
_CLEAR = f"{_NO}, as the data would no longer be encrypted"
_WARNED = "works, with a warning: the overlay is not encrypted"
_WHOLE = f"{_NO}, as an overlay can only be based on the whole file"
_OPTIONS = f"{_NO}, as the header names the part of the file"
_DATA = f"{_NO}, as qemu-img would need both files"
_CLOSED = f"{_NO}, as QEMU does not open this image"
_NEVER = "*no snapshot of this disk can be taken*"
_LOST = f"{_NO} (can be waived), as the snapshot could not be deleted"
_ALONE = "*it has no backing file*"
_HEADER = "refused: untrusted-backing if only a header names the device"
_W_ABOVE = "works, into an overlay on the device"
_ABOVE = "works, but only in the layers above the disk"
_FAR = "refused: not-supported when merging into the disk itself"
DISKS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "qcow2 on a block device": (
        "tests/hosts/test_disk_verbs.py",
        {
            "off": (_FILE, _W, f"{_ROOM}; {_HEADER}", f"{_ROOM}; {_HEADER}", _W, _W),
            "running": (_FILE, _W, _W, _W, _W, _W),
        },
    ),
    "raw block device": (
        "tests/hosts/test_disk_verbs.py",
        {
            "off": (_FILE, _INSIDE, _ROOM, _W_ABOVE, _W, _W),
            "running": (_FILE, _INSIDE, _W, _W_ABOVE, _W, _W),
        },
    ),
    "LUKS inside qcow2": (
        "tests/hosts/test_disk_verbs.py",
        {
            "off": (_STARTS, _KEY, _KEY, _KEY, _STARTS, _KEY),
            "running": (_WARNED, f"{_NO}, as QEMU would exit", _W, _CLEAR, _STARTS, _W),
        },
    ),
    "raw LUKS": (
        "tests/hosts/test_disk_verbs.py",
        {
            "off": (_STARTS, _INSIDE, _KEY, _KEY, _STARTS, _KEY),
            "running": (_WARNED, _INSIDE, _W, _CLEAR, _STARTS, _W),
        },
    ),
    "qcow2 with an external data file": (
        "tests/hosts/test_disk_verbs.py",
        {
            "off": (_LOST, f"{_NO}, as QEMU does not support this", f"{_ABOVE}; {_FAR}", _DATA, _W, _DATA),
            "running": ("*libvirt gives QEMU no access to the data file*",) * 6,
        },
    ),
    "part of a file (`<slices>`)": (
        "tests/hosts/test_disk_verbs.py",
        {
            "off": (_WHOLE, _INSIDE, _WHOLE, _WHOLE, _WHOLE, _WHOLE),
            "running": (
                f"{_NO}, as the snapshot could not be deleted",
                _INSIDE,
                f"{_ABOVE}; {_FAR}",
                _OPTIONS,
                _WHOLE,
                _OPTIONS,
            ),
        },
    ),
    "base in vmdk, vdi, vhdx, vpc, qed, qcow or parallels": (
        "tests/hosts/test_disk_verbs.py",
        {
            "off": (
                _W,
                _W,
                f"works; {_NO} (can be waived) when merging into the base; {_NO} above parallels",
                _W,
                _W,
                _W,
            ),
            "running": (_W, "refused: not-supported, as libvirt could not save the memory", _W, _W, _W, _W),
        },
    ),
    "network disk (NBD)": (
        "tests/live/merge/test_network.py",
        {
            "off": (
                f"{_ABOVE}; {_NO} for the disk itself",
                "*only a qcow2 layer above the disk can hold an internal snapshot*",
                f"{_ABOVE}; {_FAR}",
                _ABOVE,
                _ABOVE,
                _ABOVE,
            ),
            "running": (
                _FILE,
                "*only a qcow2 layer above the disk can hold an internal snapshot*",
                f"{_ABOVE}; {_FAR}",
                f"{_ABOVE}; {_NO} if the base is included",
                _W,
                f"{_ABOVE}; {_NO} if the base is included",
            ),
        },
    ),
    "features that QEMU does not know": (
        "tests/live/merge/test_unsupported.py",
        {
            "off": (_CLOSED, _CLOSED, _CLOSED, _CLOSED, _NEVER, _NEVER),
            "running": ("*QEMU does not open this image*",) * 6,
        },
    ),
}
"""By kind of disk: the tests that have seen it, and by the guest's state what each verb does with it."""

DISKS_HEAD = """\
## What a disk can be

The tests used libvirt 9.0 and QEMU 7.2. If vmsnap_nb refuses a snapshot, the other operations were tested with a
snapshot that virsh created. If possible, virsh created this snapshot while the guest was running. Of the bases in other
formats, only vmdk was tested with a guest.
"""

HEAD = """\
# What works on which libvirt

Each cell shows the result of tests on real guests with that version of libvirt. *off* and *running* describe the state
of the guest at the start of the operation. A paused guest counts as running, because QEMU has its images open. Cells in
*italics* do not apply, for the reason given. *In single steps* means that vmsnap_nb performs the operation without the
command that libvirt has for this operation. `python scripts/kinds.py` generates this page from the results of the
tests.
"""


def collect() -> list[list[str]]:
    """Lay what tests have left over what is known; each row is version, kind, state, operation, test, result."""
    known = json.loads(ROWS.read_text()) if ROWS.exists() else []
    rows = {tuple(row[:5]): row[5] for row in known}
    for folder in LEFT_BY_TESTS:
        for path in sorted((ROOT / folder).glob("*.json")):
            rows |= {(path.stem, *row[:4]): row[4] for row in json.loads(path.read_text())}
    return [[*key, result] for key, result in sorted(rows.items())]


def page(rows: Iterable[list[str]]) -> str:
    """Write the page.

    Raises
    ------
    ValueError
        A row about something that the table does not have.
    """
    results: dict[tuple[str, ...], set[str]] = {}
    for version, kind, state, operation, _, result in rows:
        if kind not in KINDS or state not in STATES or operation not in OPERATIONS:
            raise ValueError(f"no such row in the table: {kind}, {state}, {operation}")
        results.setdefault((version, kind, state, operation), set()).add(result)
    versions = sorted({key[0] for key in results}, key=lambda version: [int(part) for part in version.split(".")])
    lines = [HEAD]
    for operation in OPERATIONS:
        lines += [f"## {operation.capitalize()}", ""]
        lines += ["| kind | guest | " + " | ".join(f"libvirt {version}" for version in versions) + " |"]
        lines += ["|---" * (2 + len(versions)) + "|"]
        for kind in KINDS:
            for state in STATES:
                cells = [cell(results, version, kind, state, operation) for version in versions]
                lines.append(f"| {kind} | {state} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join((*lines, *disks()))


def disks() -> list[str]:
    """Write the table of what a disk can be.

    Raises
    ------
    ValueError
        A row has not one cell for each verb, or names tests that are not there.
    """
    lines = [DISKS_HEAD, f"| disk | guest | {' | '.join(VERBS)} |", "|---" * (2 + len(VERBS)) + "|"]
    for kind, (tests, cells) in DISKS.items():
        if tuple(cells) != STATES or not (ROOT / tests).exists():
            raise ValueError(f"the row of {kind} is not whole")
        for state, row in cells.items():
            if len(row) != len(VERBS):
                raise ValueError(f"the row of {kind} has {len(row)} cells, and there are {len(VERBS)} verbs")
            lines.append(f"| {kind} | {state} | {' | '.join(row)} |")
    return [*lines, ""]


def cell(results: dict[tuple[str, ...], set[str]], version: str, kind: str, state: str, operation: str) -> str:
    """Write one cell; empty where nothing was seen and no reason is known."""
    seen = results.get((version, kind, state, operation))
    if seen:
        return "; ".join(sorted(seen, key=lambda result: (not result.startswith("works"), result)))
    reason = REASONS.get((kind, state, operation))
    return f"*{reason}*" if reason else ""


def empty(text: str) -> list[str]:
    """Return the lines of a page that have an empty cell."""
    return [line for line in text.splitlines() if line.startswith("|") and "|  |" in line]


def main() -> int:
    """Write the page, or look at it."""
    if "--check" in sys.argv:
        text = page(json.loads(ROWS.read_text()))
        same = text == PAGE.read_text() and in_chinese(text) == chinese_page(PAGE).read_text()
        for line in empty(text):
            print("empty without a reason:", line)
        if not same:
            print("docs/kinds.md is not what docs/kinds.json gives: python scripts/kinds.py writes it anew")
        return 0 if same and not empty(text) else 1
    rows = collect()
    ROWS.write_text(json.dumps(rows, indent=0) + "\n")
    PAGE.write_text(page(rows))
    chinese_page(PAGE).write_text(in_chinese(page(rows)))
    print(f"{PAGE}: {len(rows)} results, {len(empty(PAGE.read_text()))} lines with empty cells")
    return 0


if __name__ == "__main__":
    sys.exit(main())
