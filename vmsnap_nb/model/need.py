"""Who needs an image: one computation for tables, figures and the checks of all verbs."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.model.shown import Carded
from vmsnap_nb.words.message import N_, t

if TYPE_CHECKING:
    from vmsnap_nb.model.guest import Use
    from vmsnap_nb.model.image import Image
    from vmsnap_nb.model.reference import Reference
    from vmsnap_nb.model.snapshot import SnapshotRecord

__all__ = ["Need", "NeedKind", "data_needs", "index_needs", "lost_volumes", "may_need", "parts_of"]

if TYPE_CHECKING:
    NeedKind = Literal[
        "disk",  # a guest has it as its disk
        "next start",  # the guest runs, and its definition has this image as the disk from the next start on
        "snapshot",  # a record of libvirt names it: the image or the overlay of a disk, or the file of the memory
        "managed save",  # memory that libvirt keeps goes on with this image, or with one based on it
        "saved memory",  # the same, of memory that was saved to a file
        "block job",  # a job of a running guest copies into it
        "firmware",  # variables of UEFI firmware are in it
        "boot",  # a guest starts from it beside its disks: firmware, kernel, initial RAM disk
        "nvdimm",  # a guest has it as persistent memory
        "named",  # a definition names it in any other way, as in an argument for QEMU
        "definition",  # libvirt lists it below the image of a disk, where the headers name other layers
        "data",  # a qcow2 image, or the definition of a disk, has it as its external data file
        "overlay",  # another image is based on it
    ]
else:
    NeedKind = str  # where a property's annotation is a Literal, jedi completes nothing of the whole object


_TEXTS = {
    "snapshot": N_("snapshot {name} of {guest}"),
    "saved memory": N_("memory of {guest} in {file}"),
    "managed save": N_("managed save of {guest}"),
    "next start": N_("next start of {guest} ({name})"),
    "block job": N_("block job of {guest} ({name})"),
    "firmware": N_("firmware of {guest}"),
    "boot": N_("boot file of {guest}"),
    "nvdimm": N_("NVDIMM of {guest}"),
    "named": N_("named by {guest}"),
    "definition": N_("definition of {guest} ({name})"),
    "data": N_("data of {name}"),
}


@dataclass(frozen=True, slots=True)
class Need(Carded):
    """A reason why an image must not change.

    Attributes
    ----------
    kind : str
        ``disk``, ``next start``, ``snapshot``, ``managed save``, ``saved memory``, ``block job``, ``firmware``,
        ``boot``, ``nvdimm``, ``named``, ``definition``, ``data`` or ``overlay``.
    path : str
        The path of the image.
    guest : str
        The name of the guest; empty for an overlay.
    name : str
        The disk, such as ``vda``, the name of the snapshot, or the path of the saved memory or of the overlay.
    layers : tuple of str
        The layers that saved memory or a definition lists, which are used whatever the headers name. For a definition,
        the image of the disk comes first, and an empty name at the end means that the last layer has no backing file.
    """

    kind: NeedKind
    path: str
    guest: str = ""
    name: str = ""
    layers: tuple[str, ...] = ()

    @property
    def saved(self) -> bool:
        """Whether saved memory needs the current content of the image and of the layers below."""
        return self.kind in {"managed save", "saved memory"}

    @property
    def text(self) -> str:
        """A short description of what needs the image.

        Examples
        --------
        >>> Need("snapshot", "/images/demo.qcow2", "demo", "before").text
        'snapshot before of demo'
        """
        if self.kind == "disk":
            return f"{self.guest} ({self.name})"
        if self.kind == "overlay":
            name = posixpath.basename(self.name) or self.name
            return name.removesuffix(".qcow2")
        guest = self.guest or t("a guest")
        return t(_TEXTS[self.kind], guest=guest, name=self.name, file=posixpath.basename(self.name))


def index_needs(
    uses: Iterable[Use],
    records: Iterable[SnapshotRecord],
    needs: Iterable[Need],
    lineage: Callable[[str], tuple[str, ...]],
    first: Callable[[str], str],
) -> dict[str, tuple[Need, ...]]:
    """Return all that needs an image, but for overlays, by the first name of each file.

    `lineage` gives the layers of an image, `first` the first name of its file.
    """
    uses, needs = tuple(uses), tuple(needs)
    found: dict[str, dict[Need, None]] = {}
    told = {need.guest for need in needs if need.kind == "managed save"}
    for need in (
        *(Need("disk", use.path, use.guest, use.target) for use in uses),
        *needs,
        *(need for record in records for need in _of_record(record, uses, told, lineage)),
    ):
        layers = (*lineage(need.path), *need.layers) if need.saved else ()
        for path in (need.path, *layers):
            found.setdefault(first(path), {})[need] = None
    return {path: tuple(some) for path, some in found.items()}


def data_needs(images: Iterable[Image]) -> Iterator[Need]:
    """Yield the other files that hold the data of images, each needed by its image."""
    for image in images:
        for part in parts_of(image):
            if part.path is not None and part.path != image.path:
                yield Need("data", part.path, name=image.path)


def parts_of(image: Image) -> tuple[Reference, ...]:
    """Return the other files that an image names as places of its data."""
    return image.extents if image.data_file is None else (image.data_file, *image.extents)


def lost_volumes(records: Iterable[SnapshotRecord]) -> Iterator[tuple[SnapshotRecord, str]]:
    """Yield the records that need a volume of a storage pool whose file libvirt does not report: POOL/VOLUME."""
    for record in records:
        for volume in dict.fromkeys((*(disk.source or "" for disk in record.disks), *record.also)):
            if "/" in volume and not volume.startswith("/") and ":" not in volume:
                yield record, volume


def may_need(images: Iterable[Image], names: Iterable[str]) -> Iterator[str]:
    """Yield the images that refer to what may be one of these files: nobody here knows where that leads.

    A file that no part of the reference is called after is none of them.
    """
    names = tuple(names)
    for image in images:
        for reference in (image.backing, *parts_of(image)):
            if reference is not None and not reference.is_certain and reference.mentions(names):
                yield image.path


def _of_record(
    record: SnapshotRecord, uses: tuple[Use, ...], told: set[str], lineage: Callable[[str], tuple[str, ...]]
) -> Iterator[Need]:
    """Yield what a record needs; of a managed save whose own words are not known, the disks that the guest has now."""
    if record.saved:
        if record.memory_file is None and record.guest not in told:
            for use in uses:
                if use.guest == record.guest and not use.readonly:
                    yield Need("managed save", use.path, use.guest)
        return
    # A revert restores the whole definition, also disks whose state is not held.
    disks = (path for disk in record.disks for path in (disk.source, disk.file) if path)
    own = dict.fromkeys((*disks, *((record.memory_file,) if record.memory_file else ())))
    # Layers that it lists as the headers do are no reason of their own: with these the list is forgotten.
    below = {layer for path in own for layer in lineage(path)} if record.also else ()
    for path in dict.fromkeys((*own, *(path for path in record.also if path[:1] == "/" and path not in below))):
        yield Need("snapshot", path, record.guest, record.name)
