"""What an image is: where it lies. Paths and addresses are its names."""

from __future__ import annotations

__all__ = ["Identity"]

Identity = tuple[int | str, ...]
"""Where an image lies; equal for all of its names.

Of a file it is device and inode, of a block device ``device`` and its number, of an image on the network the protocol
with host and port, or socket, and the export.
"""
