"""Faults of images, made on purpose so that they can be repaired."""

from __future__ import annotations

import os
from pathlib import Path

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.model.names import there_are
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.qcow2 import format as f
from vmsnap_nb.system.qcow2.mark import write_header
from vmsnap_nb.words.message import Message, t

__all__ = ["break_image", "forget_backing_format"]


def forget_backing_format(path: str | os.PathLike[str], tried: Message) -> None:
    """Remove the backing format from the header of an image, as old versions of QEMU left it."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise from_os_error(error, tried) from error
    place = head.find(f.EXTENSION.pack(f.BACKING_FORMAT, len("qcow2")))
    if place < 0:
        raise InvalidRequestError(
            tried,
            why=t("the header does not record that its backing file is qcow2"),
            next_step=t("choose an overlay of a qcow2 image"),
        )
    write_header(str(path), head[:place] + f.EXTENSION.pack(f.END, 0) + head[place + 8 :], tried)


_FAULTS = {"missing-format": forget_backing_format}


def break_image(root: Path, fault: str, path: str | os.PathLike[str]) -> None:
    """Break an image that is in a lab's folder; no other."""
    tried = t("break {image}", image=os.fspath(path))
    if fault not in _FAULTS:
        raise NotFoundError(
            tried, why=t("no fault has the name {fault!r}", fault=fault), next_step=there_are(fault, _FAULTS)
        )
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise InvalidRequestError(
            tried,
            why=t("it is not in the folder of this lab"),
            next_step=t("copy it into {folder}", folder=root),
        )
    _FAULTS[fault](path, tried)
