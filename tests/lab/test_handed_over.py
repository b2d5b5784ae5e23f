"""A lab that somebody else has made, or that was copied, is opened: nothing in it acts before it was looked at."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.labs import run_python
from support.waiting import eventually

from vmsnap_nb.errors import LabError, PermissionDeniedError
from vmsnap_nb.lab.contents import check_definitions, check_files, prepare_run
from vmsnap_nb.lab.driver import write_qemu_conf
from vmsnap_nb.lab.folder import LabFolder

UUID = "7e5d61d0-8dc6-4e49-99cf-b9488e3a8dc6"
DOMAIN = """\
<domain type='qemu'>
  <name>vm1</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>32768</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>{emulator}</emulator></devices>
</domain>
"""


def domain(emulator: object = shutil.which("qemu-system-x86_64")) -> str:
    return DOMAIN.format(uuid=UUID, emulator=emulator)


def status(pid: int, lib: object) -> str:
    running = domain().replace("<domain ", "<domain id='1' ")
    return (
        f"<domstatus state='running' reason='booted' pid='{pid}'>\n"
        f"<monitor path='{lib}/monitor.sock' type='unix'/>\n<vcpus>\n</vcpus>\n<qemuCaps>\n"
        f"<flag name='kvm'/>\n</qemuCaps>\n<devices/>\n<libDir path='{lib}'/>\n<channelTargetDir path='{lib}'/>\n"
        f"{running}</domstatus>\n"
    )


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that has nothing to do with a lab."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def root(short: Path) -> Path:
    """Return the folder of a lab that was opened before."""
    LabFolder(short / "l").release()
    return short / "l"


# -- with libvirt ----------------------------------------------------------------------------------------

OPEN = """
    try:
        print(len(vs.Lab(sys.argv[1]).connection.listAllDomains()))
    except errors.LabError as error:
        print("refused:", error)
"""


def opened(root: Path) -> str:
    done = run_python(OPEN, root)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def program(path: Path) -> Path:
    """Put a program somewhere that tells when it is run."""
    put(path, f'#!/bin/sh\ntouch {path}.ran\nexec qemu-system-x86_64 "$@"\n').chmod(0o755)
    return path


@pytest.mark.system
def test_a_program_that_a_definition_names_is_not_run(root: Path) -> None:
    evil = program(root / "boot" / "qemu-system-x86_64")
    put(root / "etc" / "qemu" / "vm1.xml", domain(evil))
    assert str(evil) in opened(root)
    assert not Path(f"{evil}.ran").exists()


BY_HAND = """
    lab = vs.Lab(sys.argv[1])
    {command}
    print("opened")
    """


@pytest.mark.system
@pytest.mark.parametrize("command", ["lab.exercise('hand-snapshot')", "lab.check('hand-snapshot')"])
def test_the_libvirt_for_virsh_is_checked_too(root: Path, command: str) -> None:
    """An exercise that was begun by somebody else goes on with that libvirt as it is."""
    made = run_python(BY_HAND.format(command="lab.exercise('hand-snapshot')"), root)
    assert made.stdout == "opened\n", made.stderr
    evil = program(root / "exercises" / "qemu-system-x86_64")
    hand = root / "hand"
    # libvirt loads a plugin of this name from its own folder: it fails unless the file is written anew.
    put(hand / "etc" / "qemu.conf", 'lock_manager = "missing"\n')
    done = run_python(BY_HAND.format(command=command), root)
    assert done.stdout == "opened\n", done.stderr
    put(hand / "etc" / "qemu" / "vm1.xml", domain(evil))
    assert "specifies the emulator" in run_python(BY_HAND.format(command=command), root).stderr
    assert not Path(f"{evil}.ran").exists()


@pytest.mark.system
def test_no_guest_is_started_by_opening_a_lab(root: Path) -> None:
    put(root / "etc" / "qemu" / "vm1.xml", domain())
    (root / "etc" / "qemu" / "autostart").mkdir()
    (root / "etc" / "qemu" / "autostart" / "vm1.xml").symlink_to("../vm1.xml")
    assert opened(root) == "1"
    assert not (root / "log" / "qemu" / "vm1.log").exists()


@pytest.mark.system
def test_no_process_is_ended_and_no_folder_removed_that_only_a_file_names(
    root: Path, tmp_path: Path, other: subprocess.Popen[bytes]
) -> None:
    precious = put(tmp_path / "precious" / "file", "x")
    put(root / "etc" / "qemu" / "vm1.xml", domain())
    put(root / "run" / "qemu" / "vm1.xml", status(other.pid, precious.parent))
    assert opened(root) == "1"
    assert precious.exists()
    assert other.poll() is None


@pytest.mark.guest
def test_a_guest_that_was_kept_is_found_again(root: Path) -> None:
    """Its file of libvirt's is right, and stays."""
    run = """
        lab = vs.Lab(sys.argv[1], keep=True)
        from vmsnap_nb.system.libvirt.library import library
        guest = lab.connection.defineXML(Path(sys.argv[2]).read_text())
        guest.createWithFlags(library().VIR_DOMAIN_START_PAUSED)
        lab.close()
        """
    again = """
        lab = vs.Lab(sys.argv[1])
        guest = lab.connection.lookupByName("vm1")
        print(guest.info()[0])
        guest.destroy()
        """
    xml = put(root.parent / "vm1.xml", domain())
    done = run_python(run, root, xml)
    assert done.returncode == 0, done.stderr
    copy = root.parent / "c"
    shutil.copytree(root, copy, ignore=lambda folder, names: [n for n in names if n.endswith(".sock")])
    assert "runs that guest in another folder" in opened(copy)
    assert run_python(again, root).stdout.strip() == "3"


