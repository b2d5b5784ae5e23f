"""Layers that libvirt lists in the definition of a disk: it uses these, whatever the headers of the images say."""

from __future__ import annotations

from collections.abc import Iterable

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ
from vmsnap_nb.model.need import Need

__all__ = ["is_other_chain", "of_other_chains"]


def is_other_chain(forest: Forest, own: str, listed: Iterable[str]) -> bool:
    """Return whether the headers lead from an image to layers that are not among those that are listed below it.

    A list has more layers than the headers if some were merged since; then the disk reads alike by either.
    """
    listed = tuple(listed)
    headers = forest.known_lineage(own)
    if not listed or not headers or any(forest[path].status in NOT_READ for path in headers):
        return False
    rest = iter((*listed, *forest.known_lineage(forest.known(listed[-1]) or listed[-1])[1:]))
    return not all(any(forest.same(path, one) for one in rest) for path in headers[1:])


def of_other_chains(forest: Forest, needs: Iterable[Need]) -> tuple[Need, ...]:
    """Return the needs without those of layers in a list that agrees with the headers."""
    return tuple(
        need for need in needs if need.kind != "definition" or is_other_chain(forest, need.layers[0], need.layers[1:])
    )
