"""Files of saved memory that somebody else may have put there: libvirt acts on the definition in them."""

from __future__ import annotations

import os
import shutil
import struct
import time
from pathlib import Path

import pytest
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.system.libvirt.security import qemu_users
from vmsnap_nb.system.qemu.program import emulators
from vmsnap_nb.system.saved_memory import why_not_to_restore

QEMU = shutil.which("qemu-system-x86_64") or "/usr/bin/qemu-system-x86_64"
DEFINITION = "<domain><devices><emulator>{emulator}</emulator></devices></domain>"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of saved memory with which all is well."""
    return saved(tmp_path / "saved", DEFINITION.format(emulator=QEMU))


def saved(path: Path, definition: str, order: str = "=", length: int = 0) -> Path:
    text = definition.encode() + b"\0"
    path.write_bytes(b"LibvirtQemudSave" + struct.pack(f"{order}5I56x", 2, length or len(text), 1, 0, 0) + text)
    path.chmod(0o600)
    return path


def test_a_file_of_this_user_may_be_restored(file: Path) -> None:
    assert not why_not_to_restore(str(file))
    assert not why_not_to_restore(str(saved(file, DEFINITION.format(emulator=QEMU), ">")))
    file.write_bytes(b"LibvirtQemudPart")  # libvirt itself refuses it
    assert not why_not_to_restore(str(file))


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        (DEFINITION.format(emulator="/tmp/kvm"), "specifies the emulator /tmp/kvm"),
        (DEFINITION.format(emulator="<x>/tmp/kvm</x>"), "specifies the emulator /tmp/kvm"),
        (f"<!--{' ' * (1 << 20)}-->{DEFINITION.format(emulator='/tmp/kvm')}", "cannot be checked"),
        ("<!DOCTYPE domain [<!ENTITY e SYSTEM '/tmp/name'>]>" + DEFINITION.format(emulator="&e;"), "cannot be checked"),
        ("<?xml version='1.0' encoding='UTF-7'?>" + DEFINITION.format(emulator=QEMU), "cannot be checked"),
        ("<domain>", "cannot be checked"),
    ],
)
def test_a_definition_that_was_not_checked_as_a_whole_is_refused(file: Path, definition: str, why: str) -> None:
    assert why in why_not_to_restore(str(saved(file, definition)))


def test_the_length_counts_in_the_order_of_bytes_in_which_libvirt_reads_it(file: Path) -> None:
    definition = "\n" + DEFINITION.format(emulator="/tmp/kvm")
    assert "specifies the emulator" in why_not_to_restore(str(saved(file, definition, ">", 1 << 24)))


def test_an_emulator_that_libvirt_runs_for_the_guest_anyway_is_accepted(file: Path) -> None:
    own = "<domain><devices><emulator>/opt/wrapper</emulator></devices></domain>"
    saved(file, DEFINITION.format(emulator="/opt/wrapper"))
    assert "specifies the emulator" in why_not_to_restore(str(file))
    assert not why_not_to_restore(str(file), emulators=emulators(own))
    saved(file, DEFINITION.format(emulator="/tmp/kvm"))
    assert "specifies the emulator" in why_not_to_restore(str(file), emulators=emulators(own))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused_unless_qemu_runs_as_that_one(file: Path) -> None:
    """A definition can name a script, which libvirt would run as root."""
    os.chown(file, 65534, 65534)
    assert "another user" in why_not_to_restore(str(file))
    assert not why_not_to_restore(str(file), {65534})


def test_a_file_to_which_others_can_write_is_refused(file: Path) -> None:
    file.chmod(0o620)
    assert "can write" in why_not_to_restore(str(file))


@pytest.mark.parametrize("place", ["folder", "link"])
def test_a_file_that_others_can_replace_is_refused(tmp_path: Path, place: str) -> None:
    """It is checked first, and then opened by libvirt, by its name."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "link").symlink_to("folder")
    saved(folder / "saved", DEFINITION.format(emulator=QEMU))
    path = str(tmp_path / place / "saved")
    assert not why_not_to_restore(path)
    folder.chmod(0o777)
    assert f"can change {folder}" in why_not_to_restore(path)
    folder.chmod(0o1777)
    assert not why_not_to_restore(path)


def test_the_users_as_whom_qemu_runs_are_those_that_libvirt_names() -> None:
    class Libvirt:
        def getCapabilities(self) -> str:  # noqa: N802 - as libvirt calls it
            return (
                "<capabilities><host><secmodel><model>dac</model><baselabel type='kvm'>+64055:+107</baselabel>"
                "<baselabel type='qemu'>+64055:+107</baselabel></secmodel><secmodel><model>apparmor</model>"
                "<baselabel type='kvm'>1:x</baselabel></secmodel></host></capabilities>"
            )

    assert qemu_users(Libvirt()) == {64055}


DISK = "<disk type='file'><source file='{image}'/>{below}<target dev=\"{target}\"/></disk>"
LAYER = "<backingStore><source file='/b'/><format type='raw'/>{below}</backingStore>"


@pytest.mark.parametrize("target", ["a'b", "a']/..", "]", "*[", "vda"])
def test_whatever_a_definition_calls_a_disk_it_needs_the_image(tmp_path: Path, target: str) -> None:
    image = create(tmp_path / "image")
    disk = DISK.format(image=image, target=target, below=LAYER.format(below=""))
    saved(tmp_path / "memory", f"<domain><name>g</name><devices>{disk}</devices></domain>")
    assert [(need.path, need.layers) for need in vs.scan(tmp_path).needs] == [(str(image), ("/b",))]


def test_a_definition_that_libvirt_would_not_write_needs_nothing(tmp_path: Path) -> None:
    create(tmp_path / "image")
    saved(tmp_path / "memory", "<domain>" + "<a>" * 5000 + "</a>" * 5000 + "</domain>")
    assert not vs.scan(tmp_path).needs


def test_a_definition_of_many_disks_is_read_once(tmp_path: Path) -> None:
    disks = "".join(DISK.format(image=tmp_path / "image", target=f"d{number}", below="") for number in range(5000))
    create(tmp_path / "image")
    saved(tmp_path / "memory", f"<domain><devices>{disks}</devices></domain>")
    began = time.monotonic()
    vs.scan(tmp_path)
    assert time.monotonic() - began < 5
