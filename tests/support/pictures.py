"""What is in a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str | bytes) -> list[str]:
    """All texts of an SVG, in its order; Graphviz writes several spaces as no-break spaces."""
    return ["".join(one.itertext()).replace("\xa0", " ") for one in ET.fromstring(svg).iter(f"{SVG}text")]


def is_a(group: ET.Element, kind: str) -> bool:
    return kind in group.get("class", "").split()
