"""Requests about layers that QEMU holds otherwise than libvirt or the folder: correct a definition, save a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from shlex import quote

from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.plans.checks.open_images import can_be_merged, copied_by, held_concerns, switched
from vmsnap_nb.plans.concern import Concern, refuse, sorted_concerns
from vmsnap_nb.plans.merge.builder import MergeBuilder
from vmsnap_nb.plans.merge.engines import BlockJobs, engine_of
from vmsnap_nb.plans.merge.finish_snapshot import FinishSnapshotRequest
from vmsnap_nb.plans.merge.request import MergeRequest
from vmsnap_nb.plans.merge.steps import MarkInvalid, RemoveFile, SetSource
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import Message, t

__all__ = ["CorrectRequest", "SaveDeletedRequest", "held_requests"]


@dataclass(frozen=True, kw_only=True)
class CorrectRequest(MergeRequest):
    """That the definition for a guest's next start names the image to which QEMU writes a disk."""

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, guest = reading.forest, reading.owner
        use = next(use for use in forest.uses if (use.guest, use.target) == (self.guest, self.disk))
        name = forest[use.path].name if use.path in forest.images else use.path
        step = SetSource(
            guest=guest.ref,
            target=use.target,
            before=use.next or use.path,
            path=use.path,
            format=(forest[use.path].format if use.path in forest.images else None) or "qcow2",
            devices=forest.known_devices(use.next or use.path, use.path),
        )
        uses = (replace(one, next=None) if one == use else one for one in forest.uses)
        return Plan(
            title=t("correct the definition of {guest} to {image}", guest=self.guest, image=name),
            before=forest,
            steps=(step,),
            after=forest.edited(uses=uses),
            concerns=sorted_concerns(_against(reading)),
            way=t(
                "only the definition for the next start changes: QEMU writes to {path}, but the definition names "
                "{named}. Afterwards, shut {guest} down and start it again",
                path=use.path,
                named=use.named or t("no image"),
                guest=self.guest,
            ),
            subjects=(use.path, *((use.named,) if use.named in forest.images else ())),
        )


def _against(reading: Reading) -> Iterator[Concern]:
    domain = reading.owner.domain
    if not domain.persistent:
        yield refuse(
            "not-supported",
            t("{guest} is transient: libvirt has no definition for its next start", guest=domain.name),
            t(
                "make it persistent first: {command}",
                command=f"virsh dumpxml {quote(domain.name)} | virsh define /dev/stdin",
            ),
            holders=(domain.name,),
        )


@dataclass(frozen=True, kw_only=True)
class SaveDeletedRequest(MergeRequest):
    """Copy what QEMU holds of deleted files into an image that stays.

    Down into the image below, to which the guest then writes, where its own image is deleted; else up into that.
    """

    def _needs(self, forest: Forest) -> Needs:
        # Of what is deleted there is no file of which a map could be made.
        own = self._own(forest)
        return self._needed(forest, (path for path in forest.known_lineage(own.path) if path not in own.deleted), ())

    def _own(self, forest: Forest) -> Use:
        return find_disk(forest, self.guest, self.disk)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, engine, own = reading.forest, engine_of(reading, self), self._own(reading.forest)
        lineage = forest.known_lineage(own.path)
        last = max((lineage.index(path) for path in own.deleted if path in lineage), default=0)
        base = next(iter(lineage[last + 1 :]), None)
        down = own.path in own.deleted or not own.deleted
        kind = "active commit" if down else "pull"
        if isinstance(engine, BlockJobs) and reading.owner.jobs.get(engine.own.target) == kind:
            engine = replace(engine, adopt=True)  # begun by a process that has ended since
        builder = MergeBuilder(reading, engine)
        merged = tuple(reversed(lineage[: last + 1]))
        if down and base is not None:
            builder.commit(base, merged, remove=True)
            way = t(
                "live: a QEMU block job copies from the deleted files, which only QEMU still has open; the guest "
                "then writes to the base (pivot)"
            )
        else:
            builder.pull(own.path, base)
            way = t(
                "live: a QEMU block job copies from the deleted files, which only QEMU still has open; the guest "
                "keeps its image"
            )
        plan = builder.plan(
            t(
                "save the deleted images of {guest} in {image}",
                guest=self.guest,
                image=forest[base if down and base else own.path].name,
            ),
            way,
            resumed=next((one for one in reading.merges if (one.base, one.merged) == (base, merged)), None),
        )
        known = {concern for concern in held_concerns(forest, self.guest) if concern.name == "deleted-image"}
        concerns = [one for one in plan.concerns if one not in known and not _is_missing(one, own.deleted)]
        concerns = [replace(one, remedy=_copied(forest, own)) if one.level == "refuse" else one for one in concerns]
        steps = (step for step in plan.steps if not _is_of_gone(step, own.deleted))
        gone = () if down else own.deleted
        if down and base is not None and forest.status(own.path) != "missing":
            concerns.append(_in_its_place(own.path, forest[base].name))
        return replace(plan, steps=tuple(steps), concerns=sorted_concerns(concerns), after=plan.after.edited(drop=gone))


def _copied(forest: Forest, use: Use) -> Message:
    """Return what helps wherever no layer can take what QEMU holds: the guest must not stop before."""
    return t(
        "leave {guest} running, and copy the whole disk into a new image: {command}",
        guest=use.guest,
        command=copied_by(forest, use),
    )


def _in_its_place(path: str, base: str) -> Concern:
    """Return that another file has the name of the image that QEMU writes to, and would not read what it does."""
    return refuse(
        "shared-base",
        t(
            "the file that replaced {path} depends on {base}, and would be corrupted",
            path=path,
            base=base,
        ),
        t("rename that file, then pull {base} into it", base=base),
        images=(path,),
        waivable=True,
    )


def _is_of_gone(step: Step, deleted: Collection[str]) -> bool:
    return isinstance(step, MarkInvalid | RemoveFile) and step.path in deleted


def _is_missing(concern: Concern, deleted: Collection[str]) -> bool:
    return concern.name == "missing-base" and set(concern.images) <= set(deleted)


def held_requests(reading: Reading) -> Iterator[CorrectRequest | SaveDeletedRequest | FinishSnapshotRequest]:
    """Yield the requests that correct what QEMU holds, or held, otherwise than libvirt or the file system know."""
    forest, guest = reading.forest, reading.owner.domain.name
    if not any(use.guest == guest and use.named is not None for use in forest.uses):
        yield from (FinishSnapshotRequest(guest=guest, entry=entry) for entry in switched(reading))
    for use in forest.uses:
        if use.guest != guest:
            continue
        if use.named is not None and use.next is not None:
            yield CorrectRequest(guest=guest, disk=use.target)
        elif use.deleted and can_be_merged(forest, use):
            yield SaveDeletedRequest(guest=guest, disk=use.target)
