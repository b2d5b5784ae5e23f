"""Where libvirt's own deletion of an external snapshot does just the same as the single steps."""

from __future__ import annotations

from dataclasses import replace

from vmsnap_nb.plans.checks.known import inner_names
from vmsnap_nb.plans.concern import remark
from vmsnap_nb.plans.delete.builder import Deletion
from vmsnap_nb.plans.delete.steps import DeleteExternal
from vmsnap_nb.plans.merge.steps import LiveCommit, MarkInvalid
from vmsnap_nb.plans.snapshot.steps import MoveRecord
from vmsnap_nb.words.message import joined, t

__all__ = ["leave_to_libvirt"]

_SAFE = (11, 0, 0)
"""Since which version libvirt itself deletes an external snapshot without a known fault: before, it could remove an
image that holds internal ones."""


def leave_to_libvirt(deletion: Deletion) -> None:
    """Leave it to libvirt where that does just the same: one snapshot of a guest that runs, each disk downwards."""
    if not _is_same(deletion):
        return
    owner = deletion.now.owner
    if owner.libvirt_version < _SAFE:
        version = ".".join(map(str, owner.libvirt_version))
        what = t(
            "libvirt {version} may remove an image with internal snapshots when it deletes a snapshot "
            "(11.0 and later do not). This plan therefore deletes the snapshot in separate steps",
            version=version,
        )
        deletion.concerns.append(remark("not-supported", what, holders=(owner.domain.name,)))
        return
    name, forest = deletion.rows[0].name, deletion.before.forest
    runs = [run for run, _ in deletion.merged]
    sizes = [direction.plan.bytes_to_copy for _, direction in deletion.merged]
    commits = [step for step in deletion.parts.copying if isinstance(step, LiveCommit)]
    step = DeleteExternal(
        guest=owner.ref,
        name=name,
        targets=tuple(run.target for run in runs),
        bases=tuple(run.base for run in runs),
        tops=tuple(run.top for run in runs),
        entries=tuple(replace(commit.entry, by_libvirt=True) for commit in commits),
        created=deletion.rows[0].record.created,
        size=None if None in sizes else sum(size for size in sizes if size is not None),
    )
    deletion.parts = replace(deletion.parts, copying=[step], writing=[], ending=[])
    deletion.forgets(name)
    merges = joined(
        t("commit {images} into {base}", images=forest[run.top].name, base=forest[run.base].name) for run in runs
    )
    deletion.ways = [
        t(
            "{name}: libvirt itself deletes the snapshot by committing its overlays ({merges}). The guest keeps "
            "running, and the deletion cannot be cancelled",
            name=name,
            merges=merges,
        )
    ]


def _is_same(deletion: Deletion) -> bool:
    parts, forest, merged = deletion.parts, deletion.before.forest, deletion.merged
    record = deletion.rows[0].record
    records = [other for other in forest.records if other.guest == record.guest]
    above = {child.name for child in records if child.parent == record.name}
    moved = {step.name for step in parts.writing if isinstance(step, MoveRecord)}
    paths = (path for run, _ in merged for path in (run.base, run.top))
    commits = [step for step in parts.copying if isinstance(step, LiveCommit)]
    return (
        bool(merged)
        and len(deletion.rows) == 1
        and len(merged) == len(record.held_disks) == len(record.files)
        and deletion.now.owner.domain.persistent
        and len(above) <= 1
        and above >= moved
        and not any(below.name == record.parent and below.kind.startswith("internal") for below in records)
        and not any(inner_names(forest, path) for path in paths)
        and all(isinstance(step, LiveCommit | MarkInvalid) for step in parts.copying)
        and all(step.entry.merged == (step.entry.top,) for step in commits)
    )
