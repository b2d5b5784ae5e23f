"""Whose a file is, and who else can give its name to another file."""

from __future__ import annotations

import grp
import os
import pwd
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.fuse import provided

from vmsnap_nb.system.files import owner
from vmsnap_nb.system.files.owner import owner_of, replaceable

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give files away")
OWN = {0, os.geteuid()}


def test_a_file_belongs_to_the_user_whom_its_status_names(tmp_path: Path) -> None:
    assert owner_of(os.stat(tmp_path)) == os.geteuid()
    assert owner_of(os.stat("/proc/self/mountinfo")) == os.stat("/proc/self/mountinfo").st_uid


@ROOT
@pytest.mark.parametrize(("by", "whose"), [(12345, 12345), (0, 54321)])
def test_what_a_user_has_mounted_is_that_users_whatever_it_says(tmp_path: Path, by: int, whose: int) -> None:
    with provided(tmp_path / "file", b"x", by=by, uid=0 if by else 54321):
        found = os.stat(tmp_path / "file")
        assert (found.st_uid, owner_of(found)) == (0 if by else 54321, whose)


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


def test_what_is_behind_a_link_and_two_dots_is_what_the_kernel_finds_there(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    (open_to_all / "below").mkdir(parents=True)
    open_to_all.chmod(0o777)
    (tmp_path / "link").symlink_to("open/below")
    (tmp_path / "file").touch()
    assert replaceable(f"{tmp_path}/link/../file", OWN) == str(open_to_all)


def test_a_folder_that_is_missing_can_be_one_that_is_made(tmp_path: Path) -> None:
    assert replaceable(str(tmp_path / "none" / "file"), OWN, may_be_made=True) == ""
    tmp_path.chmod(0o777)
    assert replaceable(str(tmp_path / "none" / "file"), OWN, may_be_made=True) == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "members", "listed", "kept"),
    [
        ("me", [], [], True),  # a directory that lists nobody
        ("me", ["me", "root"], ["me"], True),
        ("me", ["me", "other"], ["me"], False),
        ("users", [], ["me"], True),  # as in many containers
        ("users", [], ["me", "other"], False),
        ("users", [], [], False),
    ],
)
def test_a_group_is_private_if_nobody_else_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, members: list[str], listed: list[str], *, kept: bool
) -> None:
    group, uids = os.stat(tmp_path).st_gid or 12345, {"me": os.geteuid(), "other": 54321}
    os.chown(tmp_path, -1, group)
    tmp_path.chmod(0o770)
    accounts = {one: SimpleNamespace(pw_name=one, pw_uid=uid, pw_gid=group) for one, uid in uids.items()}
    monkeypatch.setattr(pwd, "getpwuid", lambda _: accounts["me"])
    monkeypatch.setattr(pwd, "getpwall", lambda: [accounts[one] for one in listed])
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_name=name, gr_mem=members))
    owner._is_private.cache_clear()
    try:
        assert replaceable(str(tmp_path / "file"), OWN) == ("" if kept else str(tmp_path))
    finally:
        owner._is_private.cache_clear()


def test_with_a_list_the_bits_of_the_group_are_those_of_others_too(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o770)
    entries = ((1, 7, -1), (2, 7, 12345), (4, 7, -1), (16, 7, -1), (32, 0, -1))  # user:12345:rwx
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(folder, "system.posix_acl_access", packed)
    except OSError:
        pytest.skip("this file system has no access control lists")
    assert replaceable(str(folder / "file"), OWN) == str(folder)


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
