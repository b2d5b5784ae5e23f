"""The initial file system of guests: what it is made of."""

from __future__ import annotations

import gzip

import pytest

from vmsnap_nb.errors import ImageError
from vmsnap_nb.lab.alpine import find_alpine
from vmsnap_nb.lab.cpio import Entry, pack, unpack
from vmsnap_nb.lab.initrd import build_initrd, without_signature


def test_an_initial_file_system_needs_its_parts() -> None:
    with pytest.raises(ImageError, match="does not contain busybox"):
        build_initrd(gzip.compress(pack([Entry.file("etc/x", b"1")])))
    with pytest.raises(ImageError, match="read the distribution"):
        build_initrd(b"not compressed")


def test_modules_come_without_their_signature() -> None:
    signature, mark = b"s" * 300, b"~Module signature appended~\n"
    signed = b"\x7fELF code" + signature + bytes(8) + len(signature).to_bytes(4, "big") + mark
    assert without_signature(signed) == b"\x7fELF code"
    assert without_signature(b"\x7fELF code") == b"\x7fELF code"
    modules = [entry for entry in unpack(build_initrd(find_alpine().initrd.read_bytes())) if "modules/" in entry.name]
    assert len(modules) > 3
    assert not any(mark in entry.data for entry in modules)
