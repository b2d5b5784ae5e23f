"""What the journal's entries say to whoever builds on images, and files that are only named like entries."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Iterable, Iterator

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.checks.interrupted import finishing, may_lack, read_before, reads_otherwise
from vmsnap_nb.plans.concern import Concern, either, refuse, remark
from vmsnap_nb.plans.journal import UnknownEntry, UnreadEntry
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import t

__all__ = ["merging", "note_folders", "pulling", "strangers", "unsettled"]


def note_folders(forest: Forest, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders in which entries about these images, and about what they are based on, may lie."""
    layers = (layer for path in paths for layer in forest.known_lineage(path) or (path,))
    return tuple(dict.fromkeys(os.path.dirname(layer) for layer in layers if layer.startswith("/")))


def merging(reading: Reading, paths: Iterable[str], *, through: bool = True) -> Iterator[Concern]:
    """Check that nothing is built on images that a merge is writing, that it will invalidate, or has left half done.

    With `through` also on those that read otherwise, since an interrupted merge has left them based on its base.
    """
    forest, guest = reading.forest, None if reading.guest is None else reading.guest.domain
    for path in dict.fromkeys(paths):
        names = set(forest.same_file(path))
        for entry in reading.merges:
            if names & {entry.base, *entry.merged} or (through and reads_otherwise(forest, entry, path)):
                yield refuse(
                    "active-job",
                    t(
                        "a merge of {top} into {base} is running or was interrupted: a new overlay on {path} would "
                        "read a mixture of old and new data",
                        top=entry.top,
                        base=entry.base,
                        path=path,
                    ),
                    t("wait until it ends, or finish it with {call}[0].run()", call=finishing(entry, guest)),
                    images=tuple(dict.fromkeys((path, entry.base, entry.top))),
                )


def pulling(
    reading: Reading, paths: Iterable[str], *, lower: bool = False, steps: Iterable[Step] = ()
) -> Iterator[Concern]:
    """Check that no pull into these images, or into what they are based on, was interrupted: they may lack data.

    With `lower` also that they are not what such an image was based on: only with that the pull can be finished. An
    entry that the steps of the plan end is not in their way.
    """
    paths, ended = tuple(dict.fromkeys(paths)), {step.entry_path for step in steps}
    for entry in reading.pulls:
        if entry.path in ended:
            continue
        below = read_before(reading.forest, entry) if lower else ()
        if any(path in below or may_lack(reading.forest, entry, path) for path in paths):
            yield refuse(
                "active-job",
                t("a pull into {path} is running, or was interrupted", path=entry.image),
                t("wait until it ends, or finish it with {call}[0].run()", call="guest.unfinished()"),
                images=(entry.image,),
            )


def unsettled(reading: Reading, written: Iterable[str]) -> Iterator[Concern]:
    """Check that nothing writes to images in which a change of a snapshot was cut short: clusters may be miscounted."""
    call = "forest.unfinished()" if reading.guest is None else "guest.unfinished()"
    names = names_of(reading.forest, written)
    for entry in reading.insides:
        if entry.image in names:
            yield refuse(
                "active-job",
                t("a change to an internal snapshot of {path} is running, or was interrupted", path=entry.image),
                t("wait until it ends, or finish it with {call}[0].run()", call=call),
                images=(entry.image,),
            )


def strangers(reading: Reading) -> Iterator[Concern]:
    """Check for entries that are not acted on: those of a later version, unread ones, and somebody else's files."""
    for entry in reading.strangers:
        if isinstance(entry, UnknownEntry):
            yield _unknown(entry)
        elif isinstance(entry, UnreadEntry):
            yield _unread(entry)
        else:
            yield remark(
                "untrusted-note",
                t("{path} is named like a journal entry but is ignored: {why}", path=entry.path, why=entry.why),
                t("inspect the file, and remove it if it is not yours"),
                images=(entry.path,),
            )
    yield from _lost(reading)


