"""Deleting what lies inside images: libvirt does it in images that its guest writes to, else qemu-img."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ
from vmsnap_nb.model.snapshot import Snapshot, SnapshotRecord
from vmsnap_nb.plans.checks.known import not_known
from vmsnap_nb.plans.checks.layers import locked
from vmsnap_nb.plans.checks.users import active_jobs, in_use
from vmsnap_nb.plans.concern import refuse
from vmsnap_nb.plans.delete import checks
from vmsnap_nb.plans.delete.builder import Deletion
from vmsnap_nb.plans.delete.steps import DeleteInternal, DropInside
from vmsnap_nb.plans.merge.steps import Unprotect
from vmsnap_nb.plans.step import Protect
from vmsnap_nb.words.message import listed, t

__all__ = ["delete_internal"]


def delete_internal(deletion: Deletion) -> None:
    """Remove those of the snapshots that lie inside images."""
    for row in reversed(deletion.rows):
        paths = tuple(dict.fromkeys(_images_with(deletion.forest, row.record)))
        unseen = tuple(dict.fromkeys(_unseen(deletion, row.record)))
        if unseen:
            _delete_unseen(deletion, row, (*paths, *unseen))
        elif paths:
            _delete(deletion, row, paths)


def _unseen(deletion: Deletion, record: SnapshotRecord) -> Iterator[str]:
    """Yield the images of which it is not known whether the snapshot is inside."""
    for disk in record.disks:
        path = disk.source
        if disk.held == "internal" and path is not None:
            image = deletion.forest.images.get(path)
            known = path in deletion.gone if image is None else image.is_seen or image.status not in {"ok", *NOT_READ}
            if not known:
                yield path


def _delete_unseen(deletion: Deletion, row: Snapshot, paths: tuple[str, ...]) -> None:
    """Let libvirt delete it, if these are the disks of the guest: then it looks into the images itself."""
    owner, reading = deletion.now.owner, deletion.now
    if {use.path for use in owner.domain.uses if not use.readonly}.issuperset(paths):
        deletion.concerns += active_jobs(owner)
        deletion.concerns += checks.other_guests(reading, (path for path in paths if path in reading.forest.images))
        deletion.parts.inside.append(_by_libvirt(deletion, row, paths))
        deletion.deletes_inside(paths, row.name)
        deletion.forgets(row.name)
        deletion.ways.append(
            t("{name}: libvirt removes it from the images, which this process cannot read", name=row.name)
        )
        deletion.touch(path for path in paths if path in deletion.forest.images)
    else:
        found = tuple(not_known(reading, paths))
        deletion.concerns += found or (
            refuse(
                "unknown-image",
                t("cannot tell whether snapshot {name} is in {images}", images=listed(paths), name=row.name),
                t("use an account that can read it, on the machine where it is stored"),
                images=paths,
            ),
        )


def _by_libvirt(deletion: Deletion, row: Snapshot, paths: tuple[str, ...]) -> DeleteInternal:
    return DeleteInternal(guest=deletion.now.owner.ref, name=row.name, paths=paths, created=row.record.created)


def _images_with(forest: Forest, record: SnapshotRecord) -> Iterator[str]:
    for disk in record.disks:
        image = forest.images.get(disk.source or "")
        names = () if image is None else (inside.name for inside in image.snapshots)
        if disk.held == "internal" and image is not None and record.name in names:
            yield image.path


def _read_by_libvirt(forest: Forest, path: str) -> bool:
    return path in forest.images and forest[path].known_from != "file"


def _delete(deletion: Deletion, row: Snapshot, paths: tuple[str, ...]) -> None:
    reading, forest, owner, name = deletion.now, deletion.forest, deletion.now.owner, row.name
    deletion.concerns += checks.other_guests(reading, paths)
    # The firmware's variables are in an image of their own, which libvirt knows to clear.
    # What this process cannot read, libvirt clears as well: its qemu-img can.
    written = {
        use.path
        for use in owner.domain.uses
        if (use.running or owner.holds_nvram or _read_by_libvirt(forest, use.path)) and not use.readonly
    }
    if not reading.owner.running:
        # It opens the layers below as well.
        deletion.concerns += locked(
            forest, dict.fromkeys(layer for path in paths for layer in forest.known_lineage(path))
        )
    if row.status != "untracked" and written.issuperset(paths):
        deletion.concerns += active_jobs(owner)
        deletion.parts.inside.append(_by_libvirt(deletion, row, paths))
        deletion.forgets(name)
        running = any(use.running for use in owner.domain.uses)
        deletion.ways.append(
            t("{name}: QEMU removes it from the images while the guest is running", name=name)
            if running
            else t("{name}: libvirt runs qemu-img, which removes it from the images", name=name)
        )
    else:
        for path in paths:
            deletion.concerns += in_use(forest, (path,))
            inside = next((one for one in forest[path].snapshots if one.name == name), None)
            step = DropInside(path=path, name=name, created=None if inside is None else inside.created)
            protected = not forest[path].writable
            same = forest[path].identity
            opening, closing = Unprotect(path=path, identity=same), Protect(path=path, identity=same)
            deletion.parts.inside += [opening, step, closing] if protected else [step]
        deletion.ways.append(t("{name}: qemu-img removes it from the image", name=name))
    deletion.deletes_inside(paths, name)
    images = (forest[alias] for path in paths for alias in forest.same_file(path))
    without = [
        replace(image, snapshots=tuple(inside for inside in image.snapshots if inside.name != name)) for image in images
    ]
    deletion.touch(paths, forest.edited(put=without))
