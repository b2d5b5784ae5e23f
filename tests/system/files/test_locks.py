"""Who holds an image: asked of the kernel."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import qemu_io
from support.images import MIB, create

from vmsnap_nb.model.guest import Use
from vmsnap_nb.system.files.locks import claim, deleted_and_open, held, holders, open_for_writing, release
from vmsnap_nb.system.survey import Survey


def identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


@pytest.mark.system
def test_a_process_that_writes_holds_its_image_and_reads_the_base(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    over = create(tmp_path / "over", base, size=MIB)
    survey = Survey((str(tmp_path),))
    assert {image.held for image in survey.read()} == {""}
    with qemu_io(over) as pid:
        forest = survey.read()
        assert (forest[str(over)].held, forest[str(base)].held) == ("write", "read")
        assert (forest.status(str(over)), forest.status(str(base))) == ("in-use", "ok")
        used = survey.read([Use("demo", "vda", str(over), "running")])
        assert used.status(str(over)) == "ok"
        assert holders(identity(over)) == holders(identity(base)) == [(pid, "qemu-io")]
    forest = survey.read()
    assert {image.held for image in forest} == {""}
    assert forest.status(str(over)) == "ok"
    assert holders(identity(over)) == []


@pytest.mark.system
def test_a_process_that_only_reads(tmp_path: Path) -> None:
    image = create(tmp_path / "image", size=MIB)
    with qemu_io(image, "-r"):
        assert Survey((str(tmp_path),)).read()[str(image)].held == "read"


def test_a_process_without_locks_holds_nothing(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    with open(image, "r+b") as file:
        assert held(file.fileno()) == ""
        assert holders(identity(image)) == []


@pytest.mark.system
def test_a_dirty_image_is_only_told_of_when_nobody_has_it_open(tmp_path: Path) -> None:
    image = create(tmp_path / "image", size=MIB, lazy_refcounts="on")
    with qemu_io(image) as _:
        dirty(image)
        assert Survey((str(tmp_path),)).read()[str(image)].problem == ""
    dirty(image)
    assert "not closed properly" in Survey((str(tmp_path),)).read()[str(image)].problem


def dirty(image: Path) -> None:
    with open(image, "r+b") as file:
        file.seek(79)
        file.write(b"\1")


@pytest.mark.system
def test_a_writer_is_seen_among_readers(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    survey = Survey((str(tmp_path),))
    with qemu_io(base, "-r"), qemu_io(base, "-r"):
        assert survey.read()[str(base)].held == "read"
    with raw_locks(base, 100), raw_locks(base, 100, 101), raw_locks(base, 100):
        assert survey.read()[str(base)].held == "write"
    with raw_locks(base, 201, 203):  # others must not write; nobody does
        assert survey.read()[str(base)].held == ""


@contextmanager
def raw_locks(path: Path, *positions: int) -> Iterator[None]:
    """Lock single bytes as QEMU does, by another open file."""
    with open(path, "rb") as file:
        for position in positions:
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, position, 1, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        yield


def test_a_lock_comes_and_goes_on_a_file_that_does_not_change(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"QFI\xfb")
    (tmp_path / "link").symlink_to(image)
    time.sleep(0.05)
    survey = Survey((str(tmp_path),))
    for positions, expected in (((), ""), ((100,), "read"), ((100, 101), "write"), ((), "")):
        with raw_locks(image, *positions):
            assert {one.held for one in survey.read()} == {expected}


FORKED = """
import os, signal, sys, time
from vmsnap_nb.errors import StalePlanError
from vmsnap_nb.live.claim import Claim
from vmsnap_nb.live.handle import guard

def taken(path):
    try:
        Claim("try", "", [path]).release()
    except StalePlanError:
        return True
    return False

claim = Claim("hold", "uuid", [sys.argv[1]])
guard("uuid").acquire()
ready, tell = os.pipe()
child = os.fork()
if child == 0:
    os.setsid()
    # What the copy does with what it was given must not close files of its own.
    own = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    claim.release()
    for fd in own:
        os.fstat(fd)
    print("free guest", guard("uuid").acquire(timeout=5), "image taken", taken(sys.argv[1]), flush=True)
    os.close(1)
    os.write(tell, b"x")
    time.sleep(60)
os.read(ready, 1)
if sys.argv[2] == "dies":
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
claim.release()
print("still taken", taken(sys.argv[1]), flush=True)
os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize("end", ["dies", "releases"])
def test_a_forked_child_does_not_keep_a_claim(tmp_path: Path, end: str) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    with subprocess.Popen([sys.executable, "-c", FORKED, str(image), end], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = parent.stdout.read().splitlines()
        parent.wait(30)
    assert said[0] == "free guest True image taken True"
    # Where its parent was killed, the child lives on.
    release(claim(str(image)))
    if end == "dies":
        os.kill(int(said[1]), signal.SIGKILL)
    else:
        assert said[1] == "still taken False"


def test_a_program_that_was_started_does_not_keep_a_claim(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    fd = claim(str(image))
    with subprocess.Popen(["sleep", "60"], pass_fds=[fd]) as other:
        with pytest.raises(BlockingIOError):
            claim(str(image))
        release(fd)
        release(claim(str(image)))
        other.kill()
    release(fd)  # once more does nothing


def test_who_writes_is_seen_without_locks(tmp_path: Path) -> None:
    read, written, gone = (tmp_path / name for name in ("read", "written", "gone"))
    for path in (read, written, gone):
        path.write_bytes(b"x")
    with open(read, "rb"), open(written, "r+b"), open(gone, "r+b"):
        gone.unlink()
        identities = {path: (path.stat().st_dev, path.stat().st_ino) for path in (read, written)}
        assert open_for_writing(identities.values()) == {identities[written]}
        assert deleted_and_open(map(str, (read, written, gone))) == {str(gone)}
    assert open_for_writing(identities.values()) == set()
    assert deleted_and_open([str(gone)]) == set()


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount another file system over a folder")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_deleted_file_of_a_container_is_not_one_of_that_name_here(tmp_path: Path, *, elsewhere: bool) -> None:
    gone = tmp_path / "images" / "gone"
    gone.parent.mkdir()
    mount = f"mount -t tmpfs none {gone.parent} && " if elsewhere else ""
    script = f"{mount}exec 3<>{gone} && rm {gone} && echo open && exec sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        assert deleted_and_open([str(gone)]) == (set() if elsewhere else {str(gone)})
        process.kill()
