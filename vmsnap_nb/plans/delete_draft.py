"""Putting the deletion of snapshots together, each part on the forest that the ones before it leave behind.

An external snapshot is an edge: below it the image that holds the state of that moment, above it the overlay to which
everything was written afterwards. To delete it is to make one image of the two, in one of these ways:

- down: the overlay is committed into the image below; what stood on the overlay stands on that;
- up: what the overlay reads from that image is pulled into it; the image goes if nobody needs it any more;
- not at all, where nobody reads the overlay: it is removed, and the image stays as it is.

Snapshots that follow each other are one run, and merged at once. The order of the steps: internal snapshots, copying,
the records of the snapshots that stay, files, the records of the snapshots that go, and in the end the merged files
with the notes of the merges. So a process that is killed in between leaves a record behind, or a note, and the same
deletion, or `unfinished`, does what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import Snapshot, SnapshotRecord
from vmsnap_nb.plans.delete_steps import DeleteExternal, DeleteInternal, DropInside
from vmsnap_nb.plans.merge import plan_commit, plan_pull
from vmsnap_nb.plans.merge_concerns import about_notes, sound
from vmsnap_nb.plans.merge_cut_short import is_torn
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.merge_live import LiveRequest, plan_guest_commit, plan_guest_pull
from vmsnap_nb.plans.merge_live_steps import LiveCommit, SetSource
from vmsnap_nb.plans.merge_steps import Finish, MarkInvalid, RemoveFile, Unprotect
from vmsnap_nb.plans.plan import Alternative, Concern, Move, Plan
from vmsnap_nb.plans.reconcile import moved_record, without_record
from vmsnap_nb.plans.snapshot import sorted_concerns
from vmsnap_nb.plans.snapshot_concerns import has_managed_save
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts
from vmsnap_nb.plans.snapshot_steps import ForgetRecord, MoveRecord
from vmsnap_nb.plans.steps import Protect, Step

__all__ = ["DeleteDraft", "DeleteFacts"]

_GONE = {"missing", "not-a-file"}
_SAFE = (11, 0, 0)
"""Since which version libvirt itself deletes an external snapshot without a known fault: before, it could remove an
image that holds internal ones."""


@dataclass(frozen=True)
class DeleteFacts:
    """What must be known beyond the forest.

    Attributes
    ----------
    snapshot : SnapshotFacts
        Of the guest.
    merge : MergeFacts
        Of the images.
    committed : frozenset of str
        Those of `maybe_committed` that have just the content of the image below them.
    """

    snapshot: SnapshotFacts = field(default_factory=SnapshotFacts)
    merge: MergeFacts = field(default_factory=MergeFacts)
    committed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Run:
    """Edges that follow each other: from the image that stays or goes at the bottom to the overlay at the top."""

    target: str
    base: str
    top: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Way:
    """One direction of a run."""

    what: str
    plan: Plan
    concerns: tuple[Concern, ...]
    moved: tuple[tuple[str, str], ...]
    removed: tuple[str, ...] = ()

    @property
    def down(self) -> bool:
        return self.what.startswith("down")

    @property
    def refused(self) -> str:
        return next((c.what for c in self.concerns if c.level == "refuse"), "")


class DeleteDraft:
    """A deletion that is being put together.

    Parameters
    ----------
    forest : Forest
        What is there, with the guest's records.
    domain : Domain
        The guest.
    rows : sequence of Snapshot
        The snapshots that go, parents first.
    facts : DeleteFacts
        What is known beyond that.
    prefer : collection of str
        Directions that were chosen before (`Alternative.what`): they are kept as long as they are not refused, since
        the bytes of a guest that runs change all the time.
    """

    def __init__(
        self, forest: Forest, domain: Domain, rows: Sequence[Snapshot], facts: DeleteFacts, prefer: Collection[str] = ()
    ) -> None:
        self.before = self.forest = forest
        self.domain = domain
        self.rows = tuple(rows)
        self.concerns: list[Concern] = []
        self.ways: list[str] = []
        self._facts, self._prefer = facts, prefer
        self._maps = dict(facts.merge.maps)
        names = {row.name for row in rows if row.status != "untracked"}
        self._left = {record.name: record for record in forest.records if record.name not in names}
        self._alternatives: list[Alternative] = []
        self._moves: list[Move] = []
        self._room = 0
        self._touched: dict[str, None] = {}
        self._deleted: set[str] = set()
        self._inside: list[Step] = []
        self._copying: list[Step] = []
        self._writing: list[Step] = []
        self._removing: list[Step] = []
        self._ending: list[Step] = []

    @property
    def _who(self) -> tuple[str, str, str]:
        return self.domain.name, self.domain.uuid, self._facts.snapshot.uri

    # -- internal ----------------------------------------------------------------------------------------------

    def internal(self) -> None:
        """Remove those that lie inside images: libvirt from images that its guest writes to, else qemu-img."""
        for row in reversed(self.rows):
            paths = tuple(dict.fromkeys(self._images_with(row.record)))
            if not paths:
                continue
            self._touched.update(dict.fromkeys(paths))
            self.concerns += self._about_shared(paths)
            facts = self._facts.snapshot
            # The firmware's variables are in an image of their own, which libvirt knows to clear.
            written = {u.path for u in self.domain.uses if (u.running or facts.holds_nvram) and not u.readonly}
            if row.status != "untracked" and written.issuperset(paths):
                self.concerns += self._about_jobs(row.name)
                self._inside.append(DeleteInternal(*self._who, row.name, paths))
                self._deleted.add(row.name)
                running = any(use.running for use in self.domain.uses)
                whose = "QEMU remove it from the images while the guest runs" if running else "qemu-img remove it"
                self.ways.append(f"{row.name}: libvirt has {whose}")
            else:
                for path in paths:
                    self.concerns += self._about_opened(path, row.name)
                    step = DropInside(path, row.name)
                    self._inside += [step] if self.forest[path].writable else [Unprotect(path), step, Protect(path)]
                self.ways.append(f"{row.name}: qemu-img removes it from the image")
            for name in (alias for path in paths for alias in self.forest.same_file(path)):
                image = self.forest[name]
                inside = tuple(one for one in image.snapshots if one.name != row.name)
                self.forest = self.forest.edited(put=[replace(image, snapshots=inside)])

    def _images_with(self, record: SnapshotRecord) -> Iterator[str]:
        for disk in record.disks:
            image = self.forest.images.get(disk.source or "")
            names = () if image is None else (inside.name for inside in image.snapshots)
            if disk.held == "internal" and image is not None and record.name in names:
                yield image.path

    def _about_jobs(self, name: str) -> Iterator[Concern]:
        for target, job in self._facts.snapshot.jobs.items():
            yield Concern(
                "active-job",
                "refuse",
                f"{name} cannot be deleted now: {self.domain.name} has an active job"
                + (f" on its disk {target} ({job})" if target else f" ({job})"),
                "wait for its end; or end it: "
                + (
                    f"virsh blockjob {self.domain.name} {target} --abort"
                    if target
                    else f"virsh domjobabort {self.domain.name}"
                ),
                holders=(self.domain.name,),
            )

    def _about_opened(self, path: str, name: str) -> Iterator[Concern]:
        guests = tuple(dict.fromkeys(use.guest for use in self.forest.users(path) if use.running))
        if guests or self.forest[path].held:
            who = f"{', '.join(guests)} is running and" if guests else "a process"
            yield Concern(
                "in-use",
                "refuse",
                f"{self.forest[path].name}: {who} has it open, so {name} cannot be removed from it",
                f"shut {guests[0]} down first" if guests else "end that process first",
                images=(path,),
                holders=guests,
            )

    # -- external ----------------------------------------------------------------------------------------------

    def external(self) -> None:
        """Make one image of two, for each edge; where nobody reads the upper one, only that goes."""
        edges = [
            Run(disk.target, disk.source, disk.file, (row.name,))
            for row in self.rows
            for disk in row.record.disks
            if disk.held == "external" and disk.source and disk.file
        ]
        tops = {edge.top for edge in edges}
        torn = tuple(note for note in self._facts.merge.notes if is_torn(self.forest, note))
        self.concerns += about_notes(replace(self._facts.merge, notes=torn), tops)
        alive = [found for edge in reversed(edges) if (found := self._to_merge(edge)) is not None]
        runs = self._runs(alive)
        merged: list[tuple[Run, Plan]] = []
        while runs:
            run = runs.pop(0)
            way = self._merge(run)
            merged.append((run, way.plan))
            # What stood on an overlay that was committed stands on the image below now.
            runs = [replace(one, base=run.base) if way.down and one.base == run.top else one for one in runs]
        self._leave_to_libvirt(merged)
        for row in self.rows:
            memory = row.record.memory_file
            shared = any(record.memory_file == memory for record in self._left.values())
            if memory and memory not in self._facts.snapshot.gone and not shared:
                self._removing.append(RemoveFile(memory))

    def _to_merge(self, edge: Run) -> Run | None:
        """Do what there is to do without a merge; give the edge, as the chain names it, if that is not all."""
        forest, (name,) = self.forest, edge.names
        there = edge.top in forest and edge.top not in self._facts.snapshot.gone
        if not there or forest[edge.top].status in _GONE:
            if edge.top in forest and (standing := self._overlays(edge.top)):
                self.concerns.append(_broken(f"{edge.top} is gone, and {', '.join(standing)} stands on it", edge.top))
            else:
                self.ways.append(
                    f"{name}: its overlay {edge.top} is gone, so there is nothing to merge of {edge.target}"
                )
            return None
        if not self._needed(edge.top):
            self._discard(edge.top, name)
            return None
        if not sound(forest, edge.top):
            return None
        lineage = forest.lineage(edge.top)
        below = next((path for path in lineage[1:] if path in forest.same_file(edge.base)), None)
        if below is None:
            self._after_a_pull(edge)
            return None
        if forest[below].status in _GONE:
            self.concerns.append(
                replace(_broken(f"{below}, which holds the state of {name}, is gone", below), level="warn", remedy="")
            )
            return None
        if edge.top in self._facts.committed:
            self.ways.append(
                f"{name}: {forest[edge.top].name} is committed into {forest[below].name} already, and nobody reads it, "
                "so it is removed"
            )
            self._move_records(edge.top, below)
            self._remove(edge.top)
            return None
        return replace(edge, base=below)

    def _discard(self, path: str, name: str) -> None:
        """Remove an overlay that nobody reads: what was written after the snapshot was left behind by a revert."""
        image = self.forest[path]
        self._touched[path] = None
        if not image.writable:
            self.concerns.append(Concern("read-only", "note", f"{path} is protected, so it stays", images=(path,)))
            return
        if image.status != "invalid":
            self.ways.append(f"{name}: nobody reads {image.name}, so it is removed and nothing is merged")
            inside = "".join(f", and the internal snapshot {one.name}" for one in image.snapshots)
            self.concerns.append(
                Concern(
                    "state-lost",
                    "warn",
                    f"{path} is removed: what was written to it after {name} was taken{inside} is in no other image",
                    "revert to what stands on it first, or copy it out, if you may want it",
                    images=(path,),
                )
            )
        self._removing.append(RemoveFile(path))
        self.forest = self.forest.edited(drop=self.forest.same_file(path))

    def _after_a_pull(self, edge: Run) -> None:
        """Remove the image below, where a pull was cut short when only that was left to do."""
        if edge.base not in self.forest or self.forest[edge.base].status in _GONE:
            return
        if self.forest.parent(edge.base) == self.forest.parent(edge.top) and not self._stays(edge.base):
            self.concerns.append(
                Concern(
                    "state-lost",
                    "warn",
                    f"{edge.base} is removed: {self.forest[edge.top].name} does not stand on it any more, and nobody "
                    "else needs it",
                    images=(edge.base,),
                )
            )
            self._move_records(edge.base, edge.top)
            self._remove(edge.base)

    def _runs(self, edges: Iterable[Run]) -> list[Run]:
        runs: list[Run] = []
        for edge in sorted(dict.fromkeys(edges), key=lambda one: self.forest.depth(one.top)):
            below = next((run for run in runs if run.top == edge.base and self._is_inner(run.top)), None)
            if below is None:
                runs.append(edge)
            elif edge.names[0] not in below.names:
                runs[runs.index(below)] = Run(edge.target, below.base, edge.top, (*below.names, *edge.names))
        return runs

    def _is_inner(self, path: str) -> bool:
        """Tell whether nobody needs an image but the one overlay that stands on it."""
        return len(self._overlays(path)) == 1 and not self._states(path) and not self._direct_users(path)

    def _merge(self, run: Run) -> _Way:
        """Take the cheaper direction."""
        ways = [
            replace(way, concerns=(*self._about_shared(way.plan.writes), *way.concerns))
            for way in (self._down(run), self._up(run))
        ]
        ways.sort(key=lambda way: (bool(way.refused), way.what not in self._prefer, _cost(way.plan.bytes_to_copy)))
        best = ways[0]
        self._alternatives += [
            Alternative(way.what, way.plan.bytes_to_copy, way is best, way.refused)
            for way in sorted(ways, key=lambda way: _cost(way.plan.bytes_to_copy))
        ]
        self.ways.append(f"{', '.join(run.names)}: {best.what}, {best.plan.way}")
        self.concerns += best.concerns
        self._moves += best.plan.moves
        self._room += best.plan.space_needed
        self._touched.update(dict.fromkeys(best.plan.subjects))
        for step in best.plan.steps:
            (self._ending if isinstance(step, RemoveFile | Finish) else self._copying).append(step)
            for path in step.writes:
                self._maps.pop(path, None)
            if isinstance(step, SetSource) and has_managed_save(self.before, self.domain.name):
                self.concerns.append(_managed_save(self.domain, step))
        self.forest = best.plan.after.edited(records=self.forest.records)
        for path, now in best.moved:
            self._move_records(path, now)
        for path in best.removed:
            self._remove(path)
        return best

    def _leave_to_libvirt(self, merged: Sequence[tuple[Run, Plan]]) -> None:
        """Leave it to libvirt where that does just the same: one snapshot of a guest that runs, each disk downwards."""
        records = self.before.records
        record = self.rows[0].record
        above = {one.name for one in records if one.parent == record.name}
        images = [self.before[path] for run, _ in merged for path in (run.base, run.top)]
        same = (
            len(self.rows) == 1
            and len(merged) == len(record.held_disks) == len(record.files)
            and self.domain.persistent
            and len(above) <= 1
            and above.issuperset(step.name for step in self._writing if isinstance(step, MoveRecord))
            and not any(one.name == record.parent and one.kind.startswith("internal") for one in records)
            and not any(image.snapshots for image in images)
            and all(isinstance(step, LiveCommit | MarkInvalid) for step in self._copying)
            and all(step.note.merged == (step.note.top,) for step in self._copying if isinstance(step, LiveCommit))
        )
        if not merged or not same:
            return
        if self._facts.snapshot.libvirt_version < _SAFE:
            version = ".".join(map(str, self._facts.snapshot.libvirt_version))
            what = (
                f"libvirt {version} is not asked to delete it, since it could remove an image that holds internal "
                "snapshots (11.0 does not): this plan takes the steps by hand"
            )
            self.concerns.append(Concern("not-supported", "note", what, holders=(self.domain.name,)))
            return
        runs = [run for run, _ in merged]
        sizes = [plan.bytes_to_copy for _, plan in merged]
        self._copying = [
            DeleteExternal(
                *self._who,
                record.name,
                targets=tuple(run.target for run in runs),
                bases=tuple(run.base for run in runs),
                tops=tuple(run.top for run in runs),
                notes=tuple(
                    replace(step.note, by_libvirt=True) for step in self._copying if isinstance(step, LiveCommit)
                ),
                bytes=None if None in sizes else sum(size for size in sizes if size is not None),
            )
        ]
        self._writing, self._ending = [], []
        self._deleted.add(record.name)
        down = ", ".join(f"{self.before[run.top].name} into {self.before[run.base].name}" for run in runs)
        way = f"down, by libvirt's own deletion: it commits {down}, the guest going on; it cannot be cancelled"
        self.ways = [f"{record.name}: {way}"]

    def _about_shared(self, written: Iterable[str]) -> Iterator[Concern]:
        """Look for other guests that read an image which would be written, though its content stays the same."""
        for path in dict.fromkeys(written):
            uses = self.forest.users(path) if path in self.forest else ()
            guests = tuple(dict.fromkeys(use.guest for use in uses if use.guest != self.domain.name))
            if guests:
                yield Concern(
                    "shared-base",
                    "refuse",
                    f"{', '.join(guests)} stands on {self.forest[path].name}, which would be written",
                    f"give {guests[0]} a disk of its own first: pull everything into it; or waive this, since it reads "
                    "the same afterwards",
                    images=(path,),
                    holders=guests,
                    waivable=True,
                )

    def _down(self, run: Run) -> _Way:
        forest = self.forest.edited(records=())
        request, facts = self._request(run, remove=True), replace(self._facts.merge, maps=self._maps)
        if request is not None:
            plan = plan_guest_commit(forest, request, base=run.base, top=run.top, facts=facts)
        else:
            plan = plan_commit(forest, run.top, run.base, remove=True, facts=facts)
        what = f"down, {run.target}: commit {forest[run.top].name} into {forest[run.base].name}"
        concerns = [
            Concern(
                "shared-base",
                "refuse",
                f"{forest[run.base].name} holds the state of the snapshot {name}, which stays",
                f"delete {name} first",
                images=(run.base,),
            )
            for name in self._states(run.base)
        ]
        return _Way(what, plan, (*concerns, *plan.concerns), ((run.top, run.base),))

    def _up(self, run: Run) -> _Way:
        forest = self.forest.edited(records=())
        lineage = forest.lineage(run.top)
        layers = lineage[1 : lineage.index(run.base) + 1]
        below = forest.parent(run.base)
        request, facts = self._request(run), replace(self._facts.merge, maps=self._maps)
        if request is not None:
            plan = plan_guest_pull(forest, request, base=below, into=run.top, facts=facts)
        else:
            plan = plan_pull(forest, run.top, below, facts=facts)
        what = f"up, {run.target}: pull {forest[run.base].name} into {forest[run.top].name}"
        concerns = list(plan.concerns)
        removed: list[str] = []
        for path in layers:
            stays = self._stays(path, besides=(run.top, *removed))
            if stays:
                concerns.append(
                    Concern("shared-base", "note", f"{forest[path].name} stays: {stays} still needs it", images=(path,))
                )
            elif forest[path].snapshots:
                names = ", ".join(inside.name for inside in forest[path].snapshots)
                concerns.append(
                    Concern(
                        "state-lost",
                        "refuse",
                        f"{forest[path].name} has internal snapshots ({names}), to which {self.domain.name} could not "
                        "go back any more",
                        "delete them first",
                        images=(path,),
                    )
                )
            else:
                removed.append(path)
        return _Way(what, plan, tuple(concerns), tuple((path, run.top) for path in removed), tuple(removed))

    def _request(self, run: Run, *, remove: bool = False) -> LiveRequest | None:
        """Give what is wanted of the chain of the guest's disk; None where the run is in no chain of the guest."""
        now = {use.target: use.path for use in self.forest.uses if use.guest == self.domain.name}
        disks = tuple(replace(disk, source=now.get(disk.target, disk.source)) for disk in self.domain.disks)
        for disk in disks:
            if disk.source in self.forest and run.top in self.forest.lineage(disk.source or ""):
                return self._request_of(replace(self.domain, disks=disks), disk, remove=remove)
        return None

    def _request_of(self, domain: Domain, disk: Disk, *, remove: bool) -> LiveRequest:
        return LiveRequest(domain, disk, self._facts.snapshot.uri, self._facts.snapshot.jobs, remove=remove)

    # -- who needs what ----------------------------------------------------------------------------------------

    def _overlays(self, path: str) -> tuple[str, ...]:
        return tuple(child for child in self.forest.children(path) if sound(self.forest, child))

    def _direct_users(self, path: str) -> tuple[str, ...]:
        names = self.forest.same_file(path)
        return tuple(dict.fromkeys(use.guest for use in self.forest.uses if use.path in names))

    def _states(self, path: str) -> tuple[str, ...]:
        """Give the snapshots that stay and whose state an image is: it must not change, or go."""
        names = self.forest.same_file(path)
        return tuple(
            record.name
            for record in self._left.values()
            if any(disk.held == "external" and disk.source in names for disk in record.disks)
        )

    def _inside_of(self, path: str) -> tuple[str, ...]:
        names = self.forest.same_file(path)
        return tuple(
            record.name
            for record in self._left.values()
            if any(disk.held == "internal" and disk.source in names for disk in record.disks)
        )

    def _needed(self, path: str) -> bool:
        names = self.forest.same_file(path)
        named = any(disk.file in names for record in self._left.values() for disk in record.disks)
        users, inside = self.forest.users(path), self._inside_of(path)
        return bool(users or named or self._overlays(path) or self._states(path) or inside)

    def _stays(self, path: str, besides: Sequence[str] = ()) -> str:
        """Say who needs a layer once it was pulled into what stands on it; empty if nobody does.

        `besides` do not count as overlays: they read it through the image into which it was pulled.
        """
        if not self.forest[path].writable:
            return "who protected it"
        others = [self.forest[child].name for child in self._overlays(path) if child not in besides]
        states = [f"the snapshot {name}" for name in self._states(path)]
        return ", ".join([*others, *self._direct_users(path), *states][:3])

    def _remove(self, path: str) -> None:
        self._touched[path] = None
        self._removing.append(RemoveFile(path))
        self.forest = self.forest.edited(drop=self.forest.same_file(path))

    def _move_records(self, path: str, now: str) -> None:
        names = self.before.same_file(path)
        for record in list(self._left.values()):
            for name in names:
                if any(disk.held == "external" and name in (disk.source, disk.file) for disk in record.disks):
                    self._left[record.name] = moved_record(record, name, now)
                    self._writing.append(MoveRecord(*self._who, record.name, name, now, record.current))

    # -- the plan ----------------------------------------------------------------------------------------------

    def plan(self, title: str, way: str = "") -> Plan:
        """Give the plan.

        Parameters
        ----------
        title : str
            As in `Plan`.
        way : str
            How it is done, where that is not about files.
        """
        records = tuple(self._left.get(record.name, record) for record in self.before.records)
        forgetting: list[Step] = []
        for row in reversed(self.rows):
            if row.status == "untracked":
                continue
            if row.name not in self._deleted:
                above = tuple(one for one in records if one.parent == row.name)
                forgetting.append(ForgetRecord(*self._who, row.name, row.record.parent, above))
            records = without_record(records, self.domain.name, row.name)
        after = self.forest.edited(records=records)
        self.concerns += self._about_the_others(after)
        steps = (*self._inside, *self._copying, *self._writing, *self._removing, *forgetting, *self._ending)
        return Plan(
            title=title,
            before=self.before,
            steps=steps,
            after=after,
            moves=tuple(self._moves),
            concerns=sorted_concerns(self.concerns),
            way="; ".join(dict.fromkeys(self.ways)) or way or "only libvirt's records change: no file is touched",
            space_needed=self._room,
            subjects=tuple(self._touched) or tuple(use.path for use in self.domain.uses if use.path in self.before),
            alternatives=tuple(self._alternatives),
        )

    def _about_the_others(self, after: Forest) -> Iterator[Concern]:
        """Look once more at the snapshots that stay: none may be lost with those that go."""
        removed = [step.path for step in (*self._removing, *self._ending) if isinstance(step, RemoveFile)]
        was = {row.name for row in list_snapshots(self.domain, self.before) if row.status == "ok"}
        for row in list_snapshots(self.domain, after, gone=removed):
            if row.status in ("stale", "missing-file") and row.name in was:
                yield Concern(
                    "shared-base",
                    "refuse",
                    f"the snapshot {row.name}, which stays, would be lost: {row.problem}",
                    f"delete {row.name} first",
                    images=row.record.files,
                    holders=(self.domain.name,),
                )


def _broken(what: str, path: str) -> Concern:
    return Concern(
        "missing-base",
        "refuse",
        what,
        "put it back; or metadata_only=True, which only forgets the record",
        images=(path,),
    )


def _managed_save(domain: Domain, step: SetSource) -> Concern:
    return Concern(
        "managed-save",
        "refuse",
        f"libvirt keeps the memory of {domain.name}, which goes on with {step.before} as its disk {step.target}",
        f"start it, or give its memory up: virsh managedsave-remove {domain.name}",
        images=(step.before,),
        holders=(domain.name,),
    )


def _cost(size: int | None) -> float:
    return float("inf") if size is None else size
