"""Damaged and hostile file systems: an error or rows, within limits, and never harm to this process or machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.filesystems import ext4, fat, lvm, ntfs, xfs
from support.images import KIB, MIB
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, MissingPartError, VmsnapError
from vmsnap_nb.model.files import FileEntry
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.filesystems.messages import Answers, encode, encode_entry
from vmsnap_nb.system.filesystems.reader import DiskState, ask
from vmsnap_nb.system.process import Limits

pytestmark = pytest.mark.system

SOON = 60.0
"""Seconds: each takes less than one on a machine that has nothing else to do."""


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("disks")
    tree = folder / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    for number in range(40):
        (tree / "a" / f"file{number}").write_bytes(b"x" * number * 500)
    (tree / "link").symlink_to("a/file1")
    (folder / "content").write_text("x" * 5000)
    proto = "".join(f"file{number} ---644 0 0 {folder}/content\n" for number in range(60))
    names = {f"file{number}": b"y" * 3000 for number in range(5)}
    made = {
        "ext": ext4(folder / "ext.img", tree, "-b", "1024", size=4 * MIB),
        "xfs": xfs(folder / "xfs.img", f"{proto}d d--755 0 0\n{proto}$\n"),
        "ntfs": ntfs(folder / "ntfs.img", names, size=4 * MIB),
        "fat": fat(folder / "fat.img", {"dir/": b"", **names}, size=4 * MIB),
        "lvm": lvm(folder / "lvm.img", {"root": (folder / "ext.img", [(0, 1)])}),
    }
    return {name: path.read_bytes() for name, path in made.items()}


def try_all(path: Path) -> str:
    """Read what there is, and return how that ended."""
    began = time.monotonic()
    chain = vs.chain(path, format="raw")
    try:
        files = chain.files(recursive=True)
        for entry in [entry for entry in files if entry.kind == "file"][:1]:
            chain.read(entry.path, most=1 * MIB)
        files.to_frame()
        return f"{len(files)} files"
    except VmsnapError as error:
        return type(error).__name__
    finally:
        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("kind", ["ext", "xfs", "ntfs", "fat", "lvm"])
def test_damaged_file_systems_give_rows_or_an_error(kind: str, disks: dict[str, bytes], tmp_path: Path) -> None:
    chance, content = random.Random(kind), disks[kind]
    used = [at for at in range(0, len(content), 512) if content[at : at + 512].strip(b"\0")]
    ended = set()
    for number in range(4):
        damaged = bytearray(content)
        if number == 0:
            del damaged[len(damaged) // 3 :]
        for _ in range(0 if number == 0 else 4**number):
            place = chance.choice(used[: 60 if number % 2 else len(used)]) + chance.randrange(512)
            damaged[place] = chance.choice((0, 255, damaged[place] ^ (1 << chance.randrange(8))))
        disk = tmp_path / f"{number}.img"
        with open(disk, "wb") as file:  # with holes, so that it takes no time
            for at in range(0, len(damaged), MIB):
                if damaged[at : at + MIB].strip(b"\0"):
                    file.seek(at)
                    file.write(damaged[at : at + MIB])
            file.truncate(len(damaged))
        ended.add(try_all(disk))
        disk.unlink()
    assert ended <= {f"{count} files" for count in range(2000)} | {"ImageError", "NotFoundError", "InvalidRequestError"}


def test_a_folder_that_is_in_itself_is_listed_once(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "outer" / "inner").mkdir(parents=True)
    (tree / "outer" / "file").write_text("x")
    disk = ext4(tmp_path / "disk.img", tree, "-O", "^metadata_csum", size=4 * MIB)
    chain = vs.chain(disk, format="raw")
    outer, inner = (chain.files(recursive=True)[path].inode for path in ("/outer", "/outer/inner"))
    data = disk.read_bytes()
    entry = inner.to_bytes(4, "little")
    at = data.index(b"\x05\x02inner") - 6
    assert data[at : at + 4] == entry
    disk.write_bytes(data[:at] + outer.to_bytes(4, "little") + data[at + 4 :])
    files = vs.chain(disk, format="raw").files(recursive=True)
    assert [one.path for one in files if one.kind == "folder"] == ["/lost+found", "/outer", "/outer/inner"]
    assert "the folder contains itself" in files.notes[0]


CHILD = """
import os, resource, socket, subprocess, sys
sys.path[:0] = {path!r}
from vmsnap_nb.system.filesystems.sandbox import lock_down
import ctypes
written = os.open(sys.argv[1] + "/open", os.O_CREAT | os.O_RDWR)
kept = os.open(sys.argv[1] + "/kept", os.O_CREAT | os.O_RDWR)
assert lock_down()
def tried(what):
    try:
        what()
        return "done"
    except (OSError, ValueError, RuntimeError):
        return "refused"
print(tried(lambda: os.pread(kept, 1, 0)),
      tried(lambda: open(sys.argv[1] + "/new", "w")),
      tried(lambda: open("/etc/passwd")),
      tried(lambda: os.unlink(sys.argv[1] + "/kept")),
      tried(lambda: os.rename(sys.argv[1] + "/kept", sys.argv[1] + "/moved")),
      tried(lambda: os.truncate(sys.argv[1] + "/kept", 5)),
      tried(lambda: os.chmod(sys.argv[1] + "/kept", 0)),
      tried(lambda: os.ftruncate(written, 5)),
      tried(socket.socket),
      tried(os.fork),
      tried(lambda: os.kill(os.getppid(), 0)),
      tried(lambda: os.execv("/bin/true", ["true"])),
      tried(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))))
