"""What must hold before anything is marked, removed or repointed on the strength of an entry of the journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from vmsnap_nb.model.aliases import is_among, names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.moment import time_text
from vmsnap_nb.plans.by_hand import repair_advice
from vmsnap_nb.plans.checks.interrupted import finishing, is_gone, is_torn, settled, who
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.plans.facts import LOST_JOB
from vmsnap_nb.plans.journal import FileFact, MergeEntry, PullEntry
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import Message, t

__all__ = [
    "author",
    "content",
    "damaged",
    "defined",
    "has_pivoted",
    "holds_all",
    "is_compared",
    "originals",
    "others",
    "pivot",
    "unknown",
]


def author(entry: MergeEntry | PullEntry) -> Iterator[Concern]:
    """Remark who began what is finished, and when."""
    if entry.began is not None:
        began = who(entry.began)
        if isinstance(entry, PullEntry):
            what = t(
                "according to its journal entry, the pull into {image} was started by {who}",
                image=entry.image,
                who=began,
            )
        else:
            what = t(
                "according to its journal entry, the merge of {top} into {base} was started by {who}",
                top=entry.top,
                base=entry.base,
                who=began,
            )
        yield remark("active-job", what, images=entry.images)


def originals(forest: Forest, entry: MergeEntry | PullEntry) -> Iterator[Concern]:
    """Check that the images are the files that were merged, and not others of these names, as after a restore."""
    facts = {fact.path: fact for fact in entry.files}
    for path in entry.images:
        if is_gone(forest, path) or not path.startswith("/"):
            continue
        image, fact = forest[path], facts.get(path)
        if fact is None or image.identity is None:
            what = t(
                "the journal entry does not record the identity of {path}, so it may be a different file now", path=path
            )
            yield _refused(entry, path, what)
        elif not _is_same(image, fact):
            what = t(
                "{path} is not the file in the journal entry. Recorded: inode {inode}, last write {time}. Found: inode "
                "{found}, last write {now}",
                path=path,
                inode=fact.inode,
                time=time_text(fact.mtime_ns),
                found=image.identity[1],
                now=time_text(image.mtime_ns),
            )
            yield _refused(entry, path, what)
        elif (
            isinstance(entry, MergeEntry)
            and path != entry.base
            and image.status != "invalid"
            and image.mtime_ns != fact.mtime_ns
        ):
            yield warn(
                "disk-changed",
                t("it is unknown whether device {path} was written to after its merge was recorded", path=path)
                if image.device
                else t(
                    "{path} was written to after its merge was recorded. Last write in the journal entry: {time}. "
                    "Last write found: {now}",
                    path=path,
                    now=time_text(image.mtime_ns),
                    time=time_text(fact.mtime_ns),
                ),
                images=(path,),
            )


def is_compared(forest: Forest, entry: MergeEntry, guest: str) -> bool:
    """Return whether it matters that base and top read alike, and can be seen: a marked top cannot be opened."""
    if is_gone(forest, entry.top) or is_gone(forest, entry.base) or forest[entry.top].status == "invalid":
        return False
    uses = [use for use in forest.uses if use.guest == guest]
    live = any(use.running for use in uses)
    if has_pivoted(forest, entry):
        return False  # QEMU itself tells
    at_base = not entry.children and any(use.path in forest.same_file(entry.base) for use in uses)
    return settled(forest, entry).phase != "copying" or at_base or (live and is_torn(forest, entry))


def has_pivoted(forest: Forest, entry: MergeEntry, written: frozenset[str] = frozenset()) -> bool:
    """Return whether the QEMU of a guest that runs has the base open for writing, and the top not as a disk.

    `written` are the images that QEMU has as disks, where it was asked; else its locks tell.
    """
    if written and entry.active:
        return is_among(forest, entry.base, written)
    names = names_of(forest, (entry.base, entry.top))
    if not entry.active or not any(use.running and use.path in names for use in forest.uses):
        return False
    top = "" if is_gone(forest, entry.top) else forest[entry.top].held
    return not is_gone(forest, entry.base) and forest[entry.base].held == "write" and not top


def pivot(reading: Reading, entry: MergeEntry, *, live: bool) -> Literal["", "base", "top", "job", "unknown"]:
    """Return to which image the guest writes, where a pivot may have been interrupted; empty if none was.

    QEMU itself is asked, by its locks: libvirt may have ended before it knew. ``job`` is where QEMU writes to both.
    When the guest is off, ``base`` is where both read alike; else both may hold what was written last.
    """
    forest = reading.forest
    written = reading.guest.written if reading.guest is not None and live else frozenset()
    if has_pivoted(forest, entry, written):
        return "base"
    at_top = any(use.path in forest.same_file(entry.top) for use in forest.uses)
    late = entry.phase in ("ready", "pivoting") or (entry.phase == "copied" and entry.active and at_top)
    if not late:
        return ""
    alike = (entry.top, entry.base) in reading.alike
    if is_gone(forest, entry.top) or is_gone(forest, entry.base) or (alike and not live):
        return "base"
    if forest[entry.top].status == "invalid":
        return "base"
    top, base = forest[entry.top].held, forest[entry.base].held
    if live and top == "write":
        if base == "write":
            jobs = reading.owner.jobs if reading.guest is not None else {}
            return "job" if {"active commit", LOST_JOB} & set(jobs.values()) else "unknown"
        return "top" if alike else "unknown"
    return "unknown"


def unknown(forest: Forest, entry: MergeEntry) -> Message:
    """Return what is known where both images may hold what the guest has written last."""
    return t(
        "either image may hold the guest's latest data: they differ, or could not be compared. Last write to {base}: "
        "{base_time}. Last write to {top}: {top_time}",
        base=entry.base,
        base_time=time_text(forest[entry.base].mtime_ns),
        top=entry.top,
        top_time=time_text(forest[entry.top].mtime_ns),
    )


def holds_all(reading: Reading, entry: MergeEntry) -> bool:
    """Return whether the base is known to hold what is merged into it: it reads alike, or the top is marked."""
    forest = reading.forest
    if is_gone(forest, entry.base) or is_gone(forest, entry.top):
        return False
    return forest[entry.top].status == "invalid" or (entry.top, entry.base) in reading.alike


def content(reading: Reading, entry: MergeEntry) -> Iterator[Concern]:
    """Check that the base holds what is merged into it, before that is marked, removed or left."""
    forest, top, base = reading.forest, entry.top, entry.base
    if is_gone(forest, base):
        yield refuse(
            "missing-base",
            t("{top} was merged into {base}, which does not exist or was not read", top=top, base=base),
            either(
                t("restore the file"), t("if you know that no operation is pending, remove {path}", path=entry.path)
            ),
            images=(top,),
        )
    elif not is_gone(forest, top) and forest[top].status != "invalid":
        pair = (top, base)
        if pair not in reading.alike:
            fields = {
                "base": base,
                "base_time": time_text(forest[base].mtime_ns),
                "top": top,
                "top_time": time_text(forest[top].mtime_ns),
            }
            if pair in reading.unlike:
                what = t(
                    "{base} and {top} differ, although according to the journal entry all data was copied. Last "
                    "write to {base}: {base_time}. Last write to {top}: {top_time}",
                    **fields,
                )
            else:
                what = t(
                    "{base} and {top} could not be compared. According to the journal entry, all data was copied. "
                    "Last write to {base}: {base_time}. Last write to {top}: {top_time}",
                    **fields,
                )
            yield _refused(entry, top, what)
    elif is_gone(forest, top):
        for path in entry.merged:
            if not is_gone(forest, path) and forest[path].status != "invalid":
                what = t(
                    "{top} does not exist, and {path}, which was merged with it, is not marked as invalid",
                    top=top,
                    path=path,
                )
                yield _refused(entry, path, what)


def others(guest: Domain, entry: MergeEntry) -> Iterator[Concern]:
    """Check that it was this guest whose merge it is: of another it is not known here what names the merged layers."""
    if entry.guest and entry.uuid != guest.uuid:
        again = t(
            "waive this if {guest} was only redefined, and now has the UUID {uuid}: the merge is then finished as a "
            "merge of that guest",
            guest=guest.name,
            uuid=guest.uuid,
        )
        yield _of_guest(entry, again if guest.name == entry.guest else _elsewhere(entry))


def defined(forest: Forest, entry: MergeEntry) -> Iterator[Concern]:
    """Check, where nothing is asked of libvirt, that no guest still names what is merged."""
    if entry.guest and _may_name(forest, entry):
        known = any(use.guest == entry.guest for use in forest.uses)
        yield _of_guest(entry, _elsewhere(entry, known=known))
        return
    if not entry.active or is_gone(forest, entry.top) or forest[entry.top].status == "invalid":
        return
    bases = forest.same_file(entry.base)
    if not any(use.path in bases and not use.running for use in forest.uses):
        yield refuse(
            "other-image",
            t(
                "a guest wrote to {top}, and its definition may still name that image. In that case, the guest "
                "cannot start",
                top=entry.top,
            ),
            either(t("call unfinished() of that guest"), t("waive this if no definition names that image")),
            images=(entry.top,),
            waivable=True,
        )


def _may_name(forest: Forest, entry: MergeEntry) -> bool:
    """Return whether the guest of a merge, or a record of it, names what is merged, or is not known."""
    named = [use.path for use in forest.uses if use.guest == entry.guest]
    records = [record for record in forest.records if record.guest == entry.guest]
    named += [path for record in records for disk in record.held_disks for path in (disk.source, disk.file) if path]
    merged = names_of(forest, entry.merged)
    return not named or not merged.isdisjoint(named)


def _elsewhere(entry: MergeEntry, *, known: bool = True) -> Message:
    """Return what can be done about a merge of a guest that is not the one which is asked, and may not be known."""
    use = t("use {call}", call=finishing(entry))
    renamed = t("if that guest has another name or UUID now, use unfinished() of the guest that has its disks")
    return either(
        use if known else either(use, renamed),
        t("waive this if no definition or snapshot names {top}", top=entry.top),
    )


def _of_guest(entry: MergeEntry, remedy: Message) -> Concern:
    return refuse(
        "other-image",
        t(
            "the merge of {top} into {base} was started for guest {guest} (UUID {uuid}), whose definition and "
            "snapshots may still name {top}",
            top=entry.top,
            base=entry.base,
            guest=entry.guest,
            uuid=entry.uuid,
        ),
        remedy,
        images=(entry.top,),
        holders=(entry.guest,),
        waivable=True,
    )


def damaged(reading: Reading, path: str) -> Iterator[Concern]:
    """Check that an image into which a merge was interrupted is whole: QEMU may not have written all its tables."""
    if said := reading.damaged.get(path):
        yield refuse(
            "damaged-image", t("{path} is damaged: {why}", path=path, why=said), repair_advice(path), images=(path,)
        )


def _refused(entry: MergeEntry | PullEntry, path: str, what: Message) -> Concern:
    end = t(
        "if no operation is pending, remove the journal entry {path}. This does not change the images", path=entry.path
    )
    if isinstance(entry, PullEntry):
        remedy = either(
            t("restore the original images. If you know that these are the original images, waive this"), end
        )
    elif entry.phase == "copying":
        copies = t("restore the images that were being merged, or waive this if these are copies of them")
        remedy = either(copies, end)
    else:
        remedy = either(
            t(
                "determine which image holds the current content. Waive this only if {base} holds all of it",
                base=entry.base,
            ),
            end,
        )
    images = tuple(dict.fromkeys((*entry.images[:1], path)))
    return refuse("disk-changed", what, remedy, images=images, waivable=True)


def _is_same(image: Image, fact: FileFact) -> bool:
    """Return whether a file is the one that was recorded; devices may be numbered anew when the machine starts."""
    if image.identity == ((fact.device, fact.inode) if fact.device else ("device", fact.inode)):
        return True
    assert image.identity is not None
    return image.identity[1] == fact.inode and (image.file_size, image.mtime_ns) == (fact.size, fact.mtime_ns)
