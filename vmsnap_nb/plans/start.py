"""What speaks against starting a guest, as far as its images tell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.plans.merge_steps import rebase_argv
from vmsnap_nb.plans.plan import Concern, ConcernName

__all__ = ["about_backing_formats", "about_layers"]


_UNUSABLE: Mapping[str, tuple[ConcernName, str, str]] = {
    "missing": ("missing-base", "is not there", "put it back where it was"),
    "invalid": ("missing-base", "was merged into another image, and is not valid any more", "use that one"),
    "loop": ("loop", "stands on itself", "write what it really stands on into it: qemu-img rebase -u"),
}
"""By status of an image: the concern, what is wrong, and what to do."""


def about_layers(forest: Forest, uses: Iterable[Use]) -> Iterator[Concern]:
    """Look for layers with which no QEMU opens the disk: missing ones, merged ones, and those that stand on themselves.

    Parameters
    ----------
    forest : Forest
        The images.
    uses : iterable of Use
        The disks of the guest.
    """
    for use in uses:
        if use.readonly:  # libvirt may be told to start without a CD that is not there
            continue
        above: Image | None = None
        for path in forest.lineage(use.path):
            status = forest.status(path)
            if status in _UNUSABLE:
                yield _unusable(use, path, status, above)
                break
            above = forest[path]


def _unusable(use: Use, path: str, status: Status, above: Image | None) -> Concern:
    name, what, remedy = _UNUSABLE[status]
    which = path
    if above is not None and above.backing is not None:
        which = f"{path}, on which its disk {use.target} stands,"
        if status == "missing":
            elsewhere = rebase_argv(above.path, replace(above.backing, written="ITS-PATH"), "-u")
            remedy += f"; or write where it is now into {above.name}: {shlex.join(elsewhere)}"
    return Concern(name, "refuse", f"{use.guest} cannot start: {which} {what}", remedy, images=(path,))


def about_backing_formats(forest: Forest, uses: Iterable[Use]) -> Iterator[Concern]:
    """Look for layers whose header does not tell the format of their backing file.

    libvirt then looks itself, and takes what it finds only if that stands on nothing.

    Parameters
    ----------
    forest : Forest
        The images.
    uses : iterable of Use
        The disks of the guest.
    """
    tops = dict.fromkeys(use.path for use in uses if use.path in forest)
    layers = dict.fromkeys(layer for top in tops for layer in forest.lineage(top))
    for path in layers:
        image, parent = forest[path], forest.parent(path)
        if image.format == "qcow2" and image.backing is not None and image.backing.format is None and parent in layers:
            yield _missing(image, forest[parent])


def _missing(image: Image, below: Image) -> Concern:
    refused = below.backing is not None
    told = replace(image.backing, format=below.format or "FORMAT")  # type: ignore[type-var]
    return Concern(
        "backing-format-missing",
        "refuse" if refused else "warn",
        f"{image.path} does not tell the format of {below.name}, on which it stands: libvirt "
        + ("does not start a guest on it" if refused else "guesses it from what is in that file"),
        f"write it there: {shlex.join(rebase_argv(image.path, told, '-u'))}",
        images=(image.path, below.path),
    )
