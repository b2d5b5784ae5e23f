"""Three answers: an image is there, it is gone, or that is not known; nothing is dropped on what is not known."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.content import content
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img, volume_disk
from support.images import MIB, create, write
from support.refusals import refused

import vmsnap_nb as vs
from vmsnap_nb.system.files import unmounted
from vmsnap_nb.system.libvirt.domains import is_starting
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts

CLONE_NEWUTS = 0x04000000


def guest_with_snapshot(
    connection: Any, name: str = "demo", *, running: bool = False, kind: str = "external-disk"
) -> None:
    """A guest on an image that only QEMU's user may read, with a snapshot s1."""
    qemu_img("create", "-q", "-f", "qcow2", f"{name}.qcow2", "16M")
    os.chmod(IMAGES / f"{name}.qcow2", 0o600)
    define(connection, name, file_disk(IMAGES / f"{name}.qcow2"), running=running)
    with vs.connect("qemu:///system") as host:
        guest = host.guest(name)
        assert guest.snapshot("s1", kind=kind).run(progress=False).as_predicted  # type: ignore[arg-type]
    for path in IMAGES.glob("*"):
        os.chmod(path, 0o600)


@contextmanager
def forwarded(folder: Path, target: str = "/run/libvirt/libvirt-sock") -> Iterator[str]:
    """A socket that leads to the daemon's, as ssh -L makes one."""
    path = folder / "forwarded"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    os.chmod(path, 0o777)
    listener.listen()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

    def serve() -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX)
            there.connect(target)
            for pair in ((here, there), (there, here)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"qemu+unix:///system?socket={path}"
    finally:
        listener.close()
        path.unlink()


DELETE = """
    host = vs.connect(sys.argv[1])
    guest = host.guest("demo")
    print([(s.name, s.status) for s in guest.snapshots()])
    plan = guest.delete_snapshot("s1")
    print(plan.refused, sorted({c.name for c in plan.concerns if c.level == "refuse"}))
    print([step.action for step in guest.reconcile().steps])
    """


@pytest.mark.parametrize("kind", ["external-disk", "internal-disk"])
def test_no_record_is_dropped_by_a_user_who_may_not_read_the_images(
    system: SystemLibvirt, connection: Any, kind: str
) -> None:
    guest_with_snapshot(connection, kind=kind)
    done = system.python(DELETE, "qemu:///system")
    lines = done.stdout.splitlines()
    assert lines[0] == "[('s1', 'unknown')]", done.stderr
    assert lines[2] == "[]"
    if kind == "external-disk":
        assert lines[1] == "True ['unknown-image']"
    else:  # libvirt looks inside the image itself
        assert lines[1] == "False []"
        done = system.python(
            "print(vs.connect('qemu:///system').guest('demo').delete_snapshot('s1').run(progress=False).as_predicted)"
        )
        assert done.stdout == "True\n", done.stderr
        assert qemu_img("snapshot", "-l", "demo.qcow2") == ""


def test_a_forwarded_socket_may_lead_to_another_machine(
    system: SystemLibvirt, other: SystemLibvirt, tmp_path: Path
) -> None:
    with other.entered():
        handle = vs.connect("qemu:///system")
        guest_with_snapshot(handle.connection)
        handle.close()
    target = f"/proc/{other.keeper.pid}/root/run/libvirt/libvirt-sock"
    with forwarded(other.folder, target) as uri:
        host = vs.connect(uri)
        assert not host.files_are_here
        guest = host.guest("demo")
        assert [row.status for row in guest.snapshots()] == ["unknown"]
        plan = guest.delete_snapshot("s1")
        assert {concern.name for concern in plan.concerns if concern.level == "refuse"} == {"unknown-image"}
        assert guest.reconcile().steps == ()
        host.close()


def test_a_record_of_a_remote_host_whose_overlay_is_gone(system: SystemLibvirt, other: SystemLibvirt) -> None:
    with other.entered():
        handle = vs.connect("qemu:///system")
        guest_with_snapshot(handle.connection)
        images = pool(handle.connection, "images", IMAGES)
    host = vs.connect(other.uri)
    guest = host.guest("demo")
    assert [row.status for row in guest.snapshots()] == ["ok"]
    assert [image.known_from for image in guest.chain()] == ["volume data", "volume data"]
    with other.entered():
        (IMAGES / "demo.s1.qcow2").unlink()  # without a word to libvirt
    assert [row.status for row in guest.snapshots()] == ["missing-file"]
    with vs.connect(other.uri, readonly=True) as reading:
        [row] = reading.guest("demo").snapshots()
        assert row.status in ("unknown", "missing-file")
    images.destroy()
    [row] = guest.snapshots()
    assert row.status == "unknown"
    assert "pool images is not active" in row.problem
    images.create()
    host.close()
    handle.close()


def test_files_of_the_same_path_here_are_not_those_of_another_host(system: SystemLibvirt, other: SystemLibvirt) -> None:
    with other.entered():
        handle = vs.connect("qemu:///system")
        guest_with_snapshot(handle.connection)
    # Here are other files under these names: one is larger, the other no overlay.
    qemu_img("create", "-q", "-f", "qcow2", "demo.qcow2", "64M")
    qemu_img("create", "-q", "-f", "qcow2", "demo.s1.qcow2", "64M")
    with vs.connect(other.uri) as host:
        assert {image.virtual_size for image in host.guest("demo").chain()} <= {None, 16 << 20}
    pool(handle.connection, "images", IMAGES)
    handle.close()
    with vs.connect(other.uri) as host:
        assert [(image.virtual_size, image.name) for image in host.guest("demo").chain()] == [
            (16 << 20, "demo"),
            (16 << 20, "demo.s1"),
        ]


def test_an_image_that_only_the_daemon_sees_is_not_gone(system: SystemLibvirt, connection: Any) -> None:
    guest_with_snapshot(connection)
    images = pool(connection, "images", IMAGES)
    (IMAGES / "demo.s1.qcow2").rename("/var/lib/libvirt/kept")
    with vs.connect("qemu:///system", readonly=True) as host:
        [row] = host.guest("demo").snapshots()
        assert row.status == "unknown"
        assert "was not refreshed" in row.problem
    with vs.connect("qemu:///system") as host:
        assert [row.status for row in host.guest("demo").snapshots()] == ["missing-file"]
        images.destroy()
        [row] = host.guest("demo").snapshots()
        assert (row.status, "not active" in row.problem) == ("unknown", True)
        assert host.guest("demo").reconcile().steps == ()
        assert host.guest("demo").delete_snapshot("s1").refused
    Path("/var/lib/libvirt/kept").unlink()


@pytest.mark.parametrize("name", ["d.qcow2", "sub/d.qcow2"])
def test_nothing_is_merged_on_which_a_disk_that_is_away_may_be_based(connection: Any, name: str) -> None:
    for layer, backing in (("base", ()), ("top", ("-b", "base", "-F", "qcow2"))):
        qemu_img("create", "-q", "-f", "qcow2", *backing, layer, "8M")
    away = pool(connection, "away", IMAGES / "mnt", active=False)
    define(connection, "d", file_disk(IMAGES / "mnt" / name))
    with vs.connect("qemu:///system") as host:
        for plan in (host.survey(IMAGES).commit("top"), host.survey(IMAGES).pull("top", remove=True)):
            assert refused(plan) == {"unknown-image"}
        (IMAGES / "mnt").mkdir()
        away.create()
        assert not host.survey(IMAGES).commit("top").refused  # now libvirt says that it is gone


@pytest.mark.parametrize("with_pool", [False, True])
def test_a_disk_below_a_mount_point_where_nothing_is_mounted_is_not_gone(
    connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_pool: bool
) -> None:
    for layer, backing in (("base", ()), ("top", ("-b", "base", "-F", "qcow2"))):
        qemu_img("create", "-q", "-f", "qcow2", *backing, layer, "8M")
    place = IMAGES / "a share"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "disks", place], check=True)
    qemu_img("create", "-q", "-f", "qcow2", "-b", IMAGES / "base", "-F", "qcow2", place / "d.qcow2")
    define(connection, "d", file_disk(place / "d.qcow2"))
    if with_pool:
        pool(connection, "share", place)
    table = tmp_path / "fstab"
    table.write_text(f"# NFS\n\ntmpfs {IMAGES}/a\\040share/ tmpfs noauto 0 0\n/dev/none none swap sw\n")
    monkeypatch.setattr(unmounted, "_TABLE", str(table))
    with vs.connect("qemu:///system") as host:
        assert host.guest("d").snapshot("s1", kind="external-disk").run(progress=False).as_predicted
        assert refused(host.survey(IMAGES).commit("top")) == {"shared-base"}
        subprocess.run(["umount", place], check=True)
        plan = host.survey(IMAGES).commit("top")
        assert refused(plan) == {"unknown-image"}
        assert f"{place} is listed in /etc/fstab" in str(plan.concerns[0].what)
        assert [row.status for row in host.guest("d").snapshots()] == ["unknown"]
        assert host.guest("d").reconcile().steps == ()
        table.write_text("")
        assert not host.survey(IMAGES).commit("top").refused
        assert [row.status for row in host.guest("d").snapshots()] == ["missing-file"]


