"""The memory of a guest whose kernel has booted: guests with the same hardware start from it.

Without KVM a kernel takes most of a guest's start. It is booted once, up to the moment before it loads the driver of
its disks, so that it knows nothing of any disk; see ``boot/init.sh``. libvirt saves its memory then. Later guests are
restored from a copy of that file that has their own definition. They get the time, their host name and random bytes
by their port for commands.

What is saved holds for one definition, apart from names and paths, one QEMU, one libvirt and the same boot files. If
anything fails, the guest boots as any other.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import stat
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vmsnap_nb.errors import GuestNotReadyError, VmsnapError
from vmsnap_nb.lab.user_cache import user_cache
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.files.temporary import leftovers, temporary
from vmsnap_nb.system.guest.console import console_log, read_console
from vmsnap_nb.system.guest.port import COMMAND_PORT, Port
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.saved_memory import copy_saved

__all__ = ["start_from_state"]

_WAIT = "vmsnap.wait"
"""The word of the kernel's command line with which ``init.sh`` waits."""
_WAITS = "vmsnap: waiting for the host"
"""What it writes to the console then."""
_LEAST = 60.0
"""Seconds that a start must be allowed to take before a memory is saved first: without KVM a kernel takes 4 to 15."""
_ANSWERS = 20.0
_MOST_KEPT = 4
_HOST_NAME = re.compile(r"\bhostname=(\S+)")
_DEVICES = {"emulator", "disk", "controller", "serial", "console", "channel", "input", "audio", "memballoon"}
"""Those that a lab's guests have; with others nothing is saved."""
_digests: dict[tuple[int, ...], str] = {}


def start_from_state(domain: Any, booting: Callable[[], None] | None, timeout: float) -> bool:
    """Start a guest from the memory of a booted kernel; False if it has to boot.

    If no memory is saved yet for its hardware, that is done first where `timeout` leaves time for it; `booting` is told
    before. Without that, or with less time, nothing is saved.
    """
    libvirt = library()
    folder = _folder()
    if folder is None:
        return False
    state: Path | None = None
    try:
        if domain.hasManagedSaveImage() or not domain.isPersistent() or domain.isActive():
            return False
        xml = str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
        key = _key(xml)
        if key is None:
            return False
        state = folder / key
        if not _is_own(state):
            if booting is None or timeout < _LEAST:
                return False
            booting()
            _save(domain, xml, state, time.monotonic() + timeout / 2)
        _restore(domain, xml, state, timeout)
    except _EndedError:
        return True  # it was started, and does not start again
    except (OSError, ValueError, VmsnapError, libvirt.libvirtError):
        if state is not None:
            with contextlib.suppress(OSError):
                state.unlink()
        return False
    return True


def _folder() -> Path | None:
    cache = user_cache()
    if cache is None:
        return None
    folder = cache / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(folder)
    except OSError:
        return None
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() else None


def _is_own(path: Path) -> bool:
    """Return whether a file is there that this user made, and that nobody else can read or change."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


class _EndedError(Exception):
    """Somebody has ended the guest meanwhile."""


@contextlib.contextmanager
def _or_end(domain: Any) -> Iterator[None]:
    """End the guest if something fails after it was started here."""
    libvirt = library()
    try:
        yield
    except BaseException as error:
        try:
            domain.destroy()
        except libvirt.libvirtError:
            if isinstance(error, Exception):
                raise _EndedError from error
        raise


# -- which memory fits ---------------------------------------------------------------------------------------


def _key(xml: str) -> str | None:
    """Return the name of the memory that a guest can start from; None if it has to boot."""
    domain = parse_xml(xml)
    system, devices = domain.find("os"), domain.find("devices")
    if domain.get("type") != "qemu" or system is None or devices is None:
        return None
    kernel, initrd = system.findtext("kernel"), system.findtext("initrd")
    odd = {device.tag for device in devices} - _DEVICES or system.find("loader") is not None
    if kernel is None or initrd is None or odd or COMMAND_PORT not in xml:
        return None
    emulator = devices.findtext("emulator", "")
    try:
        files = [_digest(kernel), _digest(initrd), _digest(emulator)]
    except OSError:
        return None
    for tag in ("name", "uuid", "title", "description", "metadata", "seclabel"):
        for element in domain.findall(tag):
            domain.remove(element)
    for element in devices.iter():
        for name in ("file", "path"):
            element.attrib.pop(name, None)
    for tag in ("kernel", "initrd", "cmdline"):
        for element in system.findall(tag):
            element.text = _HOST_NAME.sub("", element.text or "") if tag == "cmdline" else ""
    known = [ET.tostring(domain, encoding="unicode"), str(library().getVersion()), *files]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()


def _digest(path: str) -> str:
    """Return the digest of a file; files that did not change are read once."""
    found = os.stat(path)
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if key not in _digests:
        with open(path, "rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


# -- saving --------------------------------------------------------------------------------------------------


def _save(domain: Any, xml: str, state: Path, deadline: float) -> None:
    """Boot the guest's kernel until it waits, and save its memory."""
    waiting = parse_xml(xml)
    cmdline, log = waiting.find("os/cmdline"), console_log(waiting)
    if cmdline is None or log is None:
        raise ValueError
    cmdline.text = f"{_HOST_NAME.sub('', cmdline.text or '').strip()} {_WAIT}"
    for path, _ in leftovers(str(state.parent)):
        os.unlink(path)
    domain.connect().createXML(ET.tostring(waiting, encoding="unicode"))
    with _or_end(domain), temporary(str(state.parent)) as new:
        while _WAITS not in read_console(log):
            if time.monotonic() > deadline or not domain.isActive():
                raise ValueError
            time.sleep(0.05)
        domain.save(new.path)
        if not _is_own(Path(new.path)):
            raise ValueError
        os.replace(new.path, state)
    _remove_old(state.parent)


def _remove_old(folder: Path) -> None:
    """Remove all that is saved there but what was used last."""
    kept = sorted(folder.glob("[0-9a-f]*"), key=lambda path: path.lstat().st_mtime_ns)
    for old in kept[:-_MOST_KEPT]:
        old.unlink(missing_ok=True)


# -- restoring -----------------------------------------------------------------------------------------------


def _restore(domain: Any, xml: str, state: Path, timeout: float) -> None:
    """Start the guest from that memory, and tell it what has changed."""
    libvirt = library()
    connection = domain.connect()
    with temporary(str(state.parent)) as new:
        copy_saved(str(state), new.fd, xml)
        connection.restoreFlags(new.path, None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
    with _or_end(domain):
        os.utime(state)
        name = _HOST_NAME.search(parse_xml(xml).findtext("os/cmdline", ""))
        news = f"{round(time.time())}\n{name[1] if name else ''}\n{secrets.token_hex(32)}\n"
        word = f"greet{secrets.token_hex(8)}"
        answer = [f"@{word}".encode(), b"end"]
        deadline = time.monotonic() + min(timeout, _ANSWERS)
        with Port(connection, domain, COMMAND_PORT) as port:
            port.send(f"\n{word} 0 {base64.b64encode(news.encode()).decode()}\n".encode(), deadline)
            try:
                next(line for line in port.lines(deadline) if line.split()[:2] == answer)
            except GuestNotReadyError:
                if timeout >= _ANSWERS:  # with less time it may only be slow
                    raise
