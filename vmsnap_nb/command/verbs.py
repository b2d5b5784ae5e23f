"""All verbs that change something: what each is given, and the public function that plans it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from vmsnap_nb.command.completion import connections
from vmsnap_nb.command.given import Given
from vmsnap_nb.words.message import N_

__all__ = ["VERBS", "Verb"]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb: `images` is the method of `LiveForest` that plans it, `guest` that of `Guest`; one of them may be empty.

    Its options are those of these methods. A verb of images and guests is one of a guest if ``--guest`` is given.
    `among` says that arguments are folders to read.
    """

    name: str
    what: str
    images: str = ""
    guest: str = ""
    givens: tuple[Given, ...] = ()
    examples: tuple[str, ...] = ()
    among: bool = False
    several: bool = False

    @property
    def main(self) -> Given | None:
        """The argument that names the image, if it has one."""
        return next((given for given in self.givens if given.place == "IMAGE"), None)


def guests(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Return the names of guests that begin so: for completion, so that errors are none.

    Shells take an answer by lines; a name with a control character would be several.
    """
    from vmsnap_nb.command.where import opened
    from vmsnap_nb.errors import VmsnapError

    try:
        with opened({"connect": connections(ctx), "readonly": True}) as where:
            return [name for name in where.guest_names() if name.startswith(begun) and name.isprintable()]
    except VmsnapError:
        return []


def snapshots(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Return the names of the guest's snapshots that begin so, as `guests` does."""
    from vmsnap_nb.command.where import opened
    from vmsnap_nb.errors import VmsnapError

    try:
        with opened({"connect": connections(ctx), "readonly": True}) as where:
            listed = where.guest(ctx.params.get("guest") or "").snapshots()
            return [row.name for row in listed if row.name.startswith(begun) and row.name.isprintable()]
    except VmsnapError:
        return []


def _kept(values: tuple[str, ...]) -> int | tuple[str, ...]:
    """Return a number of images, or names of some; `shorten` says which numbers are possible."""
    if len(values) == 1:
        with contextlib.suppress(ValueError):
            return int(values[0])
    return values


def _disks(values: tuple[str, ...]) -> Mapping[str, str] | tuple[str, ...]:
    if not any("=" in value for value in values):
        return values
    parts = (value.partition("=") for value in values)
    return {target: where or "external" for target, _, where in parts}


def _method(value: str) -> int:
    return int(value)


def _image(what: str, name: str, guest_name: str = "", *, only: Any = "") -> Given:
    return Given(name=name, what=what, place="IMAGE", guest_name=guest_name, only=only, kind="file")


GUEST = Given(name="guest", what=N_("the guest"), place="GUEST", required=True, complete=guests)
OF_GUEST = Given(name="guest", value="NAME", what=N_("act on the chain of this guest's disk"), complete=guests)
FOLDER = Given(
    name="folder", what=N_("an additional folder to read, with overlays or backing files"), many=True, kind="file"
)
FOLDERS = Given(name="folder", what=N_("folders to read"), place="FOLDER", many=True, kind="file")
_DISK = Given(name="disk", what=N_("the disk, such as vda; default: the first disk with an image"), only="guest")
_REMOVE = Given(name="remove", what=N_("remove the files that are no longer needed"), kind="flag")
_VERIFY = Given(name="verify", what=N_("compare every remaining disk before and after"), kind="flag")
_LIMITS = (
    Given(
        name="bandwidth",
        value="BYTES",
        what=N_("maximum bytes per second while the guest runs"),
        kind="count",
        only="guest",
    ),
    Given(
        name="timeout",
        value="SECONDS",
        what=N_("seconds after which a block job is cancelled"),
        kind="number",
        only="guest",
    ),
)

VERBS = (
    Verb(
        name="commit",
        what=N_("Merge layers down, into their backing file"),
        images="commit",
        guest="commit",
        givens=(
            _image(N_("the highest layer to commit"), "top"),
            Given(
                name="base",
                value="IMAGE",
                what=N_("the layer that receives the data; default: the layer below"),
                kind="file",
            ),
            OF_GUEST,
            _DISK,
            Given(
                name="keep_active",
                what=N_("let the guest keep writing to its active layer"),
                kind="flag",
                only="guest",
            ),
            *_LIMITS,
            _REMOVE,
            _VERIFY,
            FOLDER,
        ),
        examples=(
            "vmsnap-nb plan commit /srv/images/snap-3.qcow2 --base snap-1",
            "vmsnap-nb run commit --guest web --remove",
        ),
    ),
    Verb(
        name="pull",
        what=N_("Merge layers up, into an overlay"),
        images="pull",
        guest="pull",
        givens=(
            _image(N_("the image that receives the data"), "image", "into"),
            Given(name="base", value="IMAGE", what=N_("the new backing file of the image; default: none"), kind="file"),
            OF_GUEST,
            _DISK,
            *_LIMITS,
            _REMOVE,
            _VERIFY,
            FOLDER,
        ),
        examples=("vmsnap-nb plan pull top.qcow2 --base base.qcow2", "vmsnap-nb run pull --guest web"),
    ),
    Verb(
        name="remove",
        what=N_("Remove one layer from its chain, and delete its file"),
        images="remove",
        givens=(
            _image(N_("the layer"), "image", only="images"),
            Given(
                name="method",
                what=N_("1: merge the data down; 2: merge the data up; default: the method that copies less"),
                choices=("1", "2"),
                convert=_method,
            ),
            _VERIFY,
            FOLDER,
        ),
        examples=("vmsnap-nb plan remove snap-2.qcow2",),
    ),
    Verb(
        name="shorten",
        what=N_("Shorten a chain while copying as little data as possible"),
        images="shorten",
        guest="shorten",
        givens=(
            _image(N_("the top of the chain"), "image", only="images"),
            Given(
                name="keep",
                value="N|IMAGE",
                what=N_("the number of images that may remain, or the name of an image that must remain"),
                many=True,
                required=True,
                convert=_kept,
            ),
            OF_GUEST,
            _DISK,
            Given(
                name="top_may_go",
                what=N_("allow the content to end up in the file of a lower layer"),
                kind="flag",
                only="images",
            ),
            _REMOVE,
            _VERIFY,
            FOLDER,
        ),
        examples=("vmsnap-nb plan shorten --guest web --keep 2",),
    ),
    Verb(
        name="overlay",
        what=N_("Create overlays on an image"),
        images="overlay",
        givens=(
            Given(
                name="path",
                what=N_("the new images"),
                place="NEW",
                many=True,
                required=True,
                kind="file",
                convert=list,
            ),
            Given(name="backing", value="IMAGE", what=N_("the backing file"), required=True, kind="file"),
            Given(name="backing_format", what=N_("the format of the backing file, if it is not recorded anywhere")),
            Given(name="size", what=N_("the virtual size, such as 20G")),
            Given(name="cluster_size", what=N_("the cluster size, such as 64K")),
            Given(name="relative", what=N_("record the path of the backing file relative to the overlay"), kind="flag"),
            Given(name="protect", what=N_("write-protect the backing file"), kind="flag"),
            FOLDER,
        ),
        examples=("vmsnap-nb run overlay web.qcow2 --backing /srv/images/debian.qcow2",),
    ),
    Verb(
        name="snapshot",
        what=N_("Create a snapshot of a guest"),
        guest="snapshot",
        givens=(
            GUEST,
            Given(name="name", what=N_("the name of the snapshot; default: snap1, snap2, …"), place="NAME"),
            Given(
                name="kind",
                what=N_("the kind; default: depends on the guest's state and disks"),
                choices=("internal-disk", "internal-checkpoint", "external-disk", "external-checkpoint"),
            ),
            Given(name="description", what=N_("a description of the snapshot"), empty=True),
            Given(
                name="disks",
                word="disk",
                what=N_("a disk to include, such as vda, or vda=internal, vda=external, vda=no, vda=FILE"),
                many=True,
                convert=_disks,
            ),
            Given(name="quiesce", what=N_("have the guest agent freeze the file systems"), kind="flag"),
            Given(name="memory_file", what=N_("the file for the memory of an external checkpoint"), kind="file"),
            Given(
                name="atomic",
                word="not-atomic",
                what=N_("keep the snapshots that succeed even if other disks fail"),
                kind="flag",
                off=True,
            ),
            Given(name="reuse", what=N_("use overlays that already exist"), kind="flag"),
            Given(name="metadata", word="no-metadata", what=N_("create no record in libvirt"), kind="flag", off=True),
        ),
        examples=("vmsnap-nb run snapshot web before-upgrade --kind external-disk",),
    ),
    Verb(
        name="revert",
        what=N_("Revert a guest to a snapshot"),
        guest="revert",
        givens=(
            GUEST,
            Given(name="name", what=N_("the snapshot"), place="NAME", required=True, complete=snapshots),
            Given(
                name="to",
                what=N_("the state afterwards"),
                choices=("as-taken", "running", "paused", "off"),
            ),
            Given(
                name="keep_current",
                word="discard-current",
                what=N_("do not keep the current state in a snapshot first"),
                kind="flag",
                off=True,
            ),
        ),
        examples=("vmsnap-nb plan revert web before-upgrade",),
    ),
    Verb(
        name="delete",
        what=N_("Delete a snapshot of a guest"),
        guest="delete_snapshot",
        givens=(
            GUEST,
            Given(name="name", what=N_("the snapshot"), place="NAME", required=True, complete=snapshots),
            Given(
                name="children",
                what=N_("also delete its descendants, or delete only the descendants"),
                choices=("also", "only"),
            ),
            Given(name="metadata_only", what=N_("remove only libvirt's record"), kind="flag"),
        ),
        examples=("vmsnap-nb run delete web before-upgrade --yes",),
    ),
    Verb(
        name="save",
        what=N_("Save the memory of a guest and stop its QEMU process"),
        guest="save",
        givens=(
            GUEST,
            Given(name="path", word="file", what=N_("a new file; default: the managed save"), kind="file"),
        ),
    ),
    Verb(
        name="restore",
        what=N_("Resume a guest from saved memory"),
        guest="restore",
        givens=(
            GUEST,
            Given(name="path", word="file", what=N_("the file; default: the managed save"), kind="file"),
        ),
    ),
    Verb(
        name="reconcile",
        what=N_("Correct libvirt's records of a guest's snapshots"),
        guest="reconcile",
        givens=(GUEST,),
    ),
    Verb(
        name="cleanup",
        what=N_("Remove the files that merges have marked as invalid"),
        images="cleanup",
        guest="cleanup",
        givens=(FOLDERS, OF_GUEST),
        among=True,
        examples=("vmsnap-nb plan cleanup /srv/images",),
    ),
    Verb(
        name="finish",
        what=N_("Finish operations that a crash or a full disk interrupted"),
        images="unfinished",
        guest="unfinished",
        givens=(FOLDERS, OF_GUEST),
        among=True,
        several=True,
        examples=("vmsnap-nb run finish /srv/images", "vmsnap-nb plan finish --guest web"),
    ),
)
"""The verbs, in the order of help."""
