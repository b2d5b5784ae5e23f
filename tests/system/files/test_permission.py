"""Overlays and emptied overlays are readable by those who may read the image below, and by nobody else."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support.images import MIB, create
from support.nobody import nobodys_folder  # noqa: F401 - a fixture

import vmsnap_nb as vs
from vmsnap_nb.live.guest_actions.revert import _emptied
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.plans.revert.steps import Discard
from vmsnap_nb.system.files.copying import copy_same
from vmsnap_nb.system.files.identity import same_file
from vmsnap_nb.system.files.permission import restrict
from vmsnap_nb.words.message import t

pytestmark = pytest.mark.system


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize(
    ("below", "expected"), [(0o600, 0o600), (0o400, 0o600), (0o640, 0o640), (0o444, 0o644), (0o664, 0o664)]
)
def test_an_overlay_has_the_mode_of_its_base(tmp_path: Path, below: int, expected: int) -> None:
    base = create(tmp_path / "base", size=MIB)
    base.chmod(below)
    assert vs.create_overlay(tmp_path / "new", base).run(progress=False).as_predicted
    assert mode(tmp_path / "new.qcow2") == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_as_root_an_overlay_has_the_owner_of_its_base(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    os.chown(base, 1234, 1235)
    base.chmod(0o640)
    assert vs.create_overlay(tmp_path / "new", base).run(progress=False).as_predicted
    new = tmp_path / "new.qcow2"
    assert (new.stat().st_uid, new.stat().st_gid, mode(new)) == (1234, 1235, 0o640)


def test_an_emptied_overlay_is_no_more_open_than_what_it_replaces(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    old = create(tmp_path / "old", "base")
    for below, was, expected in ((0o600, 0o644, 0o600), (0o644, 0o600, 0o600), (0o644, 0o644, 0o644)):
        base.chmod(below)
        old.chmod(was)
        backing = parse_reference("base", folder=str(tmp_path), format="qcow2")
        with _emptied(Discard(str(old), backing), "empty it") as path:
            assert mode(path) == expected


def test_what_another_program_has_made_gets_no_more_than_the_image_below(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    new = create(tmp_path / "new", "base")
    for below, was, expected in ((0o600, 0o644, 0o600), (0o664, 0o600, 0o600)):
        base.chmod(below)
        new.chmod(was)
        restrict(str(new), str(base))
        assert mode(new) == expected


def test_a_file_with_another_name_is_left_alone(tmp_path: Path) -> None:
    base, victim = create(tmp_path / "base", size=MIB), tmp_path / "victim"
    base.chmod(0o600)
    victim.write_text("x")
    victim.chmod(0o644)
    os.link(victim, tmp_path / "new")
    restrict(str(tmp_path / "new"), str(base))
    assert mode(victim) == 0o644


# -- access control lists, and folders that give their group to what is made in them -------------------------

GUEST, BACKUP, STAFF = 61401, 61402, 61403
"""Numbers of two users, and of a group of a third one."""
PEOPLE: dict[str, tuple[int, list[int]]] = {
    "guest": (GUEST, []),
    "backup": (BACKUP, []),
    "staff": (61404, [STAFF]),
    "others": (61405, []),
}


def acl(**bits: int) -> bytes:
    """Return a list in which the owner may read and write, and of the rest only what is said."""
    kinds = {"user": 0x01, "guest": 0x02, "backup": 0x02, "group": 0x04, "mask": 0x10, "others": 0x20}
    numbers = {"guest": GUEST, "backup": BACKUP}
    said = {"user": 6, "group": 0, "mask": 4, "others": 0, **bits}
    rows = sorted((kinds[name], numbers.get(name, 0xFFFFFFFF), may) for name, may in said.items())
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", kind, may, number) for kind, number, may in rows)


def readers(path: Path) -> set[str]:
    """Return who may read a file, each tried in a process of their own."""
    return {name for name, (user, groups) in PEOPLE.items() if _reads(path, user, groups)}


def _reads(path: Path, user: int, groups: list[int]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(65534)
            os.setuid(user)
            os.close(os.open(path, os.O_RDONLY))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _overlay(base: Path, new: Path) -> None:
    assert vs.create_overlay(new, base).run(progress=False).as_predicted


def _made_by_another(base: Path, new: Path) -> None:
    create(new, base.name).chmod(0o644)
    restrict(str(new), str(base))


def _emptied_again(base: Path, new: Path) -> None:
    create(new, base.name).chmod(0o644)
    backing = parse_reference(base.name, folder=str(base.parent), format="qcow2")
    with _emptied(Discard(str(new), backing), "empty it") as path:
        os.replace(path, new)


def _copied(base: Path, new: Path) -> None:
    with same_file(str(base), None, t("copy it")) as file:
        copy_same(file, str(new))


def _moved(base: Path, new: Path) -> None:
    with same_file(str(base), None, t("move it")) as file:
        copy_same(file, str(new), whole=True)


@pytest.fixture
def shared(nobodys_folder: Path) -> Path:  # noqa: F811 - the fixture of that name
    """Return a folder whose group and list let more people at all that is made in it, unless that says otherwise."""
    os.chown(nobodys_folder, 0, STAFF)
    nobodys_folder.chmod(0o2755)
    os.setxattr(nobodys_folder, "system.posix_acl_default", acl(user=7, guest=5, mask=5, group=5, others=5))
    return nobodys_folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is somebody else")
@pytest.mark.parametrize("make", [_overlay, _made_by_another, _emptied_again, _copied, _moved])
@pytest.mark.parametrize(
    ("group", "mode", "listed", "expected"),
    [
        (0, 0o640, None, set()),
        (STAFF, 0o640, None, {"staff"}),
        (STAFF, 0o600, acl(backup=4), {"backup"}),
        (STAFF, 0o600, acl(backup=0, others=4), {"guest", "others"}),
        (STAFF, 0o600, acl(backup=4, mask=0), set()),
    ],
    ids=["of another group", "of the group", "listed", "listed as closed", "masked"],
)
def test_nobody_reads_a_file_made_of_an_image_who_may_not_read_the_image(
    shared: Path, make: Callable[[Path, Path], None], group: int, mode: int, listed: bytes | None, expected: set[str]
) -> None:
    base, new = create(shared / "base", size=MIB), shared / "new.qcow2"
    os.removexattr(base, "system.posix_acl_access")
    os.chown(base, 0, group)
    base.chmod(mode)
    if listed:
        os.setxattr(base, "system.posix_acl_access", listed)
    assert readers(base) == expected
    make(base, new)
    assert readers(new) == expected
