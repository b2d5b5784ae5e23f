"""Files of ours that are not complete: how they are made, and which of them nobody completes any more."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from support.images import create

from vmsnap_nb.system.files import temporary as files
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.temporary import incomplete, is_temporary, leftovers, publish_new, temporary

NAME = "." + 32 * "a" + ".partial"


def left(folder: Path) -> list[str]:
    return [os.path.basename(path) for path, _ in leftovers(str(folder))]


def test_a_name_that_is_taken_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / NAME).symlink_to(victim)

    class Foreseen:
        hex = 32 * "a"

    monkeypatch.setattr(files.uuid, "uuid4", Foreseen)  # type: ignore[attr-defined]
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "x", b"theirs")
    assert victim.read_text() == "mine"
    assert (tmp_path / NAME).is_symlink()


def test_file_and_folder_are_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def replaced(*names: str) -> None:
        order.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_whole(tmp_path / "x", b"1")
    assert order == ["file", "rename", "folder"]
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_a_file_gets_its_name_whatever_has_its_temporary_one_by_then(tmp_path: Path) -> None:
    """A move to another file system would remove the original for somebody else's file."""
    with temporary(str(tmp_path)) as new:
        os.write(new.fd, b"mine")
        os.rename(new.path, tmp_path / "taken")
        Path(new.path).write_text("theirs")
        publish_new(new, str(tmp_path / "x"))
        assert (tmp_path / "x").read_text() == "mine"
        with pytest.raises(FileExistsError):
            publish_new(new, str(tmp_path / "x"))


@pytest.mark.parametrize("name", ["x" + NAME, NAME + "x", ".abc.partial", "." + 32 * "g" + ".partial", NAME[1:]])
def test_only_names_of_ours_are(tmp_path: Path, name: str) -> None:
    assert is_temporary(NAME)
    assert not is_temporary(name)
    (tmp_path / name).write_text("")
    assert left(tmp_path) == []


def test_what_is_written_or_open_or_no_file_of_ours_stays(tmp_path: Path) -> None:
    with temporary(str(tmp_path)):
        assert left(tmp_path) == []
    path = tmp_path / NAME
    with path.open("w"):
        assert left(tmp_path) == []
    assert left(tmp_path) == [NAME]
    if os.geteuid() == 0:
        os.chown(path, 1234, -1)
        assert left(tmp_path) == []
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert left(tmp_path) == []
    path.unlink()
    path.mkdir()
    assert left(tmp_path) == []


def test_without_locks_a_file_is_left_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "is_claimed", lambda fd: None)
    path = tmp_path / NAME
    path.write_text("")
    assert left(tmp_path) == []
    os.utime(path, (time.time() - 90_000,) * 2)
    assert left(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("at", "value", "begun"),
    [(24, 0, True), (24, 1 << 20, False), (0, 1, False)],
    ids=["no size yet", "a disk", "another format"],
)
def test_an_overlay_is_incomplete_until_its_disk_has_a_size(tmp_path: Path, at: int, value: int, begun: bool) -> None:
    path = create(tmp_path / "new.qcow2", size=1 << 20)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(value.to_bytes(8, "big"))
    assert (incomplete(str(path)) is not None) is begun
    with path.open("r+b") as file:
        file.seek(60)
        file.write((1).to_bytes(4, "big"))
    assert incomplete(str(path)) is None, "a snapshot has a size of its own"