# -- without libvirt -------------------------------------------------------------------------------------


def link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def hard_link(path: Path) -> None:
    own = path.with_name("of the user")
    own.write_text("not of the lab")
    path.hardlink_to(own)


@pytest.mark.parametrize("make", [link, os.mkfifo, hard_link])
@pytest.mark.parametrize(
    "place", ["console/x.log", "boot/initrd", "lib/qemu/save/x.save", "log/qemu/vm1.log", "hand", "hand/run/qemu"]
)
def test_links_and_fifos_in_a_labs_own_folders_are_refused(
    root: Path, place: str, make: Callable[[Path], None]
) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    make(root / place)
    with pytest.raises(LabError, match=r"link|FIFO"):
        LabFolder(root)


def test_a_lock_that_is_another_file_of_the_user_is_not_written_to(root: Path) -> None:
    """As tar makes one of an archive that is unpacked beside such a file."""
    LabFolder(root).release()
    (root / ".vmsnap-lab.lock").unlink()
    own = root.parent / "authorized_keys"
    own.write_text("mine")
    (root / ".vmsnap-lab.lock").hardlink_to(own)
    with pytest.raises(LabError, match="hard link"):
        LabFolder(root)
    assert own.read_text() == "mine"


def test_what_others_may_write_to_is_closed_to_them(root: Path) -> None:
    file = put(root / "etc" / "qemu" / "vm1.xml", domain())
    file.chmod(0o666)
    file.parent.chmod(0o777)
    LabFolder(root).release()
    assert (file.stat().st_mode | file.parent.stat().st_mode) & 0o022 == 0


