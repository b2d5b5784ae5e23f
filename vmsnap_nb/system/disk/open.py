"""Opening the layers of a chain that was surveyed: each file once, the very one that was looked at."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Mapping, Sequence

from vmsnap_nb.errors import ImageError
from vmsnap_nb.model.image import OPENABLE, Image, Status, reason
from vmsnap_nb.system.disk.disk import Disk
from vmsnap_nb.system.disk.layer import Layer, RawLayer
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.sources.file import FileSource
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["can_open", "check_references", "open_disk", "open_layer", "open_sources"]

_STEPS = {
    "missing": N_("find the file, or correct the path in the overlay's header: qemu-img rebase -u -b …"),
    "outside": N_("also read that folder: vmsnap_nb.chain(path, folders=[…]), or with follow=True"),
    "unreadable": N_("run this as a user who can read that file"),
}
_COPY_THERE = N_("have the image copied into one file on the machine where it was created")
_DATA_STEPS: Mapping[Status | None, str] = {
    "missing": N_("restore the data file"),
    "outside": N_("when you read the image, also pass the folder of that file"),
    "unreadable": N_("run this as a user who can read that file"),
}
"""What to do about a data file that was not opened, by its status; anything else has to be copied where it is."""


def can_open(image: Image) -> bool:
    """Return whether an image can be read here without QEMU: an unencrypted qcow2 or raw file that was read."""
    return (
        image.status in OPENABLE
        and image.format in {"qcow2", "raw"}
        and image.path.startswith("/")
        and image.encryption is None
        and image.data_status in {None, "ok"}
    )


def open_layer(image: Image, *, snapshot: str | None = None, source: Source | None = None) -> Layer:
    """Open one image by itself, or one of its internal snapshots; from another source than its file if one is given."""
    own, data = open_sources(image, source)
    try:
        return RawLayer(own) if image.format == "raw" else Qcow2Layer(own, data=data, snapshot=snapshot)
    except BaseException:
        own.close()
        if data is not None:
            data.close()
        raise


def open_sources(image: Image, source: Source | None = None) -> tuple[Source, Source | None]:
    """Open the file of an image, unless a source for it is given, and its external data file if it has one."""
    if not can_open(image) or (source is None and image.known_from != "file"):
        raise _closed(image)
    source = source or FileSource(image.path, image.identity, devices=image.device)
    try:
        there = image.format != "raw" and image.data_file is not None and image.data_file.path is not None
        return source, FileSource(image.data_file.path) if there else None  # type: ignore[union-attr, arg-type]
    except BaseException:
        source.close()
        raise


def _closed(image: Image) -> ImageError:
    """Return the error of an image that cannot be read here."""
    tried = t("read {image}", image=image.path)
    if image.known_from != "file":
        return ImageError(
            tried,
            why=t("its file is on another machine, or only libvirt can open it"),
            next_step=t("run this on the machine where the file is stored, as a user who can read it"),
        )
    if image.status not in OPENABLE:
        step = _STEPS.get(image.status)
        return ImageError(tried, why=reason(image), next_step=None if step is None else t(step))
    if image.data_status not in {None, "ok"}:
        # To copy it here with qemu-img is no way: that would open whatever file of this machine the header names.
        step = _DATA_STEPS.get(image.data_status, _COPY_THERE)
        return ImageError(tried, why=image.problem, next_step=t(step))
    why = t("its format is {format}, but only unencrypted qcow2 and raw images can be read", format=image.format)
    if image.encryption:
        why = t("it is encrypted ({method}) and needs a key", method=image.encryption)
    return ImageError(
        tried,
        why=why,
        next_step=t("copy it to a qcow2 image with qemu-img convert (pass the key if the image is encrypted)"),
    )


def check_references(layers: Sequence[Image], tried: Message) -> None:
    """Check that each of some layers, base first, is read through the next one as it is.

    A ``json:`` reference can name a part of a file, or let it be based on another one than its header names.
    """
    for image in layers[1:]:
        if image.backing is not None and not image.backing.is_plain:
            raise ImageError(
                tried,
                why=t(
                    "{path} specifies its backing file with options, so only QEMU can read it: {reference}",
                    path=image.path,
                    reference=image.backing.written,
                ),
                next_step=t(
                    "copy it into one image first: {command}",
                    command=shlex.join(("qemu-img", "convert", "-O", "qcow2", image.path, "NEW.qcow2")),
                ),
            )


def open_disk(chain: Iterable[Image], *, snapshot: str | None = None) -> Disk:
    """Open what a guest reads through a chain, base first; or through an internal `snapshot` of the last image."""
    images = list(chain)
    check_references(images, t("read {image}", image=images[-1].path))
    with contextlib.ExitStack() as stack:
        layers = []
        for number, image in enumerate(images):
            layer = open_layer(image, snapshot=snapshot if number == len(images) - 1 else None)
            stack.callback(layer.close)
            layers.append(layer)
        disk = Disk(layers)
        stack.pop_all()
    return disk
