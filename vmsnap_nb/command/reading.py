"""Commands that only read: images, chains, hosts, snapshots, space, findings, leftovers, and files on disks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vmsnap_nb.command.given import Given
from vmsnap_nb.command.grammar import COMMON, READONLY, Command
from vmsnap_nb.command.output import Output
from vmsnap_nb.command.verbs import FOLDER, guests
from vmsnap_nb.command.where import Where, opened
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import N_, t

if TYPE_CHECKING:
    from vmsnap_nb.model.shown import Shown, Tabled

__all__ = ["FOLDERS_OR_HOST", "read_commands"]

Thing = Any
_FOLDERS = Given(
    name="folder", what=N_("folders to read; default: the current folder"), place="FOLDER", many=True, kind="file"
)
_MORE = Given(name="folder", what=N_("additional folders to read"), place="FOLDER", many=True, kind="file")
FOLDERS_OR_HOST = Given(
    name="folder",
    what=N_("folders to read; without --connect, only these are read (default: the current folder)"),
    place="FOLDER",
    many=True,
    kind="file",
)
_TABLE = Given(name="table", what=N_("print a table instead of a figure"), kind="flag")
_OF_GUEST = Given(name="guest", value="NAME", what=N_("the disk of this guest, instead of an image"), complete=guests)
_DISK = Given(name="disk", what=N_("the disk of the guest, such as vda"))


@dataclass(frozen=True, kw_only=True)
class Read:
    """A command that reads one thing and shows it."""

    name: str
    what: str
    read: Callable[[Where, Mapping[str, Any]], Shown | Tabled]
    givens: tuple[Given, ...]
    examples: tuple[str, ...] = ()


def read_commands() -> list[Command]:
    """Return the commands, in the order of help."""
    return [
        Command(one.name, one.what, partial(_call, one), givens=(*one.givens, READONLY, *COMMON), examples=one.examples)
        for one in READS
    ]


def _call(one: Read, values: dict[str, Any]) -> int:
    output = Output(one.name, as_json=values["json"])
    with opened(values) as where:
        thing = one.read(where, values)
        output.show(thing, table=values.get("table", False))
        for note in getattr(thing, "notes", ()):
            output.remark(t("note: {text}", text=note))
    return 0


def _scan(_: Where, values: Mapping[str, Any]) -> Thing:
    from vmsnap_nb.live.forest import scan

    if values["connect"] or values["shared"]:
        raise InvalidRequestError(
            t("scan with --connect"),
            why=t("scan reads folders on this machine, without libvirt"),
            next_step=t("use vmsnap-nb survey --connect URI [FOLDER…]"),
        )
    return scan(*values["folder"], follow=values["follow"])


def _chain(where: Where, values: Mapping[str, Any]) -> Thing:
    return _disk(where, values, values["image"])


def _disk(where: Where, values: Mapping[str, Any], image: str | None) -> Thing:
    """Return the chain of an image, or of a guest's disk."""
    from vmsnap_nb.live.forest import chain

    if values.get("guest"):
        return where.guest(values["guest"]).chain(values.get("disk"))
    if image is None:
        raise InvalidRequestError(
            t("read a chain"),
            why=t("{name} is missing", name="IMAGE"),
            next_step=t("pass the image, or add --guest NAME"),
        )
    if values["connect"]:
        host, image = where.of_image(image)
        beside = (os.path.dirname(image),) if "/" in image else ()
        return host.survey(*beside, *values["folder"]).chain(image)
    return chain(image, folders=values["folder"], follow=True)


def _survey(where: Where, values: Mapping[str, Any]) -> Thing:
    return where.host().survey(*values["folder"])


def _snapshots(where: Where, values: Mapping[str, Any]) -> Thing:
    return where.guest(values["guest"]).snapshots() if values["guest"] else where.host().snapshots()


def _images_or_host(name: str, where: Where, values: Mapping[str, Any]) -> Thing:
    """Return what a method of a host, or of a forest, finds."""
    if where.has_libvirt:
        return getattr(where.host(), name)(*values["folder"])  # of one host, or of a fleet
    return getattr(where.forest(values["folder"]), name)()


def _rest(values: Mapping[str, Any], least: int, most: int, names: str) -> tuple[str | None, list[str]]:
    """Return the image, unless a guest is named, and the arguments after it."""
    words = list(values["words"])
    image = None if values["guest"] or not words else words.pop(0)
    if not least <= len(words) <= most:
        raise InvalidRequestError(
            t("read the arguments {words}", words=" ".join(values["words"]) or "-"),
            why=t("too few or too many arguments were given"),
            next_step=t("use {usage}, or, for a guest, --guest NAME {rest}", usage=f"IMAGE {names}", rest=names),
        )
    return image, words


