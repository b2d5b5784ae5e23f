"""What is left where libvirt was cut short in the deletion of an external snapshot."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.model.forest import Forest

__all__ = ["maybe_committed"]


def maybe_committed(forest: Forest) -> Iterator[tuple[str, str]]:
    """Give overlays that may have been committed already, each with the image below it.

    Records say that images stand on such an overlay, but all of them stand on the image below, and nobody reads the
    overlay. A rebase by hand leaves the same behind: whether the two have the same content must be seen.

    Parameters
    ----------
    forest : Forest
        The images, with a guest's snapshot records.

    Yields
    ------
    tuple of str
        The overlay, and the image below it.
    """
    standing: dict[str, list[str]] = {}
    for record in forest.records:
        for disk in record.disks:
            if disk.held == "external" and disk.source is not None and disk.source in forest and disk.file is not None:
                standing.setdefault(disk.source, []).append(disk.file)
    for top, files in standing.items():
        below = forest.parent(top)
        if below is None or below not in forest or forest.children(top) or forest.users(top):
            continue
        if all(file in forest and forest.parent(file) in forest.same_file(below) for file in files):
            yield top, below
