"""What a lab's guests boot: a kernel and an initial file system, made once in the lab's folder."""

from __future__ import annotations

from pathlib import Path

from vmsnap_nb.errors import ImageError
from vmsnap_nb.lab.agent import Agent
from vmsnap_nb.lab.alpine import Alpine, read_checked, reinstall_step
from vmsnap_nb.lab.initrd import build_initrd
from vmsnap_nb.lab.kernel import unpack_kernel
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.words.message import t

__all__ = ["make_boot_files"]


def make_boot_files(folder: Path, alpine: Alpine, agent: Agent | None) -> tuple[Path, Path]:
    """Return the kernel and the initial file system in a folder; those that are missing are made."""
    kernel, initrd = folder / "kernel", folder / "initrd"
    try:
        if not kernel.exists():
            write_whole(kernel, unpack_kernel(read_checked(alpine.kernel)))
        small = build_initrd(read_checked(alpine.initrd), agent)
        if not initrd.exists() or initrd.read_bytes() != small:
            write_whole(initrd, small)
    except ImageError as error:
        error.next_step = error.next_step or reinstall_step()
        raise
    except OSError as error:
        raise from_os_error(error, t("write the kernel and the initramfs to {folder}", folder=folder)) from error
    return kernel, initrd