def in_no_pool(connection: Any, place: Path, *, between: bool) -> None:
    """Have a running guest on an overlay, and one that is off, whose disk is based on the same image.

    No storage pool has that disk; with `between`, none has only the layer between the two.
    """
    place.mkdir(mode=0o755)
    for path, below in ((IMAGES / "mine", IMAGES / "base"), (place / "middle", IMAGES / "base")):
        if not (IMAGES / "base").exists():
            qemu_img("create", "-q", "-f", "qcow2", "base", "8M")
        qemu_img("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", path)
    disk = IMAGES / "theirs" if between else place / "theirs"
    qemu_img("create", "-q", "-f", "qcow2", "-b", place / "middle", "-F", "qcow2", disk)
    if between:
        pool(connection, "images", IMAGES)
    define(connection, "mine", file_disk(IMAGES / "mine"), running=True)
    define(connection, "theirs", file_disk(disk))


@pytest.mark.parametrize("between", [False, True])
def test_nothing_is_merged_elsewhere_on_which_a_disk_in_no_pool_may_be_based(
    system: SystemLibvirt, other: SystemLibvirt, *, between: bool
) -> None:
    place = IMAGES / "place"
    with other.entered():
        connection = library().open("qemu:///system")
        in_no_pool(connection, place, between=between)
    with vs.connect(other.uri) as host:
        assert refused(host.guest("mine").commit()) == {"unknown-image"}
        with other.entered():
            for folder in (IMAGES, place):
                with suppress(library().libvirtError):
                    pool(connection, folder.name, folder)
            if not between:
                assert refused(host.guest("mine").commit()) == {"shared-base"}  # now it is known
            connection.lookupByName("theirs").undefine()
            (IMAGES / "theirs" if between else place / "theirs").unlink()
            (place / "middle").unlink()
        assert not host.guest("mine").commit().refused
    connection.close()


