"""Layers that libvirt lists in the definition of a disk: it uses these, whatever the headers of the images say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ
from vmsnap_nb.model.need import Need

__all__ = ["beyond_headers", "is_other_chain", "of_other_chains"]


def is_other_chain(forest: Forest, own: str, listed: Iterable[str]) -> bool:
    """Return whether the headers lead from an image to layers that are not among those that are listed below it.

    A list has more layers than the headers if some were merged since; then the disk reads alike by either. It ends with
    an empty name where libvirt opens nothing below.
    """
    listed = tuple(listed)
    headers = forest.known_lineage(own)
    if not listed or not headers or any(forest[path].status in NOT_READ for path in headers):
        return False
    below = forest.known_lineage(forest.known(listed[-1]) or listed[-1])[1:] if listed[-1] else ()
    rest = iter((*filter(None, listed), *below))
    return not all(any(forest.same(path, one) for one in rest) for path in headers[1:])


def beyond_headers(forest: Forest, own: str, listed: Iterable[str]) -> tuple[str, ...]:
    """Return the layers in a list that come after the last one that the headers name, if that has no backing file."""
    headers = forest.known_lineage(own)
    if not headers or forest[headers[-1]].backing is not None:
        return ()
    row = tuple(listed)
    last = max(
        (number for number, one in enumerate(row) if any(forest.same(one, path) for path in headers)), default=-1
    )
    return row[last + 1 :]


def of_other_chains(
    forest: Forest, needs: Iterable[Need], *, is_other: Callable[[Forest, str, Iterable[str]], bool] = is_other_chain
) -> tuple[Need, ...]:
    """Return the needs without those of layers in a list that the headers name as well.

    What a list has more than the headers is needed, too: libvirt opens it at the next start. Only where it is another
    disk that is listed, such a need keeps its `layers`.
    """
    needs = tuple(needs)
    lists = dict.fromkeys(need.layers for need in needs if need.kind == "definition")
    others = {layers: is_other(forest, layers[0], layers[1:]) for layers in lists}
    found = (need if need.kind != "definition" or others[need.layers] else _more(forest, need) for need in needs)
    return tuple(need for need in found if need is not None)


def _more(forest: Forest, need: Need) -> Need | None:
    """Return the need of a layer that is there, and that only a list has."""
    image = forest.images.get(forest.known(need.path) or "")
    if image is None or image.status in {"missing", "invalid"}:
        return None
    named = any(forest.same(path, need.path) for path in forest.known_lineage(need.layers[0]))
    return None if named else replace(need, layers=())
