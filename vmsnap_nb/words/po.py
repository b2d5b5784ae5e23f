"""The catalogues' format, GNU gettext's PO, as far as `scripts/catalogues.py` writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

__all__ = ["entries", "plural_rule"]

_KEYWORD = re.compile(r'(msgid_plural|msgid|msgstr(?:\[\d+\])?) (?=")')


def entries(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each template with its translations, one for each form of the plural; the head of the file is that of ''.

    An entry that a tool marked as fuzzy, a guess of its own, is left out.
    """
    for entry in text.split("\n\n"):
        parts: list[tuple[str, list[str]]] = []
        for line in entry.splitlines():
            found = _KEYWORD.match(line)
            if found:
                parts.append((found[1], []))
            if line.startswith("#,") and "fuzzy" in line:
                break
            if not line.startswith("#") and line:
                parts[-1][1].append(json.loads(line[found.end() if found else 0 :]))
        else:
            texts = {name: "".join(pieces) for name, pieces in parts}
            if "msgid" in texts:
                yield texts["msgid"], tuple(text for name, text in texts.items() if name.startswith("msgstr"))


def plural_rule(head: str) -> str:
    """Return the expression in ``n`` that the head of a catalogue gives for the number of the plural's form."""
    found = re.search(r"plural=([^;\n]+)", head.partition("Plural-Forms:")[2])
    return found[1] if found else "n != 1"