def _diff(where: Where, values: Mapping[str, Any]) -> Thing:
    image, states = _rest(values, 1, 2, "BEFORE [AFTER]")
    if values["guest"]:
        guest = where.guest(values["guest"])
        return guest.diff(*states, path=values["path"] or "/", target=values["disk"])
    return _disk(where, values, image).diff(*states, path=values["path"] or "/")


def _files(where: Where, values: Mapping[str, Any]) -> Thing:
    image, paths = _rest(values, 0, 1, "[PATH]")
    path, options = (paths or ["/"])[0], {"at": values["at"], "recursive": values["recursive"]}
    if values["guest"]:
        return where.guest(values["guest"]).files(path, target=values["disk"], **options)
    return _disk(where, values, image).files(path, **options)


READS = (
    Read(
        name="scan",
        what=N_("Show the images in folders, without using libvirt"),
        read=_scan,
        givens=(
            _FOLDERS,
            Given(name="follow", what=N_("also read backing files outside these folders"), kind="flag"),
            _TABLE,
        ),
        examples=("vmsnap-nb scan /srv/images", "vmsnap-nb scan --json | jq '.records[].path'"),
    ),
    Read(
        name="chain",
        what=N_("Show the backing chain of an image or of a guest's disk"),
        read=_chain,
        givens=(
            Given(name="image", what=N_("the image"), place="IMAGE", kind="file"),
            _OF_GUEST,
            _DISK,
            FOLDER,
            _TABLE,
        ),
        examples=("vmsnap-nb chain top.qcow2", "vmsnap-nb chain --guest web --disk vdb"),
    ),
    Read(
        name="survey",
        what=N_("Show all images of a host, with the guests that use them"),
        read=_survey,
        givens=(_MORE, _TABLE),
        examples=("vmsnap-nb survey", "vmsnap-nb survey --connect qemu+ssh://box/system --table"),
    ),
    Read(
        name="snapshots",
        what=N_("Show the snapshots of all guests or of one guest"),
        read=_snapshots,
        givens=(Given(name="guest", what=N_("the guest"), place="GUEST", complete=guests), _TABLE),
        examples=("vmsnap-nb snapshots web", "vmsnap-nb snapshots --table"),
    ),
    Read(
        name="space",
        what=N_("Show how much disk space images use, and how to free it"),
        read=partial(_images_or_host, "space"),
        givens=(FOLDERS_OR_HOST,),
        examples=("vmsnap-nb space /srv/images",),
    ),
    Read(
        name="findings",
        what=N_("Show problems and risks"),
        read=partial(_images_or_host, "findings"),
        givens=(FOLDERS_OR_HOST,),
        examples=("vmsnap-nb findings --connect qemu:///system",),
    ),
    Read(
        name="leftovers",
        what=N_("Show files that appear to be unneeded"),
        read=partial(_images_or_host, "leftovers"),
        givens=(FOLDERS_OR_HOST,),
        examples=("vmsnap-nb leftovers --connect qemu:///system",),
    ),
    Read(
        name="diff",
        what=N_("Show which files differ between two states of a disk"),
        read=_diff,
        givens=(
            Given(
                name="words",
                what=N_("the image and its states (layers or internal snapshots); for a guest, its snapshots"),
                place="IMAGE BEFORE [AFTER]",
                many=True,
            ),
            _OF_GUEST,
            _DISK,
            Given(name="path", what=N_("the folder to compare; default: /")),
            FOLDER,
        ),
        examples=("vmsnap-nb diff top.qcow2 snap-1", "vmsnap-nb diff --guest web monday --path /etc"),
    ),
    Read(
        name="files",
        what=N_("List files on a disk, without starting the guest"),
        read=_files,
        givens=(
            Given(
                name="words",
                what=N_("the image and a folder on the disk; default: /"),
                place="IMAGE [PATH]",
                many=True,
            ),
            _OF_GUEST,
            _DISK,
            Given(name="at", what=N_("an earlier state: a layer or a snapshot")),
            Given(name="recursive", what=N_("list the folder recursively"), kind="flag"),
            FOLDER,
        ),
        examples=("vmsnap-nb files top.qcow2 /etc", "vmsnap-nb files --guest web /var/log --at monday"),
    ),
)
