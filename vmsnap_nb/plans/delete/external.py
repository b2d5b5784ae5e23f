"""Deleting external snapshots: one image is made of two, but where nobody reads the upper one only that is removed."""

from __future__ import annotations

import shlex
from dataclasses import replace

from vmsnap_nb.plans.checks.bitmaps import removed
from vmsnap_nb.plans.checks.interrupted import is_torn
from vmsnap_nb.plans.checks.known import inner_names, not_known
from vmsnap_nb.plans.checks.layers import missing
from vmsnap_nb.plans.concern import either, refuse, remark, warn
from vmsnap_nb.plans.delete.builder import Deletion
from vmsnap_nb.plans.delete.edges import Run, below, edges_of, runs_of
from vmsnap_nb.plans.delete.native import leave_to_libvirt
from vmsnap_nb.plans.merge.checks import interrupted, sound
from vmsnap_nb.plans.merge.steps import RemoveFile
from vmsnap_nb.words.message import joined, t

__all__ = ["delete_external"]

_GONE = {"missing", "not-a-file"}


def delete_external(deletion: Deletion) -> None:
    """Merge the edges of the snapshots, each run at once, and remove their files of memory."""
    edges = edges_of(row.record for row in deletion.rows)
    torn = tuple(entry for entry in deletion.now.merges if is_torn(deletion.forest, entry))
    deletion.concerns += interrupted(torn, {edge.top for edge in edges}, deletion.now.guest)
    alive = [run for edge in reversed(edges) if (run := _to_merge(deletion, edge)) is not None]
    runs = runs_of(deletion.staying, alive)
    while runs:
        run = runs.pop(0)
        if deletion.merge(run).down:
            # What was based on the overlay that was committed is based on the image below now.
            runs = [replace(other, base=run.base) if other.base == run.top else other for other in runs]
    leave_to_libvirt(deletion)
    staying = {record.memory_file for record in deletion.staying.records}
    for row in deletion.rows:
        memory = row.record.memory_file
        if memory and memory not in deletion.now.gone and memory not in staying:
            deletion.concerns += not_known(deletion.now, (memory,))
            deletion.parts.removing.append(RemoveFile(path=memory))


def _to_merge(deletion: Deletion, edge: Run) -> Run | None:
    """Do what there is to do without a merge; return the edge, as the chain names it, if that is not all."""
    forest, staying, name = deletion.forest, deletion.staying, edge.names[0]
    unknown = tuple(not_known(deletion.now, (edge.top,)))
    if unknown:
        deletion.concerns += unknown
        return None
    there = edge.top in forest.images and edge.top not in deletion.now.gone
    if not there and edge.top not in deletion.gone:
        what = t(
            "the format of {path} is unknown, so it cannot be determined what snapshot {name} left in it",
            path=edge.top,
            name=name,
        )
        remedy = t("set the format of that disk in the domain XML")
        deletion.concerns.append(refuse("unknown-image", what, remedy, images=(edge.top,)))
        return None
    if not there or forest[edge.top].status in _GONE:
        if edge.top in forest.images and staying.overlays(edge.top):
            remedy = either(t("restore the file"), t("pass metadata_only=True, which only removes the record"))
            deletion.concerns.append(missing(edge.top, remedy))
        else:
            deletion.ways.append(
                t(
                    "{name}: its overlay {path} does not exist, so there is nothing to merge for disk {disk}",
                    name=name,
                    path=edge.top,
                    disk=edge.target,
                )
            )
        return None
    if not staying.needed(edge.top):
        _unread(deletion, edge)
        return None
    if not sound(forest, edge.top):
        return None
    base = below(forest, edge)
    if base is None and (unknown := tuple(not_known(deletion.now, (*forest.known_lineage(edge.top), edge.base)))):
        deletion.concerns += unknown
        return None
    if base is None:
        _finish_pull(deletion, edge)
        return None
    if forest[base].status in _GONE:
        deletion.concerns.append(missing(base, concern=warn))
        return None
    if edge.top in (top for top, _ in deletion.now.alike):
        deletion.ways.append(
            t(
                "{name}: {image} will be removed, because it was already committed into {base} and no image or guest "
                "uses it",
                name=name,
                image=forest[edge.top].name,
                base=forest[base].name,
            )
        )
        deletion.move_records(edge.top, base)
        deletion.remove(edge.top)
        return None
    return replace(edge, base=base)


def _unread(deletion: Deletion, edge: Run) -> None:
    """Remove an overlay that nobody reads; that of a disk that was detached stays, with what was written to it."""
    if edge.target in {disk.target for disk in deletion.now.owner.domain.disks}:
        _discard(deletion, edge.top, edge.names[0])
        return
    deletion.touch([edge.top])
    way = t(
        "{name}: the guest no longer has disk {disk}, so the image {path} is kept",
        name=edge.names[0],
        disk=edge.target,
        path=edge.top,
    )
    deletion.ways.append(way)


def _discard(deletion: Deletion, path: str, name: str) -> None:
    """Remove an overlay that nobody reads: what was written after the snapshot was left behind by a revert."""
    image = deletion.forest[path]
    if not image.writable:
        deletion.touch([path])
        what = t("{path} is kept because it is write-protected", path=path)
        deletion.concerns.append(remark("read-only", what, images=(path,)))
        return
    if image.status != "invalid":
        deletion.ways.append(
            t(
                "{name}: {image} will be removed without a merge, because no image or guest uses it",
                name=name,
                image=image.name,
            )
        )
        if inside := inner_names(deletion.forest, path):
            what = t(
                "{path} will be removed. No other image contains the data written to it after snapshot {name}, or its "
                "internal snapshots ({names})",
                path=path,
                name=name,
                names=joined(inside),
            )
        else:
            what = t(
                "{path} will be removed. No other image contains the data written to it after snapshot {name}",
                path=path,
                name=name,
            )
        remedy = t("if you may need that data, copy it first: {command}", command=_copied_out(path))
        deletion.concerns.append(warn("state-lost", what, remedy, images=(path,)))
    deletion.concerns += removed(deletion.forest, path, concern=warn)
    deletion.remove(path)


def _copied_out(path: str) -> str:
    return shlex.join(("qemu-img", "convert", "-O", "qcow2", path, "NEW.qcow2"))


def _finish_pull(deletion: Deletion, edge: Run) -> None:
    """Remove the image below, where a pull was interrupted when only that was left to do."""
    forest = deletion.forest
    if edge.base not in forest.images or forest[edge.base].status in _GONE:
        return
    if forest.parent(edge.base) == forest.parent(edge.top) and deletion.staying.why_stays(edge.base) is None:
        deletion.concerns.append(
            warn(
                "state-lost",
                t(
                    "{path} will be removed, because {image} is no longer based on it and nothing else needs it",
                    path=edge.base,
                    image=forest[edge.top].name,
                ),
                images=(edge.base,),
            )
        )
        deletion.move_records(edge.base, edge.top)
        deletion.remove(edge.base)
