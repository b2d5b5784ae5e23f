"""The libvirt of a lab: embedded in this process, or the user's session beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from vmsnap_nb.errors import InvalidRequestError, LibvirtError, VmsnapError
from vmsnap_nb.lab.capabilities import lend_capabilities
from vmsnap_nb.lab.contents import check_definitions, prepare_run
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.words.message import t

__all__ = ["Driver", "advise", "check_driver", "embedded", "prepare", "write_qemu_conf"]

Driver = Literal["embed", "session"]


def check_driver(driver: str) -> None:
    """Check that a lab can have this driver."""
    if driver not in ("embed", "session"):
        raise InvalidRequestError(
            t("open a lab with driver={driver!r}", driver=driver), next_step=t("use 'embed' or 'session'")
        )


def prepare(driver: Driver, root: Path) -> str:
    """Write what the driver needs in a lab's folder, and return libvirt's address."""
    if driver == "session":
        return "qemu:///session"
    try:
        check_definitions(root)
        prepare_run(root)
    except OSError as error:
        raise from_os_error(error, t("prepare libvirt in {folder}", folder=root)) from error
    write_qemu_conf(root)
    lend_capabilities(root)
    return embedded(root)


def embedded(root: Path) -> str:
    """Return the address of the libvirt in a folder."""
    return f"qemu:///embed?root={quote(str(root))}"


def advise(error: VmsnapError, driver: Driver) -> None:
    """Say what to do where root's session cannot be reached."""
    if driver == "session" and os.geteuid() == 0 and isinstance(error, LibvirtError):
        error.next_step = t(
            "root has no libvirt session and uses the system libvirt. Start it with systemctl start libvirtd (or "
            "virtqemud.socket), or use driver='embed'"
        )


def write_qemu_conf(root: Path) -> None:
    """Configure the embedded driver (https://libvirt.org/drvqemu.html)."""
    lines = [
        'security_driver = "none"',
        'stdio_handler = "file"',  # there is no virtlogd beside an embedded driver
        "namespaces = []",
        "cgroup_controllers = []",
        "max_core = 0",  # libvirt would raise the limit, and fails where that is forbidden, as under sudo
        # Otherwise libvirt asks a QEMU that starts for each of 400 features of its processor: three quarters
        # of what its start costs. It reads them as it does of an older QEMU.
        'capability_filters = [ "cpu-unavailable-features" ]',
    ]
    if os.geteuid() == 0:
        # Otherwise QEMU would run as another user, and the images would be given to that one.
        lines += ['user = "+0"', 'group = "+0"', "dynamic_ownership = 0", "remember_owner = 0"]
    lines += os.environ.get("VMSNAP_QEMU_CONF", "").splitlines()
    try:
        (root / "etc").mkdir(mode=0o700, exist_ok=True)
        write_whole(root / "etc" / "qemu.conf", ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise from_os_error(error, t("configure libvirt in {folder}", folder=root)) from error
