"""Make docs/places.md: which verb runs from where, as tests have seen it on real hosts.

Usage: ``python scripts/places.py`` takes what tests/hosts/test_places.py has left in build/places into
docs/places.json, and writes the page anew. ``python scripts/places.py --check`` only looks whether the page is what
docs/places.json gives, and whether a cell is empty.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from chinese_tables import chinese_page, in_chinese

ROOT = Path(__file__).resolve().parent.parent
LEFT_BY_TESTS = ROOT / "build" / "places"
ROWS, PAGE = ROOT / "docs" / "places.json", ROOT / "docs" / "places.md"

PLACES = ("local root", "local plain user", "TCP", "ssh")
STATES = ("running", "off")

HEAD = """\
# What runs from where

Each cell shows the result of tests on real guests with libvirt 9.0. The images belong to QEMU's user, and their folder
is a storage pool. The columns describe the user or the connection:

- *Local root* may open the files.
- The *local plain user* is on the same machine and may use libvirt, but may not open the images.
- *TCP* and *ssh* connect to another machine, and no file on that machine is opened.

*This process* means vmsnap_nb. If a plan is refused, the cell shows the concern, and the plan gives the reason and
an alternative that works. `python scripts/places.py` generates this page from the results of the tests.
"""

Rows = dict[str, list[list[str]]]


def page(rows: Rows) -> str:
    """Write the page; a row is the guest's state, the verb and the result, by place."""
    results = {(place, state, verb): result for place, found in rows.items() for state, verb, result in found}
    lines = [HEAD]
    for state in STATES:
        verbs = dict.fromkeys(verb for _, its_state, verb in results if its_state == state)
        lines += [f"## The guest is {state}", "", f"| verb | {' | '.join(PLACES)} |", "|---" * (1 + len(PLACES)) + "|"]
        lines += (
            f"| {verb} | {' | '.join(results.get((place, state, verb), '') for place in PLACES)} |" for verb in verbs
        )
        lines.append("")
    return "\n".join(lines)


def empty(text: str) -> list[str]:
    """Return the lines of a page that have an empty cell."""
    return [line for line in text.splitlines() if line.startswith("|") and "|  |" in line]


def main() -> int:
    """Write the page, or look at it."""
    rows: Rows = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    if "--check" not in sys.argv:
        rows |= {path.stem: json.loads(path.read_text()) for path in LEFT_BY_TESTS.glob("*.json")}
        rows = {place: rows[place] for place in PLACES if place in rows}
        ROWS.write_text(json.dumps(rows, indent=0) + "\n")
        PAGE.write_text(page(rows))
        chinese_page(PAGE).write_text(in_chinese(page(rows)))
        return 0
    text = page(rows)
    for line in empty(text):
        print("empty:", line)
    same = text == PAGE.read_text() and in_chinese(text) == chinese_page(PAGE).read_text()
    if not same:
        print("docs/places.md is not what docs/places.json gives: python scripts/places.py writes it anew")
    return 0 if same and not empty(text) else 1


if __name__ == "__main__":
    sys.exit(main())
