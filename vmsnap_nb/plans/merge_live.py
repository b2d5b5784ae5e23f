"""Plans that merge the chain of a guest: while it runs by QEMU's block jobs, and while it is off by qemu-img.

A block job copies first. What it writes into the base is covered by the layers that are merged, so that a kill or a
cancel at any moment leaves the old chain as it was; QEMU switches the overlay (or the guest) to the base in the end.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, Use
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans import merge_concerns as about
from vmsnap_nb.plans.merge import plan_cleanup, plan_commit, plan_finish, plan_pull
from vmsnap_nb.plans.merge_cut_short import is_chain, is_done, is_torn, settled
from vmsnap_nb.plans.merge_draft import MergeDraft
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.merge_live_steps import EndPull, LiveCommit, LivePull, SetSource
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.merge_steps import Finish, MarkInvalid, RemoveFile, Repoint
from vmsnap_nb.plans.plan import Concern, Plan
from vmsnap_nb.plans.pull_note import PullNote
from vmsnap_nb.plans.reconcile import moved_record, without_record
from vmsnap_nb.plans.shorten import plan_shorten
from vmsnap_nb.plans.snapshot import sorted_concerns
from vmsnap_nb.plans.snapshot_concerns import has_managed_save
from vmsnap_nb.plans.snapshot_steps import ForgetRecord, MoveRecord
from vmsnap_nb.plans.steps import Protect, Step

__all__ = [
    "LiveRequest",
    "plan_guest_cleanup",
    "plan_guest_commit",
    "plan_guest_finish",
    "plan_guest_finish_pull",
    "plan_guest_pull",
    "plan_guest_shorten",
]


@dataclass(frozen=True)
class LiveRequest:
    """What is wanted of a merge in the chain of a guest, and what is known of the guest.

    Attributes
    ----------
    domain : Domain
        The guest.
    disk : Disk
        The disk whose chain it is.
    uri : str
        libvirt's address; stands in the commands.
    jobs : mapping of str to str
        By disk target the kind of the block job that is active.
    remove : bool
        Whether to remove the files that are not needed any more.
    verify : bool
        Whether the content is read before and after; only of a guest that is off.
    bandwidth : int
        Bytes a second at most; 0 for no limit. Only of a guest that runs.
    timeout : float or None
        Seconds that a block job may take; None for no limit.
    adopt : bool
        Whether the job that goes on is the one that is wanted, begun by a process that has ended since.
    """

    domain: Domain
    disk: Disk
    uri: str = ""
    jobs: Mapping[str, str] = field(default_factory=dict)
    remove: bool = False
    verify: bool = False
    bandwidth: int = 0
    timeout: float | None = None
    adopt: bool = False

    @property
    def source(self) -> str:
        """Path of the image that the disk has."""
        return self.disk.source or ""

    @property
    def running(self) -> bool:
        """Whether QEMU has the images open."""
        return any(use.running for use in self.domain.uses)


def plan_guest_commit(
    forest: Forest,
    request: LiveRequest,
    *,
    base: str | None = None,
    top: str | None = None,
    keep_active: bool = False,
    facts: MergeFacts | None = None,
) -> Plan:
    """Plan to copy layers of a guest's chain down.

    Parameters
    ----------
    forest : Forest
        Must hold whatever stands on the chain, with the guest's snapshot records.
    request : LiveRequest
        The guest and how.
    base, top : str, optional
        Paths: the image that takes the data, by default the one below `top`; and the highest image that is merged, by
        default the one that the guest writes to.
    keep_active : bool
        Whether the guest goes on writing to its image although that was committed.
    facts : MergeFacts, optional
        As in `vmsnap_nb.plans.merge.plan_commit`.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidRequestError
        What cannot be meant.
    """
    facts = facts or MergeFacts()
    top = request.source if top is None else top
    tried = f"commit {forest[top].name} of {request.domain.name}"
    if keep_active and top != request.source:
        raise InvalidRequestError(tried, said="keep_active is about the image that the guest writes to")
    if not request.running:
        if keep_active:
            raise InvalidRequestError(
                tried,
                said="the guest is off",
                next_step="start it, or leave keep_active out",
            )
        plan = plan_commit(forest, top, base, remove=request.remove, verify=request.verify, facts=facts)
        if top == request.source:
            plan = _switched(plan, request, top)
        return _with_records(plan, request)
    _no_verify(request, tried)
    lineage = forest.lineage(request.source)
    if top not in lineage or forest.parent(top) is None:
        raise InvalidRequestError(tried, said=f"top {top} has no backing file, or is not in the chain")
    below = lineage[lineage.index(top) + 1 :]
    if base is None:
        base = below[0]
    if base not in below:
        raise InvalidRequestError(
            tried, said=f"base {base} is not below {top}", next_step="the images below it are: " + ", ".join(below)
        )
    merged = tuple(reversed(lineage[lineage.index(top) : lineage.index(base)]))
    draft = LiveDraft(forest, facts, request)
    draft.commit(base, merged, remove=request.remove, keep=keep_active)
    title = f"commit {', '.join(forest[path].name for path in merged)} into {forest[base].name}"
    way = "live by a block job of QEMU, the guest going on"
    if top == request.source:
        way += "; the guest keeps its image" if keep_active else "; in the end the guest writes to the base (pivot)"
    resumed = next((note for note in facts.notes if (note.base, note.merged) == (base, merged)), None)
    return _with_records(draft.plan(title, way, resumed=resumed), request)


def plan_guest_pull(
    forest: Forest,
    request: LiveRequest,
    *,
    base: str | None = None,
    into: str | None = None,
    facts: MergeFacts | None = None,
) -> Plan:
    """Plan to copy data up in a guest's chain.

    Parameters
    ----------
    forest, request, facts
        As in `plan_guest_commit`.
    base : str, optional
        Path of the image on which `into` will stand; everything is copied if left out.
    into : str, optional
        Path of the image that takes the data: the one that the guest writes to if left out.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidRequestError
        What cannot be meant.
    """
    facts = facts or MergeFacts()
    into = request.source if into is None else into
    # All that can be asked for wrongly is the same in both ways.
    offline = plan_pull(forest, into, base, remove=request.remove, verify=request.verify, facts=facts)
    if not request.running:
        return _with_records(offline, request)
    _no_verify(request, offline.title)
    draft = LiveDraft(forest, facts, request)
    draft.pull(into, base)
    if request.remove:
        lineage = forest.lineage(into)
        draft.remove(lineage[1 : lineage.index(base) if base is not None else None], asked=False)
    return _with_records(draft.plan(offline.title, "live by a block job of QEMU, the guest going on"), request)


def plan_guest_finish(
    forest: Forest,
    request: LiveRequest,
    note: MergeNote,
    *,
    facts: MergeFacts | None = None,
    alike: bool = False,
    untouched: bool = False,
) -> Plan:
    """Plan to finish a commit in a guest's chain that was cut short, or whose process has ended while QEMU went on.

    Parameters
    ----------
    forest, request, facts
        As in `plan_guest_commit`.
    note : MergeNote
        What the commit has left behind.
    alike : bool
        Whether the base was seen to hold all of the merged layers.
    untouched : bool
        As in `vmsnap_nb.plans.merge.plan_finish`.

    Returns
    -------
    Plan
        Where QEMU goes on with it: to wait for its end. Where the chain is the old one: the commit again. Where the
        chain is the new one: what comes after the copying, or, if nobody knows whether QEMU had written all its
        tables before it ended, to let the chain be the old one; that waits until the guest is off.
    """
    note = replace(note, phase="copied") if is_done(forest, note) else settled(forest, note)
    lineage = forest.lineage(request.source)
    torn = is_torn(forest, note)
    if torn and not (request.running and alike):
        return plan_finish(forest, note, facts=facts, untouched=untouched)
    if torn or (not note.children and request.source in forest.same_file(note.base)):
        return _with_records(plan_finish(forest, replace(note, phase="copied"), facts=facts), request)
    # Nothing stands on the base yet but what was merged, to which the guest may have written since: copy again.
    again = note.phase == "copying" or (note.top == request.source and not note.children)
    if note.top in lineage and again and is_chain(forest, note):
        facts = facts or MergeFacts()
        notes = tuple(replace(one, phase="copying") if one.path == note.path else one for one in facts.notes)
        adopt = "" not in request.jobs and request.jobs.get(request.disk.target) in {"commit", "active commit"}
        request, facts = replace(request, adopt=adopt), replace(facts, notes=notes)
        return plan_guest_commit(forest, request, base=note.base, top=note.top, facts=facts)
    return _with_records(plan_finish(forest, note, facts=facts), request)


def plan_guest_finish_pull(
    forest: Forest, request: LiveRequest, note: PullNote, *, facts: MergeFacts | None = None
) -> Plan:
    """Plan to finish a pull into the image of a running guest whose process has ended, or whose QEMU has.

    Parameters
    ----------
    forest, request, facts
        As in `plan_guest_commit`.
    note : PullNote
        What the pull has left behind.

    Returns
    -------
    Plan
        Where QEMU goes on with it: to wait for its end. Where the guest runs on without: to have QEMU write its tables
        of the image. Where the guest is off: to let the image stand on its old backing file, since nobody knows whether
        all tables were written; it reads the same then, and can be pulled into again.

    Raises
    ------
    InvalidRequestError
        The image or its old backing file is not there any more.
    """
    tried = f"finish the pull into {note.image}"
    if note.image not in forest or note.before.key not in forest:
        raise InvalidRequestError(
            tried,
            said=f"{note.before.key if note.image in forest else note.image} is not there any more, or was not read",
            next_step="bring it back: the image may not hold all of it. If you know that it does, since the guest was "
            f"shut down properly, remove the note {note.path}",
        )
    if request.jobs.get(request.disk.target) == "pull":
        return plan_guest_pull(forest, replace(request, adopt=True), base=note.base, facts=facts)
    draft = LiveDraft(forest, facts or MergeFacts(), request)
    draft.settle_pull(note)
    way = "by QEMU, the guest going on" if request.running else "offline: nothing is copied"
    return draft.plan(f"finish the pull into {forest[note.image].name}", way)


def plan_guest_shorten(
    forest: Forest, request: LiveRequest, *, keep: int | Sequence[str], facts: MergeFacts | None = None
) -> Plan:
    """Plan to make a guest's chain short, with the fewest bytes to copy; the guest goes on with the same image.

    Parameters
    ----------
    forest, request, facts
        As in `plan_guest_commit`.
    keep : int or sequence of str
        As in `vmsnap_nb.plans.shorten.plan_shorten`.

    Returns
    -------
    Plan
        While the guest runs one block job after the other: commits of neighbouring layers, and a pull in the end.

    Raises
    ------
    InvalidRequestError
        It is as short as that already, or what cannot be meant.
    """
    draft = None
    if request.running:
        _no_verify(request, f"shorten the chain of {request.domain.name}")
        draft = LiveDraft(forest, facts or MergeFacts(), request)
    plan = plan_shorten(
        forest, request.source, keep=keep, remove=request.remove, verify=request.verify, facts=facts, draft=draft
    )
    return _with_records(plan, request)


def plan_guest_cleanup(forest: Forest, guest: str) -> Plan:
    """Plan to remove what merges in a guest's chains have made invalid.

    Parameters
    ----------
    forest : Forest
        Must hold whatever stands on the chains.
    guest : str
        Its name.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidRequestError
        There is nothing of the kind.
    """
    layers = [layer for use in forest.uses if use.guest == guest for layer in forest.lineage(use.path)]
    folders = {os.path.dirname(layer) for layer in layers}
    # What stood on a layer that a later merge has removed stands on nothing now.
    orphans = [
        path
        for path in forest.images
        if os.path.dirname(path) in folders and forest.status(forest.lineage(path)[-1]) == "missing"
    ]
    return plan_cleanup(forest, [*(above for layer in layers for above in forest.descendants(layer)), *orphans])


class LiveDraft(MergeDraft):
    """A merge in the chain of a guest that runs.

    Parameters
    ----------
    forest, facts
        As in `MergeDraft`.
    request : LiveRequest
        The guest and how.
    """

    where = "live by block jobs of QEMU, the guest going on"
    pulls_only_to_top = True

    def __init__(self, forest: Forest, facts: MergeFacts, request: LiveRequest) -> None:
        super().__init__(forest, facts)
        self._request = request

    def commit(self, base: str, merged: Sequence[str], *, remove: bool, keep: bool = False) -> None:
        """Copy layers, lowest first, down into the image below the lowest of them."""
        request, forest, merged, top = self._request, self.forest, tuple(merged), merged[-1]
        lineage = forest.lineage(request.source)
        own = () if top == request.source else (lineage[lineage.index(top) - 1],)
        # By the name under which the guest has it: a file can have several.
        aliases = {name for path in own for name in forest.same_file(path)}
        others = tuple(child for child in self.overlays(top) if child not in aliases)
        children = (*own, *others)
        note = MergeNote(base, top, merged, children, remove=remove, active=top == request.source and not keep)
        self._touched.update(dict.fromkeys((base, *merged, *children)))
        self.concerns += [
            *self._about_job((base, *merged, *others), (*forest.lineage(base)[1:], *own)),
            *about.about_sharing(forest, base, merged),
            *self._about_readers(top),
            *about.about_chain(forest, request.source, (base, *merged), layers=merged, keys=True),
            *about.about_exposure(forest, merged, base),
            *about.about_sizes(forest, self._facts, base, top, children),
            *about.about_snapshots(forest, () if keep else merged, "which would not be valid any more"),
            *about.about_names(forest, merged if remove and not keep else ()),
            *about.about_seen(forest, base),
        ]
        size, extents = self._copy((base, *merged), base, "commit data")
        relative = bool(own) and all(self._is_relative(path) for path in (*merged, *own))
        step = LiveCommit(
            *self._who,
            request.source,
            note,
            keep,
            relative,
            size,
            request.bandwidth,
            request.timeout,
            request.adopt,
            extents,
            forest[top].virtual_size or 0,
        )
        steps = self._with_write(step, base, *own)
        pivot = top == request.source and not keep
        # After the pivot the guest writes to it.
        self._copying += [one for one in steps if not (pivot and isinstance(one, Protect) and one.path == base)]
        self._put_size(base, forest[top].virtual_size)
        if pivot:
            self._put(base, writable=True)
        if keep:
            return
        for child in own:
            old = forest[child].backing
            self._put(child, backing=self._reference(child, base, old if relative else None))
        if pivot:
            self.forest = self.forest.edited(uses=_moved(self.forest, request, base))
        self._after_copying(replace(note, phase="copied"), others)

    def pull(self, image: str, base: str | None) -> None:
        """Copy into an image what it reads from the layers above `base`, or all that it reads from below."""
        request, forest = self._request, self.forest
        lineage = forest.lineage(image)
        below = lineage[lineage.index(base) :] if base is not None else ()
        layers = lineage[: len(lineage) - len(below)]
        self._touched.update(dict.fromkeys((*reversed(layers), *below[:1])))
        if image != request.source:
            self.concerns.append(
                Concern(
                    "not-supported",
                    "refuse",
                    f"libvirt pulls only into the image that a running guest writes to, and {forest[image].name} is "
                    f"a layer below that of {request.domain.name}",
                    f"shut {request.domain.name} down: then qemu-img does it; or commit downwards",
                    images=(image,),
                    holders=(request.domain.name,),
                )
            )
        self.concerns += [
            *self._about_job((image,), lineage[1:]),
            *about.about_chain(forest, image, layers, layers=(image,), keys=True),
            *about.about_exposure(forest, layers, image),
            *about.about_snapshots(forest, (image,), "which would read other content from the new backing file"),
        ]
        size, extents = self._copy(tuple(reversed(layers)), image, "stream data")
        relative = base is not None and all(self._is_relative(path) for path in layers)
        backing = forest[image].backing
        assert backing is not None
        note = PullNote(image, backing.written, backing.format, base)
        limits = request.bandwidth, request.timeout, request.adopt, request.domain.state == "paused"
        where = extents, forest[image].virtual_size or 0
        step = LivePull(*self._who, request.source, base, note, relative, size, *limits, *where)
        self._copying += self._with_write(step, image)
        old = backing if relative else None
        self._put(image, backing=None if base is None else self._reference(image, base, old), allocated=None)

    def settle_pull(self, note: PullNote) -> None:
        """Bring a pull to its end whose process has ended: QEMU has done with it, or has gone itself."""
        request, image = self._request, note.image
        self._touched[image] = None
        backing = self.forest[image].backing
        if request.running:
            who = (*self._who, image, note.base, note)
            self._copying.append(LivePull(*who, adopt=True, paused=request.domain.state == "paused"))
        elif (backing and backing.key) != note.before.key:
            # Whether QEMU had written all its tables nobody knows. With the old backing file it reads the same anyway.
            below = note.before.key
            self._touched[below] = None
            self.concerns += about.about_use(self.forest, (image,), ())
            self._copying += [*self._with_write(Repoint(image, note.before, backing, back=True), image), EndPull(note)]
            self._put(image, backing=note.before)
            self.concerns += about.about_chain(self.forest, image, (), layers=(image,), keys=True)
        else:
            self._copying.append(EndPull(note))

    @property
    def _who(self) -> tuple[str, str, str, str]:
        request = self._request
        return request.domain.name, request.domain.uuid, request.uri, request.disk.target

    def _is_relative(self, path: str) -> bool:
        reference = self.forest[path].backing
        return reference is not None and reference.kind == "relative"

    def _about_job(self, written: Sequence[str], read: Sequence[str]) -> list[Concern]:
        """Look for jobs on the disk, and for anybody else who has open what QEMU would write."""
        request, found = self._request, []
        job = request.jobs.get(request.disk.target) or request.jobs.get("")
        if job and not request.adopt:
            name, target = request.domain.name, request.disk.target
            end = f"domjobabort {name}" if "" in request.jobs else f"blockjob {name} {target} --abort"
            found.append(
                Concern(
                    "active-job",
                    "refuse",
                    f"{request.domain.name} has a job on {request.disk.target} already: {job}",
                    f"wait for its end, or end it: virsh {end}",
                    images=(request.source,),
                    holders=(request.domain.name,),
                )
            )
        if request.disk.readonly:
            found.append(
                Concern("read-only", "refuse", f"{request.disk.target} is a disk that the guest may only read")
            )
        for path in dict.fromkeys((*written, *read)):
            uses = self.forest.users(path) if path in written else self.forest.writers(path)
            guests = tuple(dict.fromkeys(u.guest for u in uses if u.running and u.guest != request.domain.name))
            if guests:
                found.append(
                    Concern(
                        "in-use",
                        "refuse",
                        f"{self.forest[path].name}: {', '.join(guests)} is running and has it open",
                        f"shut {guests[0]} down first",
                        images=(path,),
                        holders=guests,
                    )
                )
        return found

    def _about_readers(self, top: str) -> list[Concern]:
        """Look for other guests whose disk is the very image that is merged away."""
        names = set(self.forest.same_file(top))
        uses = [use for use in self.forest.uses if use.path in names]
        guests = tuple(dict.fromkeys(use.guest for use in uses if use.guest != self._request.domain.name))
        if not guests:
            return []
        what = f"{self.forest[top].name} is the disk of {', '.join(guests)}, and will not be valid any more"
        return [Concern("in-use", "refuse", what, "give it an overlay of its own first", (top,), guests, waivable=True)]


def _no_verify(request: LiveRequest, tried: str) -> None:
    if request.verify:
        raise InvalidRequestError(
            tried,
            said="the content of a disk to which a running guest writes cannot be compared from outside",
            next_step="leave verify out and compare checksums in the guest, or shut it down first",
        )


def _moved(forest: Forest, request: LiveRequest, path: str) -> list[Use]:
    own = (request.domain.name, request.disk.target)
    return [replace(use, path=path) if (use.guest, use.target) == own else use for use in forest.uses]


def _switched(plan: Plan, request: LiveRequest, top: str) -> Plan:
    """Give the guest, which is off, the base as its disk before its old image is marked invalid."""
    base = next(step.into for step in plan.steps if isinstance(step, MarkInvalid))
    domain = request.domain
    switch = SetSource(
        domain.name, domain.uuid, request.uri, request.disk.target, top, base, plan.after[base].format or "raw"
    )
    steps = list(plan.steps)
    steps.insert(next(n for n, step in enumerate(steps) if isinstance(step, MarkInvalid)), switch)
    own = (domain.name,)
    concerns = [c for c in plan.concerns if not (c.name == "in-use" and c.images == (top,) and c.holders == own)]
    if has_managed_save(plan.before, domain.name):
        concerns.append(
            Concern(
                "managed-save",
                "refuse",
                f"{domain.name} has its memory saved, and would go on with {plan.before[top].name}, which is not valid "
                "any more then",
                f"start it and merge while it runs, or give its memory up: virsh managedsave-remove {domain.name}",
                images=(top,),
                holders=own,
                waivable=True,
            )
        )
    return replace(
        plan,
        steps=tuple(one for one in steps if not (isinstance(one, Protect) and one.path == base)),
        concerns=sorted_concerns(concerns),
        after=plan.after.edited(uses=_moved(plan.after, request, base), put=[replace(plan.after[base], writable=True)]),
    )


def _with_records(plan: Plan, request: LiveRequest) -> Plan:
    """Put libvirt's records right, as the last thing before the merge's note goes.

    The state of a snapshot that stood on the top of what was committed is in the base then, and its record says so.
    Those snapshots that the merge makes meaningless are forgotten.
    """
    domain = request.domain
    putting: list[Step] = []
    records = list(plan.after.records)
    notes = [step.note for step in plan.steps if isinstance(step, Finish)]
    merged = {path for note in notes for path in note.merged}
    # Those of the merged layers may be out of order by this very merge, where it was cut short.
    was = {row.name for row in list_snapshots(domain, plan.before) if row.status == "ok"}
    was |= {one.name for one in records if any({disk.source, disk.file} & merged for disk in one.held_disks)}
    for place, record in enumerate(records):
        note = next((one for one in notes if _stands_on(record, domain, one)), None)
        if note is not None and record.name in was:
            records[place] = moved_record(record, note.top, note.base)
            who = domain.name, domain.uuid, request.uri
            putting.append(MoveRecord(*who, record.name, note.top, note.base, record.current))
    after = plan.after.edited(records=records)
    rows = list_snapshots(domain, after, gone=plan.unlinks)
    stale = [row.name for row in rows if row.status in ("stale", "missing-file") and row.name in was]
    for name in stale:
        records = list(without_record(records, domain.name, name))
    putting += [ForgetRecord(domain.name, domain.uuid, request.uri, name) for name in stale]
    ends = [
        Concern(
            "state-lost",
            "warn",
            f"the snapshot {name} of {domain.name} ends with this merge: its layers are not what its record says any "
            "more, so the record is forgotten",
            "if you may want to go back to it, merge other layers",
            holders=(domain.name,),
        )
        for name in stale
    ]
    steps = list(plan.steps)
    at = next((n for n, step in enumerate(steps) if isinstance(step, RemoveFile | Finish)), len(steps))
    return replace(
        plan,
        steps=(*steps[:at], *putting, *steps[at:]),
        after=plan.after.edited(records=records),
        concerns=sorted_concerns((*plan.concerns, *ends)),
    )


def _stands_on(record: SnapshotRecord, domain: Domain, note: MergeNote) -> bool:
    """Tell whether a snapshot's state is in the top of the layers that are merged, and all that came after is not."""
    held = record.held_disks
    return (
        record.guest == domain.name
        and any(disk.source == note.top for disk in held)
        and all(disk.held == "external" and disk.file not in note.merged for disk in held)
    )
