"""Checks of images by QEMU, within limits: of those alone that were read on this machine, and are still the same."""

from __future__ import annotations

import os
import stat

from vmsnap_nb.errors import ImageError, StalePlanError
from vmsnap_nb.live.confined import parts_of
from vmsnap_nb.model import image as model
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.model.number import check_seconds
from vmsnap_nb.system.confine import FileOf, only
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.qemu.check import check
from vmsnap_nb.words.message import t

__all__ = ["check_image"]

_READ = {"ok", "in-use", "dirty", "corrupt"}


def check_image(image: Image, timeout: float) -> ImageCheck:
    """Let QEMU check an image that was read here, without its backing files."""
    tried, seconds = t("check {image}", image=image.path), check_seconds(timeout, above_zero=True)
    if image.status not in _READ or image.identity is None:
        raise ImageError(
            tried,
            why=image.problem or t("its file was not read on this machine"),
            next_step=t("on the machine with the file, read it with vmsnap_nb.chain(path) and check it there"),
        )
    if image.format is None:
        raise ImageError(
            tried, why=t("its format is unknown"), next_step=t("specify its format: chain(path, format=…)")
        )
    if image.encryption:
        raise ImageError(
            tried,
            why=t("it is encrypted ({method}) and needs a key", method=image.encryption),
            next_step=t("use this command: {command}", command="qemu-img check --object secret,… --image-opts …"),
        )
    if image.data_file is not None and image.data_status != "ok":
        raise ImageError(
            tried,
            why=t("its data is in {path}, which was not read", path=image.data_file.written),
            next_step=t("when you read the image, also pass the folder of that file"),
        )
    with os_errors(tried):
        found = os.stat(image.path)
    if stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) != image.identity:
        why = t("a different file now has this name")
        raise StalePlanError(tried, why=why, next_step=t("read it again with forest.refresh()"))
    with only((FileOf(path=image.path, identity=image.identity), *parts_of(image))):
        return check(image.path, image.format, seconds=seconds)


model.register_check(check_image)
