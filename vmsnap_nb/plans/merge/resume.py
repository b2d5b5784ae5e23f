"""Plans that finish what was interrupted: commits, and pulls into the image of a guest that runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from vmsnap_nb.errors import NotFoundError, VmsnapError
from vmsnap_nb.model.disk_xml import defined_source, defined_sources
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.checks import layers, users
from vmsnap_nb.plans.checks.bitmaps import merged_down
from vmsnap_nb.plans.checks.interrupted import is_chain, is_done, is_gone, is_torn, overlays_of_base, settled
from vmsnap_nb.plans.concern import ConcernName, either, refuse, sorted_concerns, warn
from vmsnap_nb.plans.facts import LOST_JOB
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.plans.merge import checks, evidence
from vmsnap_nb.plans.merge.builder import MergeBuilder
from vmsnap_nb.plans.merge.engines import BlockJobs, Engine, QemuImg, engine_of
from vmsnap_nb.plans.merge.plan import image_name, image_names, plan_commit, plan_pull
from vmsnap_nb.plans.merge.records import with_records
from vmsnap_nb.plans.merge.steps import EndPull, LivePull, Repoint, SetSource, WriteOut
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading, Request
from vmsnap_nb.words.message import Message, t

if TYPE_CHECKING:
    from vmsnap_nb.plans.merge.request import CommitRequest, FinishPullRequest, FinishRequest

__all__ = ["plan_finish", "plan_finish_pull", "plan_unread"]


class _Resumption(MergeBuilder):
    """What is left of a merge that was interrupted."""

    def complete(self, entry: MergeEntry, *, pivoted: bool = False) -> None:
        """Do what comes after the copying.

        If the guest of the engine has the top as its disk, it gets the base. If it runs, and its QEMU writes to that
        already (`pivoted`), it is libvirt's definition alone that is corrected.
        """
        forest, own, owner = self.forest, self.engine.own, self.engine.owner
        merged = tuple(path for path in entry.merged if not is_gone(forest, path))
        children = self.overlays(entry.top) if entry.top in forest.images else ()
        self.touch(entry.base, *merged, *children)
        besides = own.guest if pivoted and own is not None else ""
        instead = users.merge_while_running
        self.concerns += users.in_use(forest, (*children, *merged), besides=besides, instead=instead)
        if entry.top in merged:
            self.concerns += checks.readers(forest, entry.top, entry.base, own)
        self.concerns += layers.plain_references(forest, children)
        self._need_key(children, entry.base)
        if merged == entry.merged and not forest[entry.base].held and all(checks.sound(forest, one) for one in merged):
            self._carry(entry.base, merged_down(forest, entry.base, merged, forest[entry.base].virtual_size))
        self._after_copying(entry, children, merged)
        if own is not None and owner is not None and own.path in forest.same_file(entry.top) and not pivoted:
            self._switch(own.path, entry.base)
        else:
            self._correct_definition(entry, pivoted=pivoted)
        self._flush(entry)

    def _flush(self, entry: MergeEntry) -> None:
        """Have all of it on the disk while the merged layers are still there, if a QEMU has it."""
        guest = self.reading.guest
        if guest is not None and guest.running:
            paths = (entry.base, *self.overlays(entry.base))
            step = WriteOut(guest=guest.ref, paths=paths, paused=guest.domain.state == "paused")
            self._marking.insert(0, step)

    def _correct_definition(self, entry: MergeEntry, *, pivoted: bool) -> None:
        """Let the definition for the next start name the base where it names what was merged.

        libvirt writes it after the pivot, and says nothing where it cannot, or is interrupted before it does.
        """
        guest = self.reading.guest
        if guest is None or not guest.running:
            return
        format = self.forest[entry.base].format or "raw"
        for disk in guest.domain.disks:
            named = defined_source(guest.definition, disk.target)
            if named in entry.merged and (pivoted or disk.source not in entry.merged):
                step = SetSource(
                    guest=guest.ref,
                    target=disk.target,
                    before=named,
                    path=entry.base,
                    format=format,
                    devices=self.forest.known_devices(named, entry.base),
                )
                self._marking.insert(0, step)

    def take_back(self, entry: MergeEntry) -> None:
        """Base overlays on what was merged again, where nobody knows whether the base holds all of it.

        The entry stays: a part of it may be in the base, so the merge is to be made again.
        """
        forest, top, base = self.forest, self.forest[entry.top].name, self.forest[entry.base].name
        children = overlays_of_base(forest, entry)
        self.touch(entry.base, *entry.merged, *children)
        self.concerns += users.in_use(forest, children, instead=users.merge_while_running)
        self.concerns.append(
            warn(
                "active-job",
                t(
                    "{base} may lack data of {top}, because QEMU or the machine may have stopped before all data was "
                    "written",
                    base=base,
                    top=top,
                ),
                t("commit {top} again afterwards: part of its data is already in {base}", top=top, base=base),
                images=(entry.base, entry.top),
            )
        )
        if entry.path not in self.reading.untouched:
            self.concerns.append(
                refuse(
                    "disk-changed",
                    t("{top} was written to after this merge began: it may not be the image that was merged", top=top),
                    either(
                        t(
                            "restore the image that was merged. If it is that image, waive this (a copy "
                            "has a later modification time)"
                        ),
                        t(
                            "if {base} holds all data of {top}, remove the journal entry {path}",
                            base=base,
                            top=top,
                            path=entry.path,
                        ),
                    ),
                    images=(entry.top,),
                    waivable=True,
                )
            )
        self._need_key(children, entry.top)
        for child in children:
            self._repoint(child, entry.top, back=True)
            self.concerns += layers.usable(self.forest, child, layers=(child,), keys=True)

    def _need_key(self, children: Iterable[str], base: str) -> None:
        """Refuse to write another backing file into an encrypted image."""
        for child in children:
            if self.forest[child].encryption:
                self.concerns.append(
                    refuse(
                        "not-supported",
                        t(
                            "{image} is encrypted, and qemu-img cannot change it without the key",
                            image=self.forest[child].name,
                        ),
                        t(
                            "rebase the image onto {top} with qemu-img rebase -u, and pass its key with --object and "
                            "--image-opts",
                            top=base,
                        ),
                        images=(child,),
                    )
                )

    def miss(self, entry: MergeEntry, why: Message, name: ConcernName, remedy: Message | None) -> None:
        """Refuse to go on with a merge whose images are not as it had left them."""
        there = tuple(path for path in (entry.base, *entry.merged, *entry.children) if path in self.forest.images)
        self.touch(*there)
        self.concerns.append(
            refuse(
                name,
                t("the merge of {top} into {base} was interrupted: {why}", top=entry.top, base=entry.base, why=why),
                remedy
                or either(
                    t("restore the previous state, then call unfinished() again"),
                    t("if you know that no operation is pending, remove {path}", path=entry.path),
                ),
                images=there,
            )
        )

    def end_pull(self, entry: PullEntry) -> None:
        """Base the image on its old backing file, with which it reads the same whatever QEMU has written."""
        image, backing = entry.image, self.forest[entry.image].backing
        self.touch(image)
        if (backing and backing.key) != entry.before.key:
            self.touch(entry.before.key)
            self.concerns += users.in_use(self.forest, (image,), instead=users.merge_while_running)
            step = Repoint(path=image, backing=entry.before, before=backing, back=True)
            self._copying += self._with_write(step, image)
            self._put(image, backing=entry.before)
            self.concerns += layers.usable(self.forest, image, layers=(image,), keys=True)
        self._copying.append(EndPull(entry=entry))

    def write_out(self, entry: PullEntry, engine: BlockJobs) -> None:
        """Let QEMU write to the disk what it has of the image's tables in memory."""
        self.touch(entry.image)
        self._copying.append(
            LivePull(
                guest=engine.owner.ref,
                target=engine.own.target,
                source=entry.image,
                base=entry.base,
                entry=entry,
                adopt=True,
                paused=engine.paused,
            )
        )