def test_nothing_is_merged_on_which_a_disk_that_this_user_may_not_read_may_be_based(
    system: SystemLibvirt, connection: Any
) -> None:
    in_no_pool(connection, IMAGES / "place", between=False)
    for path in (IMAGES / "place").iterdir():
        path.chmod(0o600)
    done = system.python(
        """
        plan = vs.connect("qemu:///system").guest("mine").commit()
        print(*(f"{one.name} {one.holders}" for one in plan.concerns if one.name == "unknown-image"), sep="\\n")
        """
    )
    assert "unknown-image ('theirs',)" in done.stdout.splitlines(), done


def test_a_volume_that_libvirt_has_not_seen_yet_is_its_file(connection: Any) -> None:
    pool(connection, "images", IMAGES)
    qemu_img("create", "-q", "-f", "qcow2", "new.qcow2", "8M")
    define(connection, "d", volume_disk("images", "new.qcow2"))
    with vs.connect("qemu:///system", readonly=True) as reading:
        assert [image.path for image in reading.guest("d").chain()] == [str(IMAGES / "new.qcow2")]
    with vs.connect("qemu:///system") as host:
        assert host.guest("d").snapshot("s1", kind="external-disk").run(progress=False).as_predicted


def test_a_guest_whose_start_does_not_end_is_not_waited_for(connection: Any) -> None:
    emulator, real = IMAGES / "qemu", shutil.which("qemu-system-x86_64")
    emulator.write_text(f'#!/bin/sh\ncase "$*" in *"-machine none"*) exec {real} "$@";; esac\nexec sleep 100\n')
    emulator.chmod(0o755)
    qemu_img("create", "-q", "-f", "qcow2", "slow.qcow2", "1M")
    xml = str(define(connection, "slow", file_disk(IMAGES / "slow.qcow2")).XMLDesc())
    domain = connection.defineXML(xml.replace(f"<emulator>{real}<", f"<emulator>{emulator}<"))

    def start() -> None:
        with suppress(library().libvirtError):  # it is ended meanwhile
            domain.create()

    thread = threading.Thread(target=start)
    with vs.connect("qemu:///system") as host:
        guest = host.guest("slow")
        thread.start()
        while not is_starting(guest.handle.domain):
            time.sleep(0.05)
        began = time.monotonic()
        assert guest.unfinished() == ()
        [against] = [one for one in guest.snapshot("a").concerns if one.level == "refuse"]
        assert time.monotonic() - began < 10  # libvirt lets a question wait for 30 s
        assert (against.name, "slow.xml" in str(against.remedy)) == ("active-job", True)
        guest.destroy()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("layer", ["base", "middle", "top"])
