"""Figures as the handout has them."""

from __future__ import annotations

import re


def normal(text: str) -> list[str]:
    """Take away in what the handout is irregular.

    White space, the number of dashes, and the side of a box beside an arrow, which it leaves out here and there
    (``<--- Overlay-1 |`` and ``<---| Overlay-1 |``).
    """
    lines = []
    for line in text.splitlines():
        line = re.sub(r"-+", "-", line)
        line = re.sub(r"\s*\|?\s*<-\s*\|?\s*", " <- ", line)
        line = re.sub(r"\s+", " ", line).strip()
        lines.append(line)
    return [line for line in lines if line]