def plan_finish(reading: Reading, request: FinishRequest) -> Plan:
    """Plan to finish a commit that was interrupted, or whose process has ended while QEMU continued.

    In a guest's chain, where QEMU goes on with it: to wait for its end. Where the chain is the old one: the commit
    again. Where it is the new one: what comes after the copying; or, if nobody knows whether QEMU had written all its
    tables before it ended, to let the chain be the old one, which waits until the guest is off. Where nobody knows
    which image holds what was written last: nothing, and the concern says what is known.
    """
    forest, entry = reading.forest, settled(reading.forest, request.entry)
    try:
        plan = _plan_finish(reading, request, entry)
    except VmsnapError as error:  # as of a commit that is not possible any more
        plan = _missed(reading, entry, _reason(error))
    concerns = [*plan.concerns, *evidence.author(entry), *evidence.originals(forest, entry)]
    if plan.steps:
        owner = reading.owner.domain if request.guest else None
        concerns += evidence.defined(forest, entry) if owner is None else evidence.others(owner, entry)
    if not all(isinstance(step, Repoint) and step.back for step in plan.steps):
        concerns += evidence.damaged(reading, entry.base)
    return replace(plan, concerns=sorted_concerns(concerns))


def _reason(error: VmsnapError) -> Message:
    if isinstance(error, NotFoundError) and error.reason:  # that none has the name tells nothing without the name
        return t("{headline} ({why})", headline=error.headline, why=error.reason)
    return Message("{reason}", reason=error.reason or error.headline)