def test_a_layer_in_whose_place_another_file_was_put_is_not_what_qemu_has_open(connection: Any, layer: str) -> None:
    for name, below in (("base", None), ("middle", "base"), ("top", "middle")):
        create(IMAGES / f"{name}.qcow2", below and IMAGES / f"{below}.qcow2", size=4 * MIB)
    write(IMAGES / "base.qcow2", "write -q -P 1 0 1M")
    was = content(IMAGES / "top.qcow2")
    define(connection, "demo", file_disk(IMAGES / "top.qcow2"), running=True)
    path = IMAGES / f"{layer}.qcow2"
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        assert guest.concerns() == ()
        path.rename(IMAGES.parent / "away")
        shutil.copyfile(IMAGES.parent / "away", path)
        write(path, "write -q -P 2 0 2M")
        assert [concern.name for concern in guest.concerns()] == ["deleted-image"]
        for plan in (guest.commit(), guest.pull(), guest.snapshot("s", kind="external-disk")):
            assert "deleted-image" in refused(plan), plan.title
        if layer == "top":
            assert refused(guest.unfinished()[0]) == {"shared-base"}
            path.rename(IMAGES / "other.qcow2")
            assert host.survey(IMAGES).pull("other").run(progress=False).as_predicted
        report = guest.unfinished()[0].run(progress=False)
        assert report.as_predicted, report.differences
        assert guest.concerns() == ()
        guest.destroy()
        assert content(guest.chain().top) == was
    (IMAGES.parent / "away").unlink()


