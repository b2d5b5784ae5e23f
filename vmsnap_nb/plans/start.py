"""What speaks against starting a guest, as far as its images tell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.merge_steps import rebase_argv
from vmsnap_nb.plans.plan import Concern

__all__ = ["about_backing_formats"]


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