def _plan_finish(reading: Reading, request: FinishRequest, entry: MergeEntry) -> Plan:
    forest, engine = reading.forest, QemuImg() if request.detached else engine_of(reading, request)
    alone = replace(request.again, guest="", disk=None)
    if request.detached and entry.top in defined_sources(reading.owner.definition).values():
        guest = reading.owner.domain.name
        why = t("{guest} no longer has that disk, but will have it again after the next start", guest=guest)
        return _missed(reading, entry, why, "in-use", t("shut {guest} down, then call unfinished() again", guest=guest))
    state = evidence.pivot(reading, entry, live=engine.live)
    if state == "unknown":
        return _missed(reading, entry, evidence.unknown(forest, entry), "disk-changed")
    if state:
        entry = replace(entry, phase="copied" if state == "base" else "copying")
    written = reading.owner.written if request.guest and engine.live else frozenset()
    pivoted = evidence.has_pivoted(forest, entry, written)
    if not request.guest:
        return _finished(reading, entry, alone, pivoted=pivoted)
    if is_done(forest, entry):
        entry = replace(entry, phase="copied")
    at_top = entry.phase == "copied" and engine.source in forest.same_file(entry.top)
    if at_top and (pivoted or evidence.holds_all(reading, entry)):
        return _switched(reading, entry, engine, pivoted=pivoted)
    torn = is_torn(forest, entry)
    if torn and not (engine.live and (entry.top, entry.base) in reading.alike):
        return _finished(reading, entry, alone)
    # Nothing is based on the base yet but what was merged, to which the guest may have written since: copy again.
    again = entry.phase == "copying" or (engine.source in forest.same_file(entry.top) and not entry.children)
    if torn or (not entry.children and engine.source in forest.same_file(entry.base)):
        entry = replace(entry, phase="copied")
    elif again and entry.top in forest.known_lineage(engine.source) and is_chain(forest, entry):
        return _committed(reading, engine, entry, request.again)
    finished = _finished(reading, entry, alone, pivoted=pivoted)
    return with_records(finished, reading.owner, reading.gone, resumed=True)


