"""What format a file seems to have, by its first bytes, as QEMU's drivers recognise it.

Source: the ``*_probe`` functions of QEMU's block/*.c. Raw images, and VHD images of fixed size, begin with whatever the
guest wrote there: only somebody who uses one can tell.
"""

from __future__ import annotations

from vmsnap_nb.system.qcow2 import format as qcow2_format

__all__ = ["guess_format"]

_BY_START = (
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"QED\0", "qed"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"LUKS\xba\xbe", "luks"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image", "bochs"),
)
_VDI_OFFSET = 0x40
_VDI = (0xBEDA107F).to_bytes(4, "little")
_STARTS = tuple(start for start, _ in _BY_START)


def guess_format(head: bytes) -> str | None:
    r"""Return QEMU's name for the format, or None, from the first 512 bytes of a file.

    Examples
    --------
    >>> guess_format(b"QFI\xfb\0\0\0\3")
    'qcow2'
    >>> guess_format(b"any other content") is None
    True
    """
    if head.startswith(qcow2_format.MAGIC):
        return "qcow" if head[4:8] == b"\0\0\0\1" else "qcow2"
    if head.startswith(_STARTS):
        return next(name for start, name in _BY_START if head.startswith(start))
    if head[_VDI_OFFSET : _VDI_OFFSET + 4] == _VDI:
        return "vdi"
    return None
