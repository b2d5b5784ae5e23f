"""Images in folders, read without libvirt: the public names of `vmsnap_nb.live.forest`, under their old address."""

from __future__ import annotations

from vmsnap_nb.live.forest import LiveForest, chain, create_overlay, scan

__all__ = ["LiveForest", "chain", "create_overlay", "scan"]
