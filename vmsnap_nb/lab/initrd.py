"""The initial file system of lab guests: a few files of the distribution's own one, a few scripts, and the guest agent.

It is small so that a guest is ready soon where everything is emulated: only a busybox with its loader, and the
modules that the root disk needs, already decompressed. The scripts are in the folder ``boot`` beside this file. The
QEMU guest agent is this machine's, with its own loader and libraries; a guest works without it as well.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from importlib import resources
from pathlib import Path

from vmsnap_nb.errors import ImageError
from vmsnap_nb.lab.agent import Agent
from vmsnap_nb.lab.cpio import Entry, pack, unpack
from vmsnap_nb.words.message import t

__all__ = ["build_initrd", "without_signature"]

_SCRIPTS = ("second.sh", "port.sh", "listen.sh", "terminal.sh", "agent.sh")
_MODULES = ("virtio_blk", "ext4")
_SIGNED = b"~Module signature appended~\n"
_ABOUT_SIGNATURE = 12
"""Bytes between a signature and that mark."""


def build_initrd(distribution: bytes, agent: Agent | None = None) -> bytes:
    """Make the initial file system of lab guests, a cpio archive that is not compressed.

    It is made of the distribution's own: a cpio archive, compressed by gzip, with busybox, musl's loader and the
    modules of its kernel. Without an agent the guests have none.
    """
    try:
        entries = {entry.name: entry for entry in unpack(gzip.decompress(distribution))}
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(t("read the distribution's initramfs"), said=str(error)) from error
    files = [
        *(Entry.folder(name) for name in ("bin", "lib", "modules", "boot", "dev", "proc", "sys", "run", "sysroot")),
        Entry.file("bin/busybox", _only(entries, "busybox"), executable=True),
        Entry.file("lib/ld-musl-x86_64.so.1", _only(entries, "ld-musl-x86_64.so.1"), executable=True),
        Entry.file("init", _script("init.sh"), executable=True),
        *(Entry.file(f"boot/{name}", _script(name)) for name in _SCRIPTS),
    ]
    if agent is not None:
        files += [
            Entry.folder("boot/agent"),
            Entry.file("boot/agent/qemu-ga", agent.program, executable=True),
            Entry.file("boot/agent/ld.so", agent.loader, executable=True),
            *(Entry.file(f"boot/agent/{name}", data) for name, data in agent.libraries.items()),
        ]
    for number, module in enumerate(_load_order(entries)):
        name = Path(module).name.removesuffix(".gz")
        data = entries[module].data
        data = gzip.decompress(data) if module.endswith(".gz") else data
        # The script loads them in the order of their names.
        files.append(Entry.file(f"modules/{number:02}-{name}", without_signature(data)))
    return pack(files)


def without_signature(module: bytes) -> bytes:
    """Return a kernel module without its signature: to check that takes an emulated guest a sixth of its start.

    The form is that of the kernel's ``scripts/sign-file.c``; the length of the signature is the last of twelve bytes.
    """
    if not module.endswith(_SIGNED):
        return module
    end = len(module) - len(_SIGNED)
    (length,) = struct.unpack(">I", module[end - 4 : end])
    return module[: end - _ABOUT_SIGNATURE - length]


def _script(name: str) -> bytes:
    return resources.files(__package__).joinpath("boot", name).read_bytes()


def _only(entries: dict[str, Entry], name: str) -> bytes:
    for path, entry in entries.items():
        if path.rpartition("/")[2] == name and entry.data:
            return entry.data
    raise ImageError(
        t("create the initramfs of lab guests"),
        why=t("the distribution's initramfs does not contain {file}", file=name),
    )


def _load_order(entries: dict[str, Entry]) -> list[str]:
    """Return the modules so that each comes after those that it needs."""
    table = next((path for path in entries if path.endswith("/modules.dep")), None)
    if table is None:
        raise ImageError(
            t("create the initramfs of lab guests"),
            why=t("the distribution's initramfs does not contain {file}", file="modules.dep"),
        )
    folder = table.rpartition("/")[0]
    needs = {}
    for line in entries[table].data.decode(errors="replace").splitlines():
        module, _, others = line.partition(":")
        needs[module] = others.split()
    order: dict[str, None] = {}
    for wanted in _MODULES:
        # A module that is built into the kernel has no line, and need not be loaded.
        for module in (path for path in needs if Path(path).name.partition(".")[0] == wanted):
            # depmod writes what a module needs with the nearest first.
            order.update(dict.fromkeys(f"{folder}/{path}" for path in (*reversed(needs[module]), module)))
    return list(order)
