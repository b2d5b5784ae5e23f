"""Hosts for tests: private system libvirt daemons, each in a mount namespace of its own, on this machine.

A test enters a host, where ``qemu:///system`` is its daemon and /var/lib/libvirt/images its folder; from elsewhere it
is ``qemu+tcp://127.0.0.1:PORT/system``. Several are several hosts, each with other files under the same paths.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import ROOT, TESTS
from support.certificates import make_certificates
from support.images import MIB, luks
from support.labs import PREFIX
from vmsnap_nb.system.libvirt.library import library

IMAGES = Path("/var/lib/libvirt/images")
"""Where the images of every host are, seen from inside."""
MEMBER = "member"
"""A plain user in the group libvirt."""

_CLONE_NEWNS, _CLONE_FS = 0x00020000, 0x00000200
_LIBVIRTD = """\
unix_sock_group = "libvirt"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
listen_tls = 1
listen_tcp = 1
listen_addr = "127.0.0.1"
tcp_port = "{port}"
tls_port = "{tls_port}"
auth_tcp = "none"
auth_tls = "none"
host_uuid = "{uuid}"
ca_file = "{folder}/pki/cacert.pem"
cert_file = "{folder}/pki/servercert.pem"
key_file = "{folder}/pki/serverkey.pem"
log_outputs = "3:file:{folder}/libvirtd.log"
"""
_QEMU = {
    "user": "libvirt-qemu",
    "group": "libvirt-qemu",
    "dynamic_ownership": 1,
    "remember_owner": 0,
    "namespaces": [],
    "cgroup_controllers": [],
    "security_driver": "none",
    "stdio_handler": "file",
    "max_core": 0,
    "capability_filters": ["cpu-unavailable-features"],
}


@dataclass(frozen=True)
class SystemLibvirt:
    """A host; get one from `system_libvirt`."""

    folder: Path
    port: int
    tls_port: int
    keeper: subprocess.Popen[str]

    @property
    def uri(self) -> str:
        """Its address for those who are not on it."""
        return f"qemu+tcp://127.0.0.1:{self.port}/system"

    @property
    def tls_uri(self) -> str:
        """The same with encryption, and with certificates of this host alone."""
        return f"qemu+tls://127.0.0.1:{self.tls_port}/system?pkipath={self.folder}/pki"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and what it starts, be on the host."""
        outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
        inside = os.open(f"/proc/{self.keeper.pid}/ns/mnt", os.O_RDONLY)
        folder = os.getcwd()
        try:
            _enter(inside)
            try:
                yield
            finally:
                _enter(outside)
                os.chdir(folder)
        finally:
            os.close(inside)
            os.close(outside)

    def python(
        self,
        code: str,
        *arguments: object,
        user: str = MEMBER,
        groups: Sequence[str] = ("libvirt",),
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code on the host as a user of it, with `vs` imported; what it prints comes back."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        path = os.pathsep.join(("/mnt/checkout", "/mnt/checkout/tests", "/mnt/site"))
        return subprocess.run(
            [
                *("nsenter", f"--mount=/proc/{self.keeper.pid}/ns/mnt", "--"),
                *("setpriv", f"--reuid={user}", f"--regid={user}"),
                *((f"--groups={','.join(groups)}",) if groups else ("--clear-groups",)),
                *("--", f"/mnt/python/bin/python{version}", "-c", PREFIX + textwrap.dedent(code)),
                *map(str, arguments),
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"},
            check=False,
        )

    def restart(self) -> None:
        """Restart the daemon; guests keep running."""
        self._told("restart\n")

    def _told(self, order: str = "") -> None:
        assert self.keeper.stdin is not None
        assert self.keeper.stdout is not None
        self.keeper.stdin.write(order)
        self.keeper.stdin.flush()
        if self.keeper.stdout.readline() != "ready\n":
            log = self.folder / "libvirtd.log"
            pytest.fail(f"libvirtd did not start: {log.read_text() if log.exists() else ''}")


@contextlib.contextmanager
def system_libvirt(**qemu: object) -> Iterator[SystemLibvirt]:
    """Run a private system libvirtd, with settings of its qemu.conf; it ends with this process at the latest."""
    if os.geteuid() != 0:
        pytest.fail("hosts are mount namespaces with daemons of root's: run these tests by `make test-hosts`")
    folder = Path(tempfile.mkdtemp(prefix="vh", dir="/tmp"))
    folder.chmod(0o755)
    port, tls_port = free_port(), free_port()
    make_certificates(folder / "pki")
    daemon = _LIBVIRTD.format(port=port, tls_port=tls_port, folder=folder, uuid=uuid.uuid4())
    (folder / "libvirtd.conf").write_text(daemon)
    settings = (f"{name} = {json.dumps(value)}\n" for name, value in {**_QEMU, **qemu}.items())
    (folder / "qemu.conf").write_text("".join(settings))
    shown = {"python": sys.base_prefix, "site": sysconfig.get_path("platlib"), "checkout": str(ROOT)}
    keeper = subprocess.Popen(
        [
            *("unshare", "--mount", "--propagation", "private", "--"),
            *(sys.executable, str(TESTS / "support" / "host_keeper.py"), str(folder), json.dumps(shown)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    host = SystemLibvirt(folder, port, tls_port, keeper)
    try:
        host._told()
        yield host
    finally:
        keeper.communicate(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)  # the keeper does it, unless it could not start


def free_port() -> int:
    """Return a port of the loopback on which nothing listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _enter(namespace: int) -> None:
    """Move this thread to a mount namespace; it must not share its working directory with other threads then."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_FS) or libc.setns(namespace, _CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot enter the mount namespace")


# -- what is on a host -------------------------------------------------------------------------------------


def define(connection: Any, name: str, *disks: str, running: bool = False, more: str = "") -> Any:
    """Define a guest without an operating system, of these disks' XML, and return libvirt's handle of it."""
    domain = connection.defineXML(
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid.uuid4()}</uuid><memory unit='MiB'>32</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>"
        f"<devices><emulator>{shutil.which('qemu-system-x86_64')}</emulator>{''.join(disks)}{more}"
        "<memballoon model='none'/><controller type='usb' model='none'/></devices></domain>"
    )
    if running:
        domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)
    return domain


def file_disk(path: object, target: str = "vda", format: str = "qcow2") -> str:
    """Return the XML of a disk that is a file."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


def volume_disk(pool: str, volume: str, target: str = "vda", format: str = "qcow2") -> str:
    """Return the XML of a disk that is a volume of a pool."""
    return (
        f"<disk type='volume' device='disk'><driver name='qemu' type='{format}'/>"
        f"<source pool='{pool}' volume='{volume}'/><target dev='{target}' bus='virtio'/></disk>"
    )


def encrypted_disk(connection: Any, path: Path, *, format: str = "qcow2", block: bool = False) -> str:
    """Make an image that is encrypted, inside qcow2 or as a raw one, with its key in libvirt; return its disk's XML."""
    luks("qcow2" if format == "qcow2" else "luks", path, 8 * MIB)
    key = str(uuid.uuid4())
    usage = f"<usage type='volume'><volume>{path}</volume></usage>"
    secret = connection.secretDefineXML(f"<secret ephemeral='no' private='no'><uuid>{key}</uuid>{usage}</secret>")
    secret.setValue(b"abc123")
    kind, attribute = ("block", "dev") if block else ("file", "file")
    return (
        f"<disk type='{kind}' device='disk'><driver name='qemu' type='{format}'/><source {attribute}='{path}'>"
        f"<encryption format='luks' engine='qemu'><secret type='passphrase' uuid='{key}'/></encryption></source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def part_of_file(path: Path, size: int) -> str:
    """Make a raw file; return the XML of a disk that is its second half."""
    path.write_bytes(bytes(2 * size))
    part = f"<slices><slice type='storage' offset='{size}' size='{size}'/></slices>"
    return file_disk(path, format="raw").replace(f"'{path}'/>", f"'{path}'>{part}</source>")


def pool(connection: Any, name: str, folder: object, *, active: bool = True) -> Any:
    """Define a storage pool that is a folder, and return libvirt's handle of it."""
    found = connection.storagePoolDefineXML(
        f"<pool type='dir'><name>{name}</name><target><path>{folder}</path></target></pool>"
    )
    if active:
        found.create()
    return found


def clear(connection: Any) -> None:
    """Remove every guest, pool and secret of a connection, and what is in the folder of images."""
    libvirt = library()
    for domain in connection.listAllDomains():
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        with contextlib.suppress(libvirt.libvirtError):
            domain.undefineFlags(
                flags | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            )
    for found in connection.listAllStoragePools():
        for remove in (found.destroy, found.undefine):
            with contextlib.suppress(libvirt.libvirtError):
                remove()
    for secret in connection.listAllSecrets():
        secret.undefine()
    subprocess.run(["find", str(IMAGES), "-mindepth", "1", "-delete"], check=True)


def qemu_img(*words: object, environment: Mapping[str, str] | None = None) -> str:
    """Run qemu-img in the folder of images."""
    done = subprocess.run(
        ["qemu-img", *map(str, words)], cwd=IMAGES, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done
    return done.stdout