@pytest.mark.parametrize("lost", ["all layers", "a raw disk", "the image above a shared base", "a layer, replaced"])
def test_what_no_layer_can_take_is_copied_as_the_remedy_says(connection: Any, lost: str) -> None:
    base, top, other = (IMAGES / f"{name}.qcow2" for name in ("base", "top", "other"))
    disk = create(top, create(base, size=4 * MIB), size=4 * MIB)
    disks = [file_disk(disk)]
    gone = {"all layers": (top, base), "the image above a shared base": (top,), "a layer, replaced": (base,)}
    if lost == "the image above a shared base":
        disks.append(file_disk(create(other, base), "vdb"))
    format = "raw" if lost == "a raw disk" else "qcow2"
    if format == "raw":
        disk = create(IMAGES / "disk.raw", size=4 * MIB, format="raw")
        disks = [file_disk(disk, format="raw")]
    write(disk, "write -q -P 1 0 1M", format=format)
    write(base, "write -q -P 2 1M 1M")
    was = content(disk, format)
    domain = define(connection, "demo", *disks, running=True)
    for path in gone.get(lost, (disk,)):
        path.unlink()
    if lost == "a layer, replaced":
        create(base, create(other, size=8 * MIB), size=4 * MIB)
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        [concern] = guest.concerns()
        assert str(other) not in concern.what
        plans = guest.unfinished()
        assert bool(plans) == ("guest.unfinished()" in concern.remedy) == (lost in tuple(gone)[1:])
        remedies = {concern.remedy, *(one.remedy for plan in plans for one in plan.concerns if one.level == "refuse")}
        assert len(remedies) == len(plans) + 1
        [command] = {remedy[remedy.index("virsh blockcopy") :] for remedy in remedies}
        subprocess.run(shlex.split(command), check=True)
        assert guest.concerns() == ()
        domain.destroy()
        assert content(guest.chain().top, format) == was


@pytest.mark.parametrize("running", [False, True])
def test_one_folder_elsewhere_under_two_paths_is_not_two(
    system: SystemLibvirt, other: SystemLibvirt, *, running: bool
) -> None:
    one, two, place = IMAGES / "one", IMAGES / "two", IMAGES / "place"
    with other.entered():
        connection = library().open("qemu:///system")
        one.mkdir()
        place.mkdir()
        two.symlink_to(one)
        qemu_img("create", "-q", "-f", "qcow2", one / "base", "8M")
        qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", one / "mine")
        qemu_img("create", "-q", "-f", "qcow2", "-b", two / "base", "-F", "qcow2", place / "theirs")
        qemu_img("create", "-q", "-f", "qcow2", one / "spare", "8M")
        pools = [pool(connection, folder.name, folder) for folder in (one, two, place)]
        define(connection, "mine", file_disk(one / "mine"), running=True)
        theirs = define(connection, "theirs", file_disk(place / "theirs"), running=running)
    with vs.connect(other.uri) as host:
        assert refused(host.guest("mine").commit()) == {"unknown-image"}
        assert {one.path.rpartition("/")[2] for one in host.survey().leftovers()} == {"spare"}
        with other.entered():
            if running:
                theirs.destroy()
            theirs.undefine()
            (place / "theirs").unlink()
        assert not host.guest("mine").commit().refused
        with other.entered():  # of the same name, and another file
            qemu_img("create", "-q", "-f", "qcow2", place / "base", "8M")
            qemu_img("create", "-q", "-f", "qcow2", "-b", place / "base", "-F", "qcow2", place / "top")
        assert not host.guest("mine").commit().refused
        with other.entered():
            for one_pool in pools[1:]:
                one_pool.destroy()
                one_pool.undefine()
    connection.close()


@contextmanager
def host_name(name: str) -> Iterator[None]:
    """Let this thread be on a machine of another name, as in a container."""
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/uts", os.O_RDONLY)
    try:
        assert libc.unshare(CLONE_NEWUTS) == 0
        socket.sethostname(name)
        yield
    finally:
        assert libc.setns(outside, CLONE_NEWUTS) == 0
        os.close(outside)


def test_a_libvirt_outside_of_this_container_may_have_other_files(connection: Any) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "base", "8M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top")
    define(connection, "d", file_disk(IMAGES / "top"))
    with vs.connect("qemu:///system") as host:
        with host_name("elsewhere"):
            for plan in (host.guest("d").commit(), host.survey(IMAGES).commit("top")):
                assert any("elsewhere" in one.what for one in plan.concerns if one.name == "unknown-image")
            with pytest.raises(vs.PlanRefusedError):
                plan.run(progress=False)
        for name in (socket.gethostname(), f"{socket.gethostname()}.example"):
            with host_name(name):
                assert not host.guest("d").commit().refused