def _unknown(entry: UnknownEntry) -> Concern:
    """Return that an entry says that something was interrupted which cannot be finished from here."""
    if entry.is_elsewhere:
        return refuse(
            "active-job",
            t(
                "{path} records an interrupted operation on images in {folder}. These images or copies of them may "
                "now be in this folder",
                path=entry.path,
                folder=entry.folder,
            ),
            either(
                t(
                    "move this folder back to {folder}, or create a symbolic link with that name to it. "
                    "Then call unfinished() of the guest, or {call}",
                    folder=entry.folder,
                    call=f"vmsnap_nb.scan({entry.folder!r}).unfinished()",
                ),
                t("if its images are not in this folder, or no operation is pending, remove {path}", path=entry.path),
            ),
            images=(entry.path,),
            waivable=True,
        )
    if entry.folder:
        return refuse(
            "active-job",
            t(
                "{path} records an interrupted operation that was started under another name of this folder: {folder}",
                path=entry.path,
                folder=entry.folder,
            ),
            t(
                "finish it under that name with {call}, or with unfinished() of the guest that has that disk",
                call=f"vmsnap_nb.scan({entry.folder!r}).unfinished()",
            ),
            images=(entry.path,),
            waivable=True,
        )
    return refuse(
        "active-job",
        t(
            "{path} records an interrupted operation of a later vmsnap_nb version, in a format that this version "
            "cannot read",
            path=entry.path,
        ),
        t("finish the operation with that version: unfinished()"),
        images=(entry.path,),
        waivable=True,
    )


def _lost(reading: Reading) -> Iterator[Concern]:
    """Check that libvirt lists each snapshot of the guest whose record was being written: what changes it must see."""
    for entry in () if reading.guest is None else reading.lost_records:
        guest = reading.owner.domain.name
        if not any(record.guest == guest and record.name == entry.name for record in reading.forest.records):
            yield refuse(
                "active-job",
                t(
                    "libvirt no longer lists snapshot {name} of {guest}, because it could not write the record of that "
                    "snapshot",
                    name=entry.name,
                    guest=guest,
                ),
                t("write the record again first: guest.unfinished()[0].run()"),
                images=(entry.path,),
                holders=(guest,),
                waivable=True,
            )


def _unread(entry: UnreadEntry) -> Concern:
    """Return that it is not known whether something goes on beside an entry, or in a folder, that cannot be read."""
    if entry.is_closed:
        return remark(
            "active-job",
            t(
                "cannot list {path} ({why}), so running or interrupted operations of other users there are unknown",
                path=entry.path,
                why=entry.why,
            ),
            t("ask the owner of the folder, or have a user who can list it call unfinished()"),
            images=(entry.path,),
        )
    if entry.is_folder:
        what = t(
            "cannot list {path} ({why}), so it is unknown whether an operation on its images is running or was "
            "interrupted",
            path=entry.path,
            why=entry.why,
        )
        remedy = t("make the folder readable, then try again")
    else:
        what = t(
            "cannot read the journal entry {path} ({why}), so it is unknown which operation is running or was "
            "interrupted",
            path=entry.path,
            why=entry.why,
        )
        remedy = t("make the file readable, then call unfinished()")
        if entry.is_unmarked:
            what = t(
                "{path} may not be a journal entry: {why}, and it lacks the sticky bit that marks entries",
                path=entry.path,
                why=entry.why,
            )
            remedy = t(
                "check its content. If it is an entry, run {command} and call unfinished(). Otherwise, remove it",
                command=f"chmod +t -- {shlex.quote(entry.path)}",
            )
        if entry.is_damaged:
            remedy = t(
                "inspect the images in its folder, restore any damaged ones from a backup, then remove the entry",
            )
    return refuse(
        "active-job",
        what,
        either(remedy, t("waive this if you know that no operation is pending")),
        images=(entry.path,),
        waivable=True,
    )
