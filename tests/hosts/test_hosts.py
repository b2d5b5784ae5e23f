"""The hosts that tests use: each has its own files and guests, and nothing of them is left on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, qemu_img, system_libvirt

import vmsnap_nb as vs
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts


def test_root_and_a_member_of_group_libvirt_reach_the_same_daemon(system: SystemLibvirt, connection: Any) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "d.qcow2", "1M")
    define(connection, "demo", file_disk(IMAGES / "d.qcow2"), running=True)
    with vs.connect("qemu:///system") as host:
        assert (host.guest("demo").state, host.guest("demo").chain().top) == ("paused", str(IMAGES / "d.qcow2"))
    code = "print(vs.connect('qemu:///system').guests(), os.getuid() != 0)"
    done = system.python(code)
    assert done.stdout == "[<Guest demo: paused>] True\n", done.stderr
    done = system.python(code, groups=())
    assert "PermissionDeniedError" in done.stderr
    system.restart()
    with vs.connect("qemu:///system") as host:
        assert host.guest("demo").state == "paused"


def test_two_hosts_have_other_files_under_the_same_paths(system: SystemLibvirt, other: SystemLibvirt) -> None:
    (IMAGES / "here").touch()
    with vs.connect(other.uri) as host:
        define(host.connection, "far", file_disk(IMAGES / "far.qcow2"))
    with other.entered():
        assert os.listdir(IMAGES) == []
    assert vs.connect("qemu:///system").guests().to_frame().index.to_list() == []
    assert vs.connect(other.uri).guests().to_frame().index.to_list() == ["far"]


def test_nothing_of_a_host_is_left() -> None:
    outside = Path("/proc/self/mounts").read_text()
    with system_libvirt() as host:
        with host.entered():
            qemu_img("create", "-q", "-f", "qcow2", "d.qcow2", "1M")
            handle = library().open("qemu:///system")
            define(handle, "left", file_disk(IMAGES / "d.qcow2"), running=True)
            handle.close()
            log = Path("/var/log/libvirt/qemu/left.log").read_text()
            [process] = [int(path.read_text()) for path in Path("/run/libvirt/qemu").glob("*left.pid")]
        assert "-blockdev" in log
        assert os.path.exists(f"/proc/{process}")
    assert not os.path.exists(f"/proc/{process}")
    assert not host.folder.exists()
    assert Path("/proc/self/mounts").read_text() == outside
