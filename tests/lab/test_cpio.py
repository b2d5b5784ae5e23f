"""Archives: read as they were written, or refused."""

from __future__ import annotations

import pytest

from vmsnap_nb.errors import ImageError
from vmsnap_nb.lab.cpio import Entry, pack, unpack


def test_an_archive_is_read_as_it_was_written() -> None:
    entries = [Entry.folder("bin"), Entry.file("bin/a", b"12345", executable=True), Entry.file("é", b"")]
    data = pack(entries)
    assert list(unpack(data)) == entries
    for broken in (b"", b"070701", data[:150], data[:-130], b"x" * 200, data.replace(b"070701", b"07070Z", 1)):
        with pytest.raises(ImageError):
            list(unpack(broken))
