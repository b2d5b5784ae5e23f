"""Whether a disk reads alike by the layers that its definition lists and by the headers of the images."""

from __future__ import annotations

from collections.abc import Iterable

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.listed_layers import beyond_headers, is_other_chain
from vmsnap_nb.system.maps import MapReader

__all__ = ["is_other_disk"]

_MAPS = MapReader()


def is_other_disk(forest: Forest, own: str, listed: Iterable[str]) -> bool:
    """Return whether a list is of another disk than the headers lead to.

    Headers that end early can do so since all below was pulled up. If not, data of the layers in the list is visible.
    """
    listed = tuple(listed)
    if is_other_chain(forest, own, listed):
        return True
    listed = tuple(filter(None, listed))
    below = {path: forest.images.get(forest.known(path) or "") for path in beyond_headers(forest, own, listed)}
    there = [image for image in below.values() if image is not None and image.status not in {"missing", "invalid"}]
    if not below or any(path.startswith("/") and image not in there for path, image in below.items()):
        return False  # nothing can be read by the list
    if len(there) < len(below):
        return True  # on the network, where nothing is read
    layers = [*reversed(there), *(forest[path] for path in reversed(forest.known_lineage(own)))]
    if not all(map(MapReader.can, layers)):
        return True
    try:
        maps = _MAPS.read(layers)
    except VmsnapError:
        return True
    runs = BlockMap(tuple(maps[image.path] for image in layers)).runs
    return any(run.layer < len(there) and run.kind == "data" and not run.hidden for run in runs)
