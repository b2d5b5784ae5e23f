"""Files that were put under a name after a plan was made: nothing of them is changed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import StalePlanError, VmsnapError
from vmsnap_nb.live import image_actions
from vmsnap_nb.plans.leftovers.steps import MoveFile
from vmsnap_nb.plans.merge.steps import MarkInvalid, RemoveFile, Unprotect
from vmsnap_nb.plans.repair.steps import RepairCopy
from vmsnap_nb.plans.step import Protect, Step
from vmsnap_nb.system.files.copying import copy_same
from vmsnap_nb.system.files.identity import same_file
from vmsnap_nb.system.qcow2 import mark
from vmsnap_nb.words.message import NOTHING

pytestmark = pytest.mark.system


def put_link(path: Path, victim: Path) -> None:
    path.unlink()
    path.symlink_to(victim)


def put_file(path: Path, victim: Path) -> None:
    path.unlink()
    os.link(victim, path)


def put_pipe(path: Path, victim: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("put", [put_link, put_file, put_pipe])
@pytest.mark.parametrize("kind", [MarkInvalid, RemoveFile, Protect, Unprotect])
def test_another_file_under_a_name_is_left_alone(
    tmp_path: Path, kind: type[Step], put: Callable[[Path, Path], None]
) -> None:
    victim, path = create(tmp_path / "victim", size=MIB), create(tmp_path / "path", size=MIB)
    identity = vs.scan(tmp_path)[str(path)].identity
    more = {"into": "x"} if kind is MarkInvalid else {}
    step = kind(path=str(path), identity=identity, **more)  # type: ignore[call-arg]
    put(path, victim)
    victim.chmod(0o444 if kind is Unprotect else 0o666)
    was, mode = victim.read_bytes(), victim.stat().st_mode
    with pytest.raises(StalePlanError, match="has been replaced by a different file"):
        image_actions.image_actions()[kind](step)
    assert os.path.lexists(path)
    assert (victim.read_bytes(), victim.stat().st_mode) == (was, mode)


def test_an_image_that_is_a_link_is_merged_and_removed_as_before(tmp_path: Path) -> None:
    create(tmp_path / "base", size=MIB)
    (tmp_path / "real").mkdir()
    top = create(tmp_path / "real" / "top", tmp_path / "base")
    write(top, "write -q -P 3 0 64k")
    (tmp_path / "link").symlink_to(top)
    create(tmp_path / "active", "link")
    plan = vs.scan(tmp_path).commit("link", "base")
    assert plan.run(progress=False).as_predicted
    assert vs.scan(tmp_path)[str(top)].status == "invalid"
    vs.scan(tmp_path).cleanup().run(progress=False)
    assert not top.exists()
    assert not (tmp_path / "link").is_symlink()


def test_a_mark_that_does_not_reach_the_disk_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, failures = create(tmp_path / "x", size=MIB), [OSError(5, "Input/output error")]
    was, fsync = path.read_bytes(), os.fsync

    def fails(fd: int) -> None:
        if failures:
            raise failures.pop()
        fsync(fd)

    monkeypatch.setattr(mark.os, "fsync", fails)  # type: ignore[attr-defined]
    with pytest.raises(VmsnapError, match="Input/output error"):
        mark.mark_invalid(str(path))
    assert path.read_bytes() == was


def test_a_file_that_another_replaces_while_it_is_made_is_not_given_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "base.qcow2", size=MIB)
    victim = tmp_path / "victim"
    victim.write_text("x")
    run = image_actions.qemu_img.run

    def replaced(argv: tuple[str, ...], *, tried: str) -> object:
        done = run(argv, tried=tried)
        (new,) = (arg for arg in argv if arg.startswith("/proc/"))
        put_link(Path(os.readlink(new)), victim)
        return done

    plan = vs.create_overlay(tmp_path / "new", tmp_path / "base.qcow2")
    monkeypatch.setattr(image_actions.qemu_img, "run", replaced)
    with pytest.raises(StalePlanError, match="has been replaced by a different file"):
        plan.run(progress=False)
    assert not os.path.lexists(tmp_path / "new.qcow2")
    assert victim.read_text() == "x"


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM, 0])
def test_a_file_that_is_put_in_place_of_one_that_is_moved_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    secret, path = tmp_path / "secret", create(tmp_path / "path", size=MIB)
    secret.write_text("secret")
    (tmp_path / "to").mkdir()
    step = MoveFile(path=str(path), to=str(tmp_path / "to" / "path"), identity=vs.scan(tmp_path)[str(path)].identity)
    link = os.link

    def swapped(*args: str, **options: bool) -> None:
        if path.is_file() and not path.is_symlink():
            put_link(path, secret)
            if error:
                raise OSError(error, os.strerror(error))
        link(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", swapped)
    with pytest.raises(StalePlanError, match="has been replaced by a different file"):
        image_actions.image_actions()[MoveFile](step)
    assert path.is_symlink()
    assert [found.read_bytes()[:4] for found in (tmp_path / "to").iterdir()] in ([], [b"QFI\xfb"])


def test_a_copy_does_not_run_as_the_owner_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, modes = create(tmp_path / "path", size=MIB), []
    path.chmod(0o6755)
    chmod, fchmod = os.chmod, os.fchmod
    monkeypatch.setattr(os, "chmod", lambda file, mode: (modes.append(mode), chmod(file, mode)))
    monkeypatch.setattr(os, "fchmod", lambda file, mode: (modes.append(mode), fchmod(file, mode)))
    with same_file(str(path), None, NOTHING) as file:
        copy_same(file, str(tmp_path / "to"), whole=True)
    assert (tmp_path / "to").stat().st_mode & 0o7777 == 0o755
    assert modes
    assert all(mode & 0o6000 == 0 for mode in modes)


def test_a_copy_that_another_replaces_is_not_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "path", size=MIB)
    victim = create(tmp_path / "victim", size=MIB)
    step = RepairCopy(path=str(tmp_path / "path"))
    put_link(tmp_path / "path", victim)
    with pytest.raises(VmsnapError):
        image_actions.image_actions()[RepairCopy](step)
    put_file(tmp_path / "path", victim)
    with pytest.raises(StalePlanError, match="has been replaced by a different file"):
        image_actions.image_actions()[RepairCopy](step)
    put_pipe(tmp_path / "path", victim)
    with pytest.raises(StalePlanError, match="has been replaced by a different file"):
        image_actions.image_actions()[RepairCopy](step)
    run = image_actions.qemu_img.run

    def replaced(argv: tuple[str, ...], *, tried: str) -> object:
        put_link(tmp_path / "path", victim)
        return run(argv, tried=tried)

    (tmp_path / "path").unlink()
    create(tmp_path / "path", size=MIB)
    was = victim.stat()
    monkeypatch.setattr(image_actions.qemu_img, "run", replaced)
    image_actions.image_actions()[RepairCopy](step)
    assert (victim.stat().st_mtime_ns, victim.stat().st_ctime_ns) == (was.st_mtime_ns, was.st_ctime_ns)
