"""Calls that do a part of what they are asked for: nothing is taken for whole that is not."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmsnap_nb.system.files.copying import copy_content
from vmsnap_nb.system.files.writing import write_all
from vmsnap_nb.words.message import Message

DATA = random.Random(1).randbytes(300_000)


def no_ranges(*_: object) -> int:
    return 0


def halves(call: Callable[..., int]) -> Callable[..., int]:
    """A call that writes half of what it is given, as a disk that becomes full lets it."""
    return lambda fd, data, at: call(fd, data[: (len(data) + 1) // 2], at)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    (tmp_path / "old").write_bytes(DATA)
    descriptors = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("old", "new")]
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_what_is_written_in_parts_is_all_there(files: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", halves(os.pwrite))
    write_all(files[1], DATA, 5)
    assert os.pread(files[1], len(DATA) + 9, 5) == DATA


@pytest.mark.parametrize("ranges", [no_ranges, os.copy_file_range])
def test_a_copy_is_whole(files: list[int], ranges: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", ranges)
    monkeypatch.setattr(os, "pwrite", halves(os.pwrite))
    copy_content(*files)
    assert os.pread(files[1], len(DATA) + 9, 0) == DATA


def test_a_copy_of_a_file_that_becomes_shorter_is_an_error(files: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", no_ranges)
    read = os.pread

    def shorter(fd: int, size: int, at: int) -> bytes:
        return read(fd, min(size, 4096), at) if at < 8192 else b""

    monkeypatch.setattr(os, "pread", shorter)
    with pytest.raises(OSError, match="became shorter") as caught:
        copy_content(*files)
    assert isinstance(caught.value.strerror, Message)