def test_a_folder_that_others_can_replace_is_refused(root: Path) -> None:
    """libvirt opens it by its name after it was checked, and would run what another one names as an emulator."""
    LabFolder(root).release()
    root.parent.chmod(0o777)
    with pytest.raises(
        PermissionDeniedError, match=f"another folder in its place, because they can change {root.parent}"
    ):
        LabFolder(root)
    root.parent.chmod(0o1777)
    LabFolder(root).release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    "place",
    ["etc/qemu/vm1.xml", "images", "boot/kernel", "lib/qemu/save", "lib/qemu/save/vm1.save", "hand", "hand/etc/x.xml"],
)
def test_what_belongs_to_somebody_else_is_refused(root: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """He could change it after it was checked; of libvirt, the user as whom QEMU runs has some of it."""
    monkeypatch.delenv("VMSNAP_QEMU_CONF", raising=False)
    for file in ("etc/qemu/vm1.xml", "boot/kernel", "lib/qemu/save/vm1.save", "hand/etc/x.xml"):
        put(root / file, domain())
    os.chown(root / place, 65534, 65534)
    with pytest.raises((LabError, PermissionDeniedError), match="65534"):
        LabFolder(root)
    monkeypatch.setenv("VMSNAP_QEMU_CONF", 'user = "nobody"\ngroup = "nogroup"')
    if place.startswith("lib"):
        LabFolder(root).release()
    else:
        with pytest.raises((LabError, PermissionDeniedError), match="65534"):
            LabFolder(root)


def test_a_name_of_qemu_that_others_can_change_is_refused(root: Path) -> None:
    own = root / "boot" / "qemu-system-x86_64"
    own.symlink_to(shutil.which("qemu-system-x86_64") or "")
    put(root / "etc" / "qemu" / "vm1.xml", domain(own))
    check_definitions(root)
    own.parent.chmod(0o777)
    with pytest.raises(LabError, match="is not a QEMU"):
        check_definitions(root)


def saved(text: str, order: str = "<", length: int = 0, cookie: int = 0) -> bytes:
    head = struct.pack(f"{order}5I56x", 2, length or len(text) + 1, 1, 0, cookie)
    return b"LibvirtQemudSave" + head + text.encode() + b"\0memory"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("etc/qemu/vm1.xml", domain("/tmp/qemu-system-x86_64")),
        ("etc/qemu/vm1.xml", domain("/bin/sh")),
        ("etc/qemu/vm1.xml", domain("/usr/bin/../../tmp/kvm")),
        ("lib/qemu/snapshot/vm1/s1.xml", f"<domainsnapshot>{domain('/tmp/kvm')}</domainsnapshot>"),
        ("lib/qemu/snapshot/vm1/s1", f"<domainsnapshot>{domain('/tmp/kvm')}</domainsnapshot>"),
        ("lib/qemu/save/vm1.save", saved(domain("/tmp/kvm"))),
        ("etc/qemu/vm1.xml", "<?xml version='1.0' encoding='UTF-7'?>" + domain()),
        ("etc/qemu/vm1.xml", "<!DOCTYPE domain [<!ENTITY e '/tmp/kvm'>]>" + domain("&e;")),
        ("etc/qemu/vm1.xml", domain().encode("utf-16")),
        ("etc/qemu/vm1.xml", "<domain>"),
        ("etc/qemu/vm1.xml", domain("<x>/tmp/kvm</x>")),
        ("etc/qemu/vm1.xml", domain("/usr/bin/qemu-system-x86_64<x>/../../../tmp/kvm</x>")),
        ("etc/qemu/vm1.xml", domain(f" {shutil.which('qemu-system-x86_64')}")),
        ("etc/qemu/vm1.xml", domain("qemu-system-x86_64")),
        ("etc/qemu/vm1.xml", "\ufeff<?xml version='1.0' encoding='UTF-7'?>" + domain()),
        ("lib/qemu/save/vm1.save", saved("\n" + domain("/tmp/kvm"), ">", 1 << 24)),
        ("lib/qemu/save/vm1.save", saved("\n" + domain("/tmp/kvm"), "<", 1, 1 << 16)),
    ],
)
def test_a_definition_that_names_no_qemu_is_refused(root: Path, place: str, text: str | bytes) -> None:
    put(root / place, text)
    with pytest.raises(LabError, match="another user created this lab") as caught:
        check_definitions(root)
    assert place in str(caught.value)


def test_definitions_as_libvirt_writes_them_are_not_refused(root: Path) -> None:
    put(root / "etc" / "qemu" / "vm1.xml", "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n" + domain())
    put(root / "lib" / "qemu" / "snapshot" / "vm1" / "s1.xml", f"<domainsnapshot>{domain()}</domainsnapshot>")
    put(root / "lib" / "qemu" / "save" / "vm1.save", saved(domain()))
    put(root / "lib" / "qemu" / "save" / "vm2.save", b"LibvirtQemudPart" + bytes(200))
    check_files(root)
    check_definitions(root)


