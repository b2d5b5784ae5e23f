"""What a lab's guests boot: a kernel and an initial file system, made once in the lab's folder."""

from __future__ import annotations

from pathlib import Path

from vmsnap_nb.lab.agent import Agent
from vmsnap_nb.lab.alpine import Alpine, read_checked
from vmsnap_nb.lab.initrd import build_initrd
from vmsnap_nb.lab.kernel import unpack_kernel
from vmsnap_nb.system.os_errors import from_os_error
from vmsnap_nb.system.whole_file import write_whole

__all__ = ["make_boot_files"]


def make_boot_files(folder: Path, alpine: Alpine, agent: Agent | None) -> tuple[Path, Path]:
    """Make the two files, or what is missing of them.

    Parameters
    ----------
    folder : pathlib.Path
        Where they are kept.
    alpine : Alpine
        What they are made of.
    agent : Agent, optional
        The guest agent for the guests.

    Returns
    -------
    tuple of pathlib.Path
        The kernel and the initial file system.

    Raises
    ------
    ImageError
        A file of the distribution is not what it should be.
    NoSpaceError, PermissionDeniedError
        They cannot be written.
    """
    kernel, initrd = folder / "kernel", folder / "initrd"
    try:
        if not kernel.exists():
            write_whole(kernel, unpack_kernel(read_checked(alpine.kernel)))
        small = build_initrd(read_checked(alpine.initrd), agent)
        if not initrd.exists() or initrd.read_bytes() != small:
            write_whole(initrd, small)
    except OSError as error:
        raise from_os_error(error, f"write what guests boot to {folder}") from error
    return kernel, initrd