def _switched(reading: Reading, entry: MergeEntry, engine: Engine, *, pivoted: bool) -> Plan:
    """Plan what comes after the copying, where the top is still the guest's disk: it gets the base."""
    builder = _Resumption(reading, QemuImg(owner=engine.owner, own=engine.own))
    builder.complete(entry, pivoted=pivoted)
    if not pivoted:
        builder.concerns += evidence.content(reading, entry)
    way = t("only libvirt's definition changes, because all data was copied before the interruption")
    return builder.plan(_finish(reading.forest, entry), way, resumed=entry)


def _missed(
    reading: Reading,
    entry: MergeEntry,
    why: Message,
    name: ConcernName = "missing-base",
    remedy: Message | None = None,
) -> Plan:
    """Return a plan that is refused: nobody knows how the merge is to be finished, or it cannot be now."""
    builder = _Resumption(reading, QemuImg())
    builder.miss(entry, why, name, remedy)
    return builder.plan(_finish(reading.forest, entry), t("not possible in this state"), resumed=entry)


def _finish(forest: Forest, entry: MergeEntry) -> Message:
    return t(
        "finish the merge of {images} into {base}",
        images=image_names(forest, entry.merged),
        base=image_name(forest, entry.base),
    )


def _committed(reading: Reading, engine: Engine, entry: MergeEntry, request: CommitRequest) -> Plan:
    """Plan the commit again; if QEMU goes on with it, to wait for its end."""
    jobs = reading.owner.jobs
    adopt = "" not in jobs and engine.own is not None and jobs.get(engine.own.target) in {"commit", "active commit"}
    if engine.own is not None and jobs.get(engine.own.target) == LOST_JOB:
        why = t("libvirt was interrupted when the block job started, and can now neither end the job nor pivot")
        remedy = t("shut {guest} down, then call unfinished() again", guest=reading.owner.domain.name)
        return _missed(reading, entry, why, "active-job", remedy)
    others = (one for one in reading.entries if one.path != entry.path)
    reading = replace(reading, entries=(replace(entry, phase="copying"), *others))
    return plan_commit(reading, replace(request, adopt=adopt))


def _finished(reading: Reading, entry: MergeEntry, again: CommitRequest, *, pivoted: bool = False) -> Plan:
    """Plan to finish a commit by qemu-img.

    The whole commit again if it was interrupted while copying: that does no harm, since nothing is based on the base
    but what it copies from. Else only what comes after the copying. Where QEMU based overlays on the base, and nobody
    knows whether it had written all of that: what bases them on the merged layers again.
    """
    forest, builder = reading.forest, _Resumption(reading, QemuImg())
    if entry.phase == "copied":
        builder.complete(entry)
        if not pivoted:
            builder.concerns += evidence.content(reading, entry)
        way = t("offline: all data was copied before the interruption")
        return builder.plan(_finish(forest, entry), way, resumed=entry)
    if why := _not_as_left(forest, entry):
        return _missed(reading, entry, why)
    if is_torn(forest, entry):
        builder.take_back(entry)
        title = t(
            "undo the merge of {images} into {base}",
            images=image_names(forest, entry.merged),
            base=image_name(forest, entry.base),
        )
        way = t("offline: no data is copied, because the merged images are unchanged")
        return builder.plan(title, way, resumed=entry)
    return plan_commit(reading, again)


def _not_as_left(forest: Forest, entry: MergeEntry) -> Message | None:
    """Return what is not as a commit that was interrupted while copying must have left it, if anything is."""
    for path in (entry.base, *entry.merged):
        if is_gone(forest, path):
            return t("{path} does not exist or was not read, and may have been the only copy of its data", path=path)
    if not is_chain(forest, entry):
        problem = forest[entry.top].problem
        if problem:
            return t("{top} is no longer based on {base}: {why}", top=entry.top, base=entry.base, why=problem)
        return t("{top} is no longer based on {base}", top=entry.top, base=entry.base)
    by_itself = not entry.children and not any(use.path in forest.same_file(entry.top) for use in forest.uses)
    if entry.active and by_itself:
        return t(
            "the guest that wrote to {top} is unknown on this machine, and may now write to {base}",
            top=entry.top,
            base=entry.base,
        )
    return None


