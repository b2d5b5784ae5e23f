"""The lines of a table of file systems, /etc/fstab: of this machine, or in the disk of a guest. Source: fstab(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["mount_points", "unescaped"]


def mount_points(table: str) -> Iterator[tuple[str, str]]:
    """Yield devices, as they are written there, and the folders where they are mounted."""
    for line in table.splitlines():
        words = line.split()
        if len(words) >= 2 and not words[0].startswith("#") and words[1].startswith("/"):
            yield unescaped(words[0]), unescaped(words[1])


def unescaped(word: str) -> str:
    """Return a word of such a table, or of mountinfo, with the characters that are written there as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word)
