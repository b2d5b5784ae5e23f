"""What QEMU's tools may open while a plan runs: the images of its steps, and what these are based on in the plan."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmsnap_nb.model.address import options_of
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.step import Step
from vmsnap_nb.system.confine import FileOf
from vmsnap_nb.system.other_formats import extents_of

__all__ = ["files_of", "parts_of"]


def files_of(plan: Plan) -> tuple[FileOf, ...] | None:
    """Return the files that the tools need for a plan; None where one of them is not on this machine."""
    forest = plan.before
    own = {path for step in plan.steps for path in (*step.creates, *step.replaces)}
    written = own.union(*map(_written, plan.steps))
    based = {path for step in plan.steps for path in step.based_again}.intersection(forest.images)
    written.update(overlay for path in based for overlay in forest.children(path))
    tops = (*written, *(path for step in plan.steps for path in step.relies), *plan.about)
    read = dict.fromkeys(layer for path in tops for layer in (path, *forest.known_lineage(path)))
    if not all(path.startswith("/") for path in read):
        return None
    files = []
    for path in read:
        image = forest.images.get(path)
        known = None if image is None or path in own else image.identity
        files.append(FileOf(path=path, identity=known, write=path in written))
        if image is not None:
            files += (*parts_of(image, write=path in written), *_hidden_below(image))
    return tuple(files)


def _written(step: Step) -> tuple[str, ...]:
    """Return what a step opens for writing; qemu-img opens the top of what it commits so, too."""
    return (*step.opens, *(step.relies if step.performer == "qemu-img" and step.writes else ()))


def _hidden_below(image: Image) -> Iterator[FileOf]:
    """Yield the files that a reference with options names, of which no other image says that it is based on them."""
    if image.backing is not None and not image.backing.is_plain:
        names = (options_of(image.backing.written.removeprefix("json:")) or {}).items()
        yield from (
            FileOf(path=name)
            for key, name in names
            if key.endswith("filename") and isinstance(name, str) and "/" in name
        )


def parts_of(image: Image, *, write: bool = False) -> Iterator[FileOf]:
    """Yield the other files that hold the data of an image."""
    if image.data_file is not None and image.data_file.path is not None and image.data_status == "ok":
        yield FileOf(path=_real(image.data_file.path), write=write)
    if image.format == "vmdk":
        yield from (FileOf(path=path, write=write) for path in extents_of(image.path))


def _real(path: str) -> str:
    """Return where a path leads, if nobody else has put a link there."""
    try:
        owner = os.lstat(path).st_uid
    except OSError:
        return path
    return os.path.realpath(path) if owner in (0, os.geteuid()) else path