def plan_finish_pull(reading: Reading, request: FinishPullRequest) -> Plan:
    """Plan to finish a pull into the image of a running guest whose process has ended, or whose QEMU has.

    Where QEMU goes on with it: to wait for its end. Where the guest runs on without: to have QEMU write its tables of
    the image. Where the guest is off: to base the image on its old backing file, since nobody knows whether all
    tables were written; it reads the same then, and can be pulled into again.
    """
    forest, entry = reading.forest, request.entry
    gone = next((path for path in (entry.image, entry.before.key) if is_gone(forest, path)), None)
    if gone is not None:
        return _missed_pull(reading, entry, t("{path} no longer exists, or was not read", path=gone))
    engine, title = engine_of(reading, request), t("finish the pull into {image}", image=forest[entry.image].name)
    if isinstance(engine, QemuImg):
        builder = _Resumption(reading, QemuImg())
        builder.end_pull(entry)
        builder.concerns += [*evidence.author(entry), *evidence.originals(forest, entry)]
        return builder.plan(title, t("offline: no data is copied"))
    if engine.source not in forest.same_file(entry.image):
        guest = reading.owner.domain.name
        why = t("{guest} is running, but no longer writes to {path}", guest=guest, path=entry.image)
        remedy = t("shut {guest} down, then call unfinished() again", guest=guest)
        return _missed_pull(reading, entry, why, "in-use", remedy)
    if entry.path in reading.owner.restarted:
        guest = reading.owner.domain.name
        why = t(
            "{guest} was restarted after the interruption, and does not use the data copied before the interruption",
            guest=guest,
        )
        remedy = t("shut {guest} down, then call unfinished() again", guest=guest)
        return _missed_pull(reading, entry, why, "in-use", remedy)
    if reading.owner.jobs.get(engine.own.target) == "pull":
        try:
            return plan_pull(reading, request.again)
        except VmsnapError as error:
            return _missed_pull(reading, entry, _reason(error))
    builder = _Resumption(reading, engine)
    builder.write_out(entry, engine)
    return builder.plan(title, t("live: QEMU writes out the tables; the guest keeps running"))


def _missed_pull(
    reading: Reading,
    entry: PullEntry,
    why: Message,
    name: ConcernName = "missing-base",
    remedy: Message | None = None,
) -> Plan:
    """Return a plan that is refused: nobody knows how the pull is to be finished."""
    there = tuple(path for path in (entry.image, entry.before.key) if path in reading.forest.images)
    builder = _Resumption(reading, QemuImg())
    builder.concerns.append(
        refuse(
            name,
            t(
                "a pull into {image} was interrupted, and the image may be incomplete: {why}",
                image=entry.image,
                why=why,
            ),
            remedy
            or either(
                t("restore the previous state"),
                t(
                    "if you know that no data is missing, because the guest was shut down properly, remove the "
                    "journal entry {path}",
                    path=entry.path,
                ),
            ),
            images=there,
        )
    )
    title = t("finish the pull into {image}", image=image_name(reading.forest, entry.image))
    return builder.plan(title, t("not possible in this state"), subjects=there)


def plan_unread(forest: Forest, request: Request, error: VmsnapError) -> Plan:
    """Return a plan that is refused: what it depends on cannot be read at this moment, as an image that QEMU locks."""
    entry = getattr(request, "entry", None)
    title = _finish(forest, entry) if isinstance(entry, MergeEntry) else t("finish the interrupted operation")
    concern = refuse(
        "in-use",
        t("the progress of the operation is unknown: {headline} ({why})", headline=error.headline, why=error.reason)
        if error.reason
        else t("the progress of the operation is unknown: {headline}", headline=error.headline),
        t("call unfinished() again later, or when the guest is off"),
    )
    way = t("not possible at this moment")
    return Plan(title=title, before=forest, steps=(), after=forest, concerns=(concern,), way=way)
