"""The lab's parts that need no libvirt: archives, folders, the choice of acceleration, the XML."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from vmsnap_nb.errors import ImageError, InvalidRequestError, LabBusyError, LabError
from vmsnap_nb.lab import acceleration
from vmsnap_nb.lab.acceleration import Acceleration, choose_acceleration
from vmsnap_nb.lab.cpio import Entry, pack, unpack
from vmsnap_nb.lab.domain_xml import GuestSpec, domain_xml, lab_of
from vmsnap_nb.lab.folder import MAX_ROOT, LabFolder, default_root
from vmsnap_nb.lab.initrd import build_initrd
from vmsnap_nb.lab.kernel import unpack_kernel
from vmsnap_nb.system.console import console_log, plain
from vmsnap_nb.system.libvirt_domains import channels, read_disks
from vmsnap_nb.system.packages import how_to_install, missing_part

SPEC = GuestSpec(
    name="<x> & 机",
    uuid="6a2f41a3-c54c-fce8-32d2-0324e1c32e22",
    disk="/lab/images/a b.qcow2",
    root="/lab",
    memory=256,
    cpus=1,
    kernel="/lab/boot/kernel",
    initrd="/lab/boot/initrd",
    kvm=False,
    console_log="/lab/console/1.log",
    as_root=False,
    port="/lab/port/1.c",
    agent="/lab/port/1.a",
)


def test_an_archive_is_read_as_it_was_written() -> None:
    entries = [Entry.folder("bin"), Entry.file("bin/a", b"12345", executable=True), Entry.file("é", b"")]
    data = pack(entries)
    assert list(unpack(data)) == entries
    for broken in (b"", b"070701", data[:150], data[:-130], b"x" * 200, data.replace(b"070701", b"07070Z", 1)):
        with pytest.raises(ImageError):
            list(unpack(broken))


def test_an_initial_file_system_needs_its_parts() -> None:
    with pytest.raises(ImageError, match="no busybox"):
        build_initrd(gzip.compress(pack([Entry.file("etc/x", b"1")])))
    with pytest.raises(ImageError, match="read the distribution"):
        build_initrd(b"not compressed")


def bzimage(payload: bytes, *, version: int = 0x20F, length: int | None = None) -> bytes:
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x208] = b"HdrS" + version.to_bytes(2, "little")
    head[0x248:0x250] = struct.pack("<II", 16, len(payload) if length is None else length)
    return bytes(head) + b"starts here ... " + payload


def test_a_kernel_is_unpacked_or_refused() -> None:
    kernel = b"\x7fELF and the rest" * 999
    packed = gzip.compress(kernel)
    assert unpack_kernel(bzimage(packed) + b"what follows") == kernel
    old = bytearray(bzimage(packed))
    old[0x1F1] = 0
    assert unpack_kernel(bytes(old[:1024] + bytes(3 * 512) + old[1024:])) == kernel
    for broken, said in (
        (b"", "damaged"),
        (kernel, "no bzImage"),
        (bzimage(packed, version=0x207), "no bzImage"),
        (bzimage(b"\xfd7zXZ\0" + packed), "something else than gzip"),
        (bzimage(packed[:9] + b"\xff" * 99), "something else than gzip"),
        (bzimage(packed, length=len(packed) // 2), "ends too early"),
        (bzimage(gzip.compress(b"#!/bin/sh")), "no ELF file"),
        (bzimage(packed)[:700], "damaged|ends too early"),
    ):
        with pytest.raises(ImageError, match=said):
            unpack_kernel(broken)


def test_the_xml_of_a_guest() -> None:
    text = domain_xml(SPEC)
    root = ET.fromstring(text)
    assert root.findtext("name") == SPEC.name
    assert root.get("type") == "qemu"
    assert [(disk.target, disk.source, disk.format, disk.bus) for disk in read_disks(text)] == [
        ("vda", "/lab/images/a b.qcow2", "qcow2", "virtio")
    ]
    assert channels(text) == {"org.qemu.guest_agent.0": False, "org.vmsnap_nb.0": False}
    assert console_log(root) == "/lab/console/1.log"
    assert lab_of(text) == "/lab"
    assert lab_of("<domain><name>other</name></domain>") is None
    by_disk = ET.fromstring(domain_xml(replace(SPEC, kernel=None, initrd=None, kvm=True, as_root=True)))
    assert by_disk.find("os/kernel") is None
    assert "norandmaps" in (root.findtext("os/cmdline") or "")
    assert "norandmaps" not in (ET.fromstring(domain_xml(replace(SPEC, kvm=True))).findtext("os/cmdline") or "")
    assert by_disk.get("type") == "kvm"
    assert by_disk.findtext("seclabel/label") == "+0:+0"


def test_a_folder_is_marked_locked_and_removed_with_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    root = tmp_path / "lab"
    folder = LabFolder(root)
    with pytest.raises(LabBusyError, match=f"process {os.getpid()} has it open"):
        LabFolder(root)
    for name in ("made.qcow2", "mine.qcow2"):
        (folder.images / name).write_text("x")
    folder.add(folder.images / "made.qcow2", "RootBase")
    folder.add(folder.images / "gone.qcow2")
    folder.drop(folder.images / "gone.qcow2")
    assert folder.made() == {str(root / "images" / "made.qcow2"): "RootBase"}
    folder.release()

    again = LabFolder(root)
    assert again.made() == folder.made()
    (root / "run").mkdir()
    assert again.remove() == [str(root / "images" / "mine.qcow2")]
    assert sorted(path.name for path in root.rglob("*")) == ["images", "mine.qcow2"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    (tmp_path / "precious").write_text("x")
    with pytest.raises(LabError, match="not a lab's"):
        LabFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(LabError, match="not a folder"):
        LabFolder(file)
    empty = LabFolder(tmp_path / "new")
    (empty.root / ".vmsnap-lab.json").unlink()
    with pytest.raises(LabError, match="nothing is removed"):
        empty.remove()


def test_where_a_lab_is_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMSNAP_LAB", raising=False)
    monkeypatch.setenv("HOME", "/home/tom")
    assert default_root() == Path("/home/tom/.vmsnap")
    monkeypatch.setenv("HOME", "/" + "h" * MAX_ROOT)
    assert default_root() == Path(f"/var/tmp/vmsnap-{os.getuid()}")
    monkeypatch.setenv("VMSNAP_LAB", "/x")
    assert default_root() == Path("/x")


class TestAcceleration:
    """QEMU is played by a script here; the real one is booted by the tests of guests."""

    @pytest.fixture
    def qemu(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        program = tmp_path / "qemu-system-x86_64"
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("VMSNAP_ACCEL", raising=False)
        monkeypatch.setattr(acceleration, "_SECONDS", 30.0)
        monkeypatch.setattr(acceleration, "_KVM", str(tmp_path / "kvm"))
        (tmp_path / "kvm").touch()
        return program

    def choose(self, program: Path, script: str, cache: Path) -> Acceleration:
        program.write_text(f"#!/bin/sh\necho run >>{program}.runs\n{script}\n")
        program.chmod(0o755)
        return choose_acceleration(Path("/k"), Path("/i"), cache)

    def test_a_boot_that_speaks_means_kvm_and_is_remembered(self, qemu: Path, tmp_path: Path) -> None:
        cache = tmp_path / "cache" / "a.json"
        chosen = self.choose(qemu, "echo '[ 0.0] Linux version 6'; exec sleep 60", cache)
        assert chosen.kind == "kvm"
        assert choose_acceleration(Path("/k"), Path("/i"), cache) == chosen
        assert Path(f"{qemu}.runs").read_text() == "run\n"
        os.utime(qemu, ns=(1, 1))  # another QEMU: try again
        assert choose_acceleration(Path("/k"), Path("/i"), cache).kind == "kvm"
        assert Path(f"{qemu}.runs").read_text() == "run\nrun\n"
        cache.write_text("{broken")
        assert choose_acceleration(Path("/k"), Path("/i"), cache).kind == "kvm"
        assert json.loads(cache.read_text())["choice"]["kind"] == "kvm"

    def test_a_boot_that_hangs_or_fails_means_tcg(
        self, qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patient:
            patient.setattr(acceleration, "_SECONDS", 1.0)
            hung = self.choose(qemu, "exec sleep 60", tmp_path / "1")
        assert (hung.kind, "said nothing" in hung.reason) == ("tcg", True)
        failed = self.choose(qemu, "echo 'failed to initialize kvm' >&2; exit 1", tmp_path / "2")
        assert failed == Acceleration("tcg", "QEMU does not start with KVM: failed to initialize kvm")

    def test_a_machine_without_kvm(self, qemu: Path, tmp_path: Path) -> None:
        (tmp_path / "kvm").unlink()
        assert self.choose(qemu, "exit 1", tmp_path / "c") == Acceleration("tcg", f"this machine has no {tmp_path}/kvm")
        assert not Path(f"{qemu}.runs").exists()

    def test_a_word_of_the_user_goes_before(self, qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for wish in ("kvm", "tcg"):
            monkeypatch.setenv("VMSNAP_ACCEL", wish)
            assert self.choose(qemu, "exit 1", tmp_path / "c").kind == wish
        assert not Path(f"{qemu}.runs").exists()
        monkeypatch.setenv("VMSNAP_ACCEL", "warp")
        with pytest.raises(InvalidRequestError, match="neither kvm nor tcg"):
            self.choose(qemu, "exit 1", tmp_path / "c")


def test_the_scripts_of_the_guest_are_in_order() -> None:
    from importlib import resources

    for script in resources.files("vmsnap_nb.lab").joinpath("boot").iterdir():
        subprocess.run(["sh", "-n"], input=script.read_bytes(), check=True)


def test_text_of_a_console() -> None:
    assert plain("\x1b[6n\x1b[1;32mok\x1b[0m\r\nnext\r") == "ok\nnext"


def test_parts_name_what_to_install() -> None:
    for part in ("qemu-system", "qemu-img", "libvirt-qemu-driver", "libvirt-python"):
        assert len(how_to_install(part).splitlines()) == 4
        assert "apt install" in str(missing_part(part, "try"))
