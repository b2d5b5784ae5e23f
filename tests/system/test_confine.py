"""QEMU's tools open no other files than a plan names, whatever stands in the headers, or under the names, by then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import qemu_img
from support.content import content
from support.images import KIB, MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import PermissionDeniedError, VmsnapError
from vmsnap_nb.live import image_actions
from vmsnap_nb.system import confine, process
from vmsnap_nb.system.confine import FileOf, only
from vmsnap_nb.system.qemu import fill
from vmsnap_nb.words.message import NOTHING

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not confine.version(), reason="this kernel has no Landlock, or a container keeps it away"),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Base <- top <- active in a folder, and outside of it a file of somebody else."""
    folder = tmp_path / "images"
    folder.mkdir()
    write(create(folder / "base", size=MIB), "write -P 1 0 64k")
    write(create(folder / "top", folder / "base"), "write -P 2 64k 64k")
    create(folder / "active", folder / "top")
    (tmp_path / "other").write_bytes(b"x" * MIB)
    return folder


def before(monkeypatch: pytest.MonkeyPatch, where: object, name: str, change: Callable[[], object]) -> None:
    """Let something happen after all checks, before a program is started."""
    run = getattr(where, name)

    def changed(*args: object, **options: object) -> object:
        monkeypatch.setattr(where, name, run)
        change()
        return run(*args, **options)

    monkeypatch.setattr(where, name, changed)


def rebase(path: Path, other: Path, format: str = "raw") -> None:
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", format, "-b", other, path)


def test_a_header_that_names_another_base_by_then_does_not_have_it_written(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = vs.scan(images).commit("top", "base")
    before(monkeypatch, image_actions, "run_watched", lambda: rebase(images / "top", tmp_path / "other"))
    with pytest.raises(PermissionDeniedError, match="Permission denied"):
        plan.run(progress=False)
    assert (tmp_path / "other").read_bytes() == b"x" * MIB


def test_a_header_that_names_another_layer_by_then_does_not_have_it_copied(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = vs.scan(images).pull("top")
    before(monkeypatch, image_actions, "fill", lambda: rebase(images / "top", tmp_path / "other"))
    with pytest.raises(PermissionDeniedError, match="Permission denied"):
        plan.run(progress=False)
    assert b"x" * KIB not in (images / "top").read_bytes()


def test_a_link_that_has_the_name_by_then_is_not_followed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = create(tmp_path / "victim", size=MIB)
    write(victim, "write -P 9 0 1M")
    was = content(victim)

    def swap() -> None:
        (images / "top").unlink()
        (images / "top").symlink_to(victim)

    plan = vs.scan(images).pull("top")
    before(monkeypatch, fill.process, "run", swap)
    with pytest.raises(PermissionDeniedError, match="Permission denied"):
        plan.run(progress=False)
    assert content(victim) == was


def test_no_server_is_asked(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        plan = vs.scan(images).commit("top", "base")
        address = Path(f"nbd:127.0.0.1:{port}")
        before(monkeypatch, image_actions, "run_watched", lambda: rebase(images / "top", address))
        with pytest.raises(VmsnapError, match="Permission denied"):
            plan.run(progress=False)
        with pytest.raises(TimeoutError):
            server.accept()


def test_data_files_links_and_parts_of_a_plan_are_allowed(images: Path) -> None:
    data = images / "data"
    data.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={images}/link.raw", images / "low", "1M")
    (images / "link.raw").rename(data / "real.raw")
    (images / "link.raw").symlink_to(data / "real.raw")
    write(create(images / "over", images / "low"), "write -P 3 0 64k")
    (images / "named").symlink_to("over")
    write(create(images / "last", images / "named"), "write -P 4 64k 64k")
    was = content(images / "last")
    assert vs.scan(images).pull("last", "low").run(progress=False, waive=["untrusted-backing"]).as_predicted
    assert content(images / "last") == was
    qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentFlat", images / "d.vmdk", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "vmdk", "-b", images / "d.vmdk", images / "on")
    assert vs.scan(images).pull("on").run(progress=False).as_predicted


def test_a_file_of_another_identity_is_not_allowed(images: Path) -> None:
    path = images / "base"
    found = path.stat()
    argv = ("qemu-img", "info", "-f", "qcow2", str(path))
    with only([FileOf(path=str(path), identity=(found.st_dev, found.st_ino))]):
        assert confine.is_confined(argv)
        assert process.run(argv, tried=NOTHING).exit_status == 0
    with only([FileOf(path=str(path), identity=(found.st_dev, found.st_ino + 1))]):
        assert process.run(argv, tried=NOTHING, check=False).exit_status == 1
    assert process.run(argv, tried=NOTHING).exit_status == 0
    assert os.access(path, os.W_OK)  # this process has given up nothing


IN_A_FOLDER_OF_THE_SYSTEM = """
import os, sys
from vmsnap_nb.system.confine import FileOf, only
from vmsnap_nb.system.process import run
from vmsnap_nb.words.message import NOTHING
top, below = sys.argv[1:]
with open(below, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
    file.write("hidden")
run(("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", below, top, "64k"), tried=NOTHING)
with only([FileOf(path=top, write=True)]):
    done = run(("qemu-img", "rebase", "-f", "qcow2", "-b", "", top), tried=NOTHING, check=False)
print(done.exit_status, "Permission denied" in done.stderr)
"""


@pytest.mark.parametrize("folder", ["/opt", "/usr/local/etc", "/etc/ssl/private", "/sys/devices/virtual"])
def test_what_only_some_may_read_is_not_copied_from_the_folders_of_the_system(folder: str, tmp_path: Path) -> None:
    if not Path(folder).is_dir():
        pytest.skip("this system has no such folder")
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    words = [sys.executable, "-c", IN_A_FOLDER_OF_THE_SYSTEM, str(tmp_path / "top"), f"{folder}/secret"]
    mounted = f'mount -t tmpfs none {folder} && exec "$@"'
    done = subprocess.run([*alone, "sh", "-c", mounted, "sh", *words], check=False, capture_output=True, text=True)
    assert done.stdout == "1 True\n", done.stderr
    assert b"hidden" not in (tmp_path / "top").read_bytes()


def test_a_program_that_is_not_the_systems_is_not_confined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qemu-img").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    confine.runs_confined.cache_clear()
    try:
        with only([]):
            assert not confine.is_confined(("qemu-img",))
    finally:
        confine.runs_confined.cache_clear()