sys.stdout.flush()
os._exit(0)
"""


def test_the_child_can_read_and_nothing_else(tmp_path: Path) -> None:
    code = CHILD.format(path=[str(Path(vs.__file__).parent.parent)])
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["done", *["refused"] * 12], done.stderr
    assert sorted(os.listdir(tmp_path)) == ["kept", "open"]


def test_a_child_that_takes_too_much_is_ended(tmp_path: Path) -> None:
    disk = ext4(tmp_path / "disk.img", size=4 * MIB)
    state = DiskState("x", vs.chain(disk, format="raw").layers)
    request = {"do": "list", "path": "/", "recursive": True}
    for limits in (Limits(seconds=0.001), Limits(memory=32 * MIB)):
        with pytest.raises(ImageError, match=r"did not complete|MemoryError"):
            ask([state], "list /", request, limits=limits)


ASKING = """
import os, sys, threading
import vmsnap_nb as vs
from vmsnap_nb.system.filesystems import reader
from vmsnap_nb.system.filesystems.served import Server

class Never:
    name, size = "far", 1 << 30
    def pread(self, offset, length):
        print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
        threading.Event().wait()
    def close(self): pass

image = vs.chain(sys.argv[1], format="raw").layers[0]
image = image.__class__(**{**{f: getattr(image, f) for f in ("path", "format")}, "known_from": "pool"})
state = reader.DiskState("x", (image,), volume=lambda _: Never())
reader.ask([state], "list /", {"do": "list", "path": "/", "recursive": True})
"""


def test_the_child_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """Nobody would hear its answer; a hostile file system can keep it busy for minutes."""
    disk = ext4(tmp_path / "disk.img", size=4 * MIB)
    asking = subprocess.Popen([sys.executable, "-c", ASKING, str(disk)], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    child = int(asking.stdout.readline())
    assert "filesystems.child" in Path(f"/proc/{child}/cmdline").read_text()
    os.kill(child, signal.SIGSTOP)  # as one that is busy, it does not see that the other end of its streams is closed
    asking.kill()
    asking.wait()
    asking.stdout.close()
    try:
        assert eventually(lambda: _has_ended(child), seconds=5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_without_its_libraries_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytsk3.py").write_text("raise ImportError(\"No module named 'pytsk3'\")")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(vs.__file__).parent.parent}")
    disk = ext4(tmp_path / "disk.img", size=4 * MIB)
    with pytest.raises(MissingPartError, match="pip install pytsk3 libfsxfs-python"):
        vs.chain(disk, format="raw").files()


def test_an_image_of_another_machine_is_not_looked_for_on_this_one(tmp_path: Path) -> None:
    disk = ext4(tmp_path / "disk.img", size=4 * MIB)
    there = Image(str(disk), format="raw", known_from="volume")
    with pytest.raises(ImageError, match="its file is on another machine"):
        ask([DiskState("x", (there,))], "list /", {"do": "list", "path": "/", "recursive": False})


def feed(*lines: bytes) -> Answers:
    answers = Answers()
    for line in lines:
        answers.feed(line)
    return answers


def test_what_a_child_says_is_checked() -> None:
    good = encode("file", encode_entry(FileEntry("/a", size=5)))
    assert feed(good).entries == [FileEntry("/a", size=5)]
    assert feed(good[:7], good[7:]).entries == [FileEntry("/a", size=5)]
    fields = encode_entry(FileEntry("/a"))
    assert fields is not None
    wrong = (
        b"no json\n",
        b'"text"\n',
        b"[]\n",
        encode("__class__"),
        encode("take"),
        encode("file", fields[:-1]),
        encode("file", [5, *fields[1:]]),
        encode("file", [fields[0], "spy", *fields[2:]]),
        encode("file", [*fields[:2], "5", *fields[3:]]),
        encode("file", [*fields[:2], 1 << 70, *fields[3:]]),
        encode("file", ["x" * (65 * KIB), *fields[1:]]),
        encode("change", "/a", "eaten", None, None, 0),
        encode("part", 0, 0, 0, "gold", 0),
        encode("data", 1 << 40),
        encode("data", -1),
        encode("error", "SystemExit", "", "", "", ""),
        encode("note"),
        encode("end") + encode("note", "more"),
        b"x" * (3 * MIB),
        json.dumps(["note", ["x"]]).encode() + b"\n",
    )
    for line in wrong:
        with pytest.raises((ValueError, TypeError)):
            feed(line)


def test_content_is_not_taken_for_a_message() -> None:
    content = bytearray()
    answers = Answers(content.extend)
    evil = encode("error", "ImageError", "", "", "", "")
    for byte in encode("data", len(evil)) + evil + encode("end"):
        answers.feed(bytes([byte]))
    assert (bytes(content), answers.error, answers.ended) == (evil, None, True)