@pytest.mark.parametrize("content", [b"", bytes(100), b"\n"])
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("etc/qemu/vm1.xml", "libvirt does not know the guest vm1"),
        ("etc/qemu/networks/net.xml", "libvirt ignores it"),
        ("lib/qemu/snapshot/vm1/s1.xml", "libvirt does not list the snapshot or checkpoint s1 of the guest vm1"),
    ],
)
def test_what_a_power_failure_left_empty_is_said(root: Path, place: str, said: str, content: bytes) -> None:
    """Nothing else says that there was a guest: libvirt reads what is left of it as nothing."""
    put(root / place, content)
    with pytest.warns(UserWarning, match=f"{place} is empty, so {said}.*estore the file from a backup"):
        check_definitions(root)


@pytest.mark.parametrize("place", ["etc/qemu/vm1.xml", "lib/qemu/snapshot/vm1/s 1.xml"])
def test_what_is_there_by_half_is_kept_by_what_is_advised(root: Path, place: str) -> None:
    half = put(root / place, domain()[:200])
    with pytest.raises(LabError, match="not XML") as caught:
        check_definitions(root)
    assert "remove" not in caught.value.next_step
    command = re.search(r"mv -- .*?(?=\. Then)", caught.value.next_step)
    assert command is not None
    subprocess.run(shlex.split(command[0]), check=True)
    assert not half.exists()
    assert [path.read_text() for path in root.parent.glob("l-*")] == [domain()[:200]]
    check_definitions(root)


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_what_libvirt_was_killed_while_it_wrote_is_left_out(root: Path, length: int) -> None:
    whole = f"<!--\nWARNING\n-->\n\n<domainsnapshot>{domain()}</domainsnapshot>"
    left = put(root / "lib" / "qemu" / "snapshot" / "vm1" / "snap.xml.new", whole[:length])
    check_definitions(root)
    left.write_text(whole.replace("qemu-system-x86_64", "evil")[:-1] + ">")
    with pytest.raises(LabError, match="specifies"):
        check_definitions(root)
    left.write_text(f"<domainsnapshot><a></b>{domain('/evil')}")
    with pytest.raises(LabError, match="not XML"):
        check_definitions(root)
    left.rename(left.with_suffix(""))
    left.with_suffix("").write_text(whole[:40])
    with pytest.raises(LabError, match="not XML"):
        check_definitions(root)


def test_what_libvirt_wrote_of_a_qemu_that_is_gone_is_removed(root: Path, other: subprocess.Popen[bytes]) -> None:
    lib = root / "lib" / "qemu" / "domain-1-vm1"
    for pid in (other.pid, os.getpid(), 1 << 22, -1, 0, 1):
        file = put(root / "run" / "qemu" / "vm1.xml", status(pid, lib))
        prepare_run(root)
        assert not file.exists(), pid


def test_the_qemu_of_another_folder_is_not_ended(root: Path) -> None:
    for lib, word in ((root, root.parent / "other"), (root.parent / "other", root)):
        # Nobody but this lab's QEMU has its folder and the guest's UUID among its arguments.
        code = "import time; time.sleep(600)"
        words = [f"{word}/lib/qemu/domain-1-vm1/master-key.aes", "-uuid", UUID]
        with subprocess.Popen([sys.executable, "-c", code, *words]) as process:
            try:
                line = Path("/proc", str(process.pid), "cmdline")
                assert eventually(lambda line=line: UUID.encode() in line.read_bytes())
                put(root / "run" / "qemu" / "vm1.xml", status(process.pid, f"{lib}/lib/qemu/domain-1-vm1"))
                with pytest.raises(LabError, match=f"process {process.pid}"):
                    prepare_run(root)
            finally:
                process.kill()


def test_the_configuration_is_not_written_through_a_link(root: Path, tmp_path: Path) -> None:
    precious = put(tmp_path / "precious", "x")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "qemu.conf").symlink_to(precious)
    write_qemu_conf(root)
    assert precious.read_text() == "x"
