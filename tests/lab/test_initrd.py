"""The initial file system of guests: what it is made of."""

from __future__ import annotations

import gzip

import pytest

from vmsnap_nb.errors import ImageError
from vmsnap_nb.lab.cpio import Entry, pack
from vmsnap_nb.lab.initrd import build_initrd


def test_an_initial_file_system_needs_its_parts() -> None:
    with pytest.raises(ImageError, match="no busybox"):
        build_initrd(gzip.compress(pack([Entry.file("etc/x", b"1")])))
    with pytest.raises(ImageError, match="read the distribution"):
        build_initrd(b"not compressed")
