"""Which images the QEMU processes of running guests have open, where libvirt names others: part of every survey.

libvirt learns of a switch to another image only after QEMU has made it. If it ends in between, as with a process that
is killed, the next libvirt names the old image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.files.locks import deleted_and_open, open_for_writing, open_in_guest
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.written import Written, named_below, next_sources, written_images
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import NOTHING, clauses

__all__ = ["with_real_uses"]


def with_real_uses(
    connection: Any,
    forest: Forest,
    domains: Iterable[tuple[Domain, str]],
    survey: Survey,
    around: Iterable[str],
    *,
    readonly: bool,
) -> Forest:
    """Return the forest with guests on the images that their QEMUs write to; it is read again if these are others."""
    doubtful = _doubtful(forest)
    if not doubtful or connection.getType() != "QEMU":
        return forest
    real: dict[Use, Use] = {}
    chains = _Chains()
    for domain, xml in domains:
        own = [use for use in domain.uses if use in doubtful]
        for use, other, size in _real(connection, forest, domain, xml, own, readonly=readonly):
            real[use] = other
            if other.deleted:
                chains.add(other.path, size, named_below(xml).get(use.target, ()))
    if not real:
        return forest
    uses = [real.get(use, use) for use in forest.uses]
    survey.images |= {use.path: None for use in real.values() if use.named} | chains.formats
    forest = survey.read(uses, around=around)
    real_uses = [_with_deleted(forest, use, chains) for use in uses]
    put = {image.path: image for use in real_uses for image in _explained(forest, use, chains)}
    return forest.edited(put=put.values(), uses=real_uses)


@dataclass
class _Chains:
    """What libvirt names below images of which there is no file: by path, the layer below and the size."""

    below: dict[str, Reference | None] = field(default_factory=dict)
    sizes: dict[str, int | None] = field(default_factory=dict)
    formats: dict[str, str | None] = field(default_factory=dict)
    layers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, top: str, size: int | None, named: tuple[tuple[str, str], ...]) -> None:
        self.layers[top] = (top, *(path for path, _ in named))
        for above, (path, format) in pairwise(((top, ""), *named)):
            self.below[above[0]] = Reference(path, "absolute", path, format)
            self.formats[path] = format
        for path in self.layers[top]:
            self.sizes[path] = size


def _with_deleted(forest: Forest, use: Use, chains: _Chains) -> Use:
    """Return a use with all layers that are gone, out of what libvirt names."""
    if not use.deleted:
        return use
    gone = (path for path in chains.layers.get(use.path, ()) if forest.status(path) == "missing")
    return replace(use, deleted=tuple(dict.fromkeys((*use.deleted, *gone))))


def _doubtful(forest: Forest) -> set[Use]:
    """Return the uses of running guests for which the locks of QEMU are not what they should be.

    No process has the image open for writing; or another one of the chain, too, since QEMU keeps the locks of what it
    had before a pivot until libvirt has that closed; or a layer is not there.
    """
    running = [use for use in forest.uses if use.running and use.path in forest.images]
    both = {use for use in running if not use.readonly and _is_written_beside(forest, use)}
    lost = {use for use in running if any(forest[path].status == "missing" for path in forest.lineage(use.path))}
    doubtful = {use for use in running if not use.readonly and forest[use.path].held != "write"}
    if doubtful:
        identities = {identity for use in doubtful if (identity := forest[use.path].identity) is not None}
        opened = open_for_writing(identities)
        doubtful = {use for use in doubtful if forest[use.path].identity not in opened}
    replaced = {use for use in running if not use.readonly and any(map(_is_not_held, _below(forest, use)))}
    return {use for use in (*lost, *both, *doubtful, *replaced) if _is_local(forest[use.path])}


def _below(forest: Forest, use: Use) -> Iterator[Image]:
    """Yield the layers below an image that QEMU has locked: it locks them, too."""
    if forest[use.path].held == "write":
        yield from (forest[path] for path in forest.known_lineage(use.path)[1:])


def _is_not_held(image: Image) -> bool:
    return image.identity is not None and not image.device and not image.held and image.known_from == "file"


def _known_to_qemu(forest: Forest, use: Use, xml: str) -> tuple[str, ...]:
    """Return the layers of a disk without those that only a header names which was put in the place of another."""
    layers = forest.known_lineage(use.path)
    named = names_of(forest, (path for path, _ in named_below(xml).get(use.target, ())))
    return tuple(path for path in layers if path == use.path or not named or path in named)


def _replaced(forest: Forest, use: Use, layers: Iterable[str]) -> list[str]:
    """Return those layers of a disk that are other files by now than those that QEMU has open."""
    images = [forest[path] for path in layers]
    if not any(map(_is_not_held, images)):
        return []
    opened = open_in_guest(use.guest)
    found = (image.path for image in images if _is_not_held(image) and _is_local(image))
    return [] if opened is None else [path for path in found if forest[path].identity not in opened]


def _is_written_beside(forest: Forest, use: Use) -> bool:
    """Return whether a process writes to a layer below an image, or to an overlay of which no guest is known."""
    below = any(forest[path].held == "write" for path in forest.lineage(use.path)[1:])
    return below or any(forest.status(path) == "in-use" for path in forest.descendants(use.path))


def _is_local(image: Image) -> bool:
    return image.path.startswith("/") and image.status in {
        "ok",
        "missing",
        "corrupt",
        "unsupported",
        "unknown",
        "invalid",
    }


def _real(
    connection: Any, forest: Forest, domain: Domain, xml: str, uses: list[Use], *, readonly: bool
) -> Iterator[tuple[Use, Use, int | None]]:
    """Yield those uses that are not as libvirt says, each with what it really is and the size of the disk."""
    if not uses:
        return
    handle = _handle(connection, domain)
    written = {} if readonly or handle is None else written_images(handle, xml)
    later = {} if handle is None else next_sources(handle)
    nameless = deleted_and_open(use.path for use in uses)
    for use in uses:
        image = written.get(use.target) or (_above(forest, use) if readonly else None)
        if image is not None and image.path not in forest.same_file(use.path):
            after = later.get(use.target)
            after = None if after is not None and after in (image.path, *forest.same_file(image.path)) else after
            yield use, replace(use, path=image.path, named=use.path, next=after), image.size
            continue
        layers = _known_to_qemu(forest, use, xml)
        gone = [path for path in layers if forest[path].status == "missing"]
        gone += _replaced(forest, use, layers)
        if (use.path in nameless or image is not None) and (gone or use.path in nameless):
            deleted = tuple(dict.fromkeys((*((use.path,) if use.path in nameless else ()), *gone)))
            yield use, replace(use, deleted=deleted), None if image is None else image.size


def _above(forest: Forest, use: Use) -> Written | None:
    """Return the one overlay of a disk's image to which a process writes: who may not ask QEMU sees no more."""
    found = [path for path in forest.descendants(use.path) if forest.status(path) == "in-use"]
    return Written(found[0]) if len(found) == 1 else None


def _handle(connection: Any, domain: Domain) -> Any:
    try:
        return connection.lookupByUUIDString(domain.uuid)
    except library().libvirtError:
        return None


def _explained(forest: Forest, use: Use, chains: _Chains) -> Iterator[Image]:
    """Yield the images of such a use with words that say so."""
    if not use.problem:
        return
    for path in dict.fromkeys((use.path, use.named or use.path, *use.deleted)):
        if path in forest.images:
            image = forest[path]
            if image.status == "missing":
                below, size = chains.below.get(path), chains.sizes.get(path)
                image = replace(image, backing=below, virtual_size=size, problem=NOTHING)
            yield replace(image, problem=clauses(filter(None, (image.problem, use.problem))))
