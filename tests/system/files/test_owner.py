"""Whose a file is, and who else can give its name to another file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.fuse import provided

from vmsnap_nb.system.files.owner import owner_of, replaceable

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give files away")
OWN = {0, os.geteuid()}


def test_a_file_belongs_to_the_user_whom_its_status_names(tmp_path: Path) -> None:
    assert owner_of(os.stat(tmp_path)) == os.geteuid()
    assert owner_of(os.stat("/proc/self/mountinfo")) == os.stat("/proc/self/mountinfo").st_uid


@ROOT
@pytest.mark.parametrize(("by", "owner"), [(12345, 12345), (0, 54321)])
def test_what_a_user_has_mounted_is_that_users_whatever_it_says(tmp_path: Path, by: int, owner: int) -> None:
    with provided(tmp_path / "file", b"x", by=by, uid=0 if by else 54321):
        found = os.stat(tmp_path / "file")
        assert (found.st_uid, owner_of(found)) == (0 if by else 54321, owner)


def test_nobody_else_can_replace_a_file_in_own_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder/../folder")
    (tmp_path / "absolute").symlink_to(tmp_path / "link")
    for way in ("folder", "link", "absolute", "folder/../link"):
        assert replaceable(f"{tmp_path}/{way}/file", OWN) == ""


@pytest.mark.parametrize(("mode", "kept"), [(0o757, False), (0o1757, True), (0o755, True), (0o1777, True)])
def test_who_can_write_to_a_folder_can_replace_what_is_in_it(tmp_path: Path, mode: int, *, kept: bool) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    for place in (folder, folder / "below"):
        (place / "file").touch()
    (tmp_path / "link").symlink_to("folder/below")
    folder.chmod(mode)
    for way in ("folder", "folder/below", "link"):
        assert replaceable(f"{tmp_path}/{way}/file", OWN) == ("" if kept else str(folder))


def test_a_link_without_an_end_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    assert replaceable(str(tmp_path / "link"), OWN) == str(tmp_path / "link")
    with pytest.raises(FileNotFoundError):
        replaceable(str(tmp_path / "none" / "file"), OWN)
    assert replaceable(str(tmp_path / "none"), OWN) == ""


@ROOT
def test_the_owner_of_a_folder_or_link_and_members_of_its_group_can_replace_it(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir(mode=0o755)
    (folder / "file").touch()
    link.symlink_to("folder")
    os.lchown(link, 12345, -1)
    assert replaceable(f"{link}/file", OWN) == str(link)
    os.chown(folder, 12345, -1)
    assert replaceable(f"{folder}/file", OWN) == str(folder)
    assert replaceable(f"{link}/file", {*OWN, 12345}) == ""
    os.chown(folder, 0, 12345)
    folder.chmod(0o775)
    assert replaceable(f"{folder}/file", OWN) == str(folder)
    os.chown(folder, 0, 0)
    assert replaceable(f"{folder}/file", OWN) == ""
