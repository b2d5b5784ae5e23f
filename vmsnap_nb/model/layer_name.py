"""How libvirt is told a layer of a running guest's chain that has no path."""

from __future__ import annotations

from vmsnap_nb.model.libvirt_xml import disk_at, parse_xml

__all__ = ["layer_name"]


def layer_name(xml: str, target: str, depth: int) -> str | None:
    """Return the name of a layer by its depth below the image of a disk, as the live XML numbers it.

    Examples
    --------
    >>> layer_name(
    ...     "<domain><devices><disk><source file='/a' index='1'/><backingStore index='2'/><target dev='vda'/></disk>"
    ...     "</devices></domain>",
    ...     "vda",
    ...     1,
    ... )
    'vda[2]'
    """
    layer = disk_at(parse_xml(xml), target)
    for _ in range(depth):
        layer = None if layer is None else layer.find("backingStore")
    index = None if layer is None else layer.get("index")
    return None if index is None else f"{target}[{index}]"
