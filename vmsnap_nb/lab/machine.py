"""What the guests of a lab run on: the files that they boot, their sockets, and how they are accelerated."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.lab.acceleration import Acceleration, choose_acceleration
from vmsnap_nb.lab.agent import Agent, find_agent
from vmsnap_nb.lab.alpine import find_alpine
from vmsnap_nb.lab.boot_files import make_boot_files
from vmsnap_nb.lab.domain_xml import DomainSpec
from vmsnap_nb.lab.driver import Driver
from vmsnap_nb.lab.kernel_state import start_from_state

__all__ = ["Machine"]


class Machine:
    """The machine of a lab's guests; what it takes time to find out is kept."""

    def __init__(self, root: Path, driver: Driver) -> None:
        self.root = root
        self.driver = driver
        self._acceleration: Acceleration | None = None
        self._boot_files: tuple[Path, Path] | None = None

    @property
    def known_acceleration(self) -> Acceleration | None:
        """How guests are run, if that was found out already."""
        return self._acceleration

    @property
    def acceleration(self) -> Acceleration:
        """How guests are run, found out by booting one, once."""
        if self._acceleration is None:
            self._acceleration = choose_acceleration(self.boot_files)
        return self._acceleration

    def boot_files(self) -> tuple[Path, Path]:
        """Return the kernel and the initial file system."""
        if self._boot_files is None:
            self._boot_files = make_boot_files(self.root / "boot", find_alpine(), _agent())
        return self._boot_files

    def domain(self, name: str, *disks: str, memory: int, cpus: int, by_kernel: bool) -> DomainSpec:
        """Return what a new domain with these images as its disks is made of."""
        identity = uuid.uuid4()
        kernel, initrd = map(str, self.boot_files()) if by_kernel else (None, None)
        disk, *more = disks
        return DomainSpec(
            name=name,
            uuid=str(identity),
            disk=disk,
            root=str(self.root),
            memory=memory,
            cpus=cpus,
            kernel=kernel,
            initrd=initrd,
            kvm=self.acceleration.kind == "kvm",
            console_log=str(self.root / "console" / f"{identity}.log"),
            # Root's session is the system's libvirt, whose QEMU has a user that may not enter root's folders.
            as_root=self.driver == "session" and os.geteuid() == 0,
            port=self._socket(f"{identity.hex[:12]}.c"),
            agent=self._socket(f"{identity.hex[:12]}.a"),
            more=tuple(more),
        )

    def start(self, domain: Any, booting: Callable[[], None] | None, timeout: float) -> bool:
        """Start a guest without a boot of its kernel, where that is possible."""
        return self.driver == "embed" and start_from_state(domain, booting, timeout)

    def _socket(self, name: str) -> str | None:
        # In its own folder libvirt would choose a longer path, and socket paths end at 107 bytes. A session's libvirt
        # has folders of its own, in which its QEMU may write.
        return str(self.root / "port" / name) if self.driver == "embed" else None


def _agent() -> Agent | None:
    """Return the guest agent for the guests; without it they work, but cannot be frozen."""
    try:
        return find_agent()
    except VmsnapError:
        return None
