"""Where the last cluster in use of a qcow2 image ends: what it takes of a block device, which has no length of its own.

Source: QEMU, docs/interop/qcow2.rst, "Host cluster management".
"""

from __future__ import annotations

import os

from vmsnap_nb.system.qcow2 import format as f

__all__ = ["image_end"]


def image_end(fd: int, head: bytes, size: int) -> int | None:
    """Return the end of the last cluster that is counted as in use, in bytes; None where the counts cannot be read.

    `head` is the fixed part of a header that was found to be sound, `size` the length of what holds the image.
    """
    header = f.HEADER.unpack_from(head[:16] + head[20:].ljust(f.HEADER.size, b"\0"))
    version, bits, table_at, table_clusters, order = (int(header[n]) for n in (1, 3, 8, 9, 15))
    order = f.VERSION_2_REFCOUNT_ORDER if version == 2 else order
    cluster = 1 << bits
    table = os.pread(fd, min(table_clusters << bits, f.MOST_REFCOUNT_TABLE_BYTES), table_at)
    for number in range(len(table) // 8 - 1, -1, -1):
        block_at = int.from_bytes(table[number * 8 : number * 8 + 8]) & ~511
        if not block_at:
            continue
        if block_at >= size:
            return None
        block = os.pread(fd, cluster, block_at).rstrip(b"\0")
        if block:
            counted = cluster * 8 >> order
            last = (len(block) * 8 - 1) >> order
            if order < 3:  # several counts in a byte, the first in its lowest bits
                last = (len(block) - 1 << 3 - order) + (block[-1].bit_length() - 1 >> order)
            return min((number * counted + last + 1) << bits, size)
    return None
