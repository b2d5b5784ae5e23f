"""Putting the deletion of snapshots together, each part on what the ones before it leave behind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import Snapshot
from vmsnap_nb.plans.checks.needed import needed
from vmsnap_nb.plans.checks.notes import pulling, strangers
from vmsnap_nb.plans.checks.open_images import held_concerns
from vmsnap_nb.plans.concern import Concern, sorted_concerns
from vmsnap_nb.plans.delete import checks
from vmsnap_nb.plans.delete.directions import Direction, directions
from vmsnap_nb.plans.delete.edges import Run, Staying
from vmsnap_nb.plans.merge.builder import without_lone_raw
from vmsnap_nb.plans.merge.steps import Finish, RemoveFile
from vmsnap_nb.plans.plan import Alternative, Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.snapshot.backup_checkpoints import refused_while_off
from vmsnap_nb.plans.snapshot.records import forgotten, moved_record
from vmsnap_nb.plans.snapshot.steps import MoveRecord
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import Message, joined, sentences, t

__all__ = ["Deletion", "Parts"]


@dataclass
class Parts:
    """The steps, in the order in which the parts come; between `removing` and `ending` records are forgotten."""

    inside: list[Step] = field(default_factory=list)
    copying: list[Step] = field(default_factory=list)
    writing: list[Step] = field(default_factory=list)
    removing: list[Step] = field(default_factory=list)
    ending: list[Step] = field(default_factory=list)


class Deletion:
    """A deletion that is being put together.

    `rows` are the snapshots that go, parents first. `now` is what was read, with the images as the parts so far leave
    them; what they have written to has no map any more.
    """

    def __init__(self, reading: Reading, rows: Sequence[Snapshot], prefer: Collection[str] = ()) -> None:
        self.before = self.now = reading
        self.rows = tuple(rows)
        self.parts = Parts()
        self.concerns: list[Concern] = [*held_concerns(reading.forest, reading.owner.domain.name)]
        self.ways: list[Message] = []
        self.merged: list[tuple[Run, Direction]] = []
        self._prefer = prefer
        guest = reading.owner.domain.name
        going = {(guest, row.name) for row in rows if row.status != "untracked"}
        self._records = {
            key: record for record in reading.forest.records if (key := (record.guest, record.name)) not in going
        }
        self.gone = {*reading.gone, *reading.forest.missing}
        self._alternatives: list[Alternative] = []
        self._touched: dict[str, None] = {}
        self._forgotten: set[str] = set()
        self._inside: dict[str, list[str]] = {}

    @property
    def forest(self) -> Forest:
        """The images as they are left behind."""
        return self.now.forest

    @property
    def staying(self) -> Staying:
        """The same, with the records that stay."""
        return Staying(self.forest, tuple(self._records.values()), self.before.owner.domain.name)

    # -- parts -------------------------------------------------------------------------------------------------

    def touch(self, paths: Iterable[str], forest: Forest | None = None) -> None:
        """Write down that images change, and how the forest is then."""
        self._touched.update(dict.fromkeys(paths))
        if forest is not None:
            self.now = replace(self.now, forest=forest)

    def forgets(self, name: str) -> None:
        """Write down that libvirt forgets a record by itself."""
        self._forgotten.add(name)

    def deletes_inside(self, paths: Iterable[str], name: str) -> None:
        """Write down that the internal snapshots of that name go."""
        for path in paths:
            self._inside.setdefault(path, []).append(name)

    def remove(self, path: str) -> None:
        """Remove an image."""
        self.parts.removing.append(RemoveFile(path=path, identity=self.forest[path].identity))
        self.gone.update(self.forest.same_file(path))
        self.touch([path], self.forest.edited(drop=self.forest.same_file(path)))

    def move_records(self, path: str, now: str) -> None:
        """Let the records that stay name another image."""
        guest = self.now.owner.ref
        for key, record in [(key, record) for key, record in self._records.items() if record.guest == guest.name]:
            for name in self.before.forest.same_file(path):
                if any(disk.held == "external" and name in (disk.source, disk.file) for disk in record.disks):
                    self._records[key] = moved_record(record, name, now)
                    step = MoveRecord(
                        guest=guest,
                        name=record.name,
                        path=name,
                        now=now,
                        format=self.before.forest[now].format or "raw",
                        current=record.current,
                        devices=self.before.forest.known_devices(name, now),
                    )
                    self.parts.writing.append(step)

    def merge(self, run: Run) -> Direction:
        """Merge a run in the cheaper direction."""
        ways = sorted(
            directions(self.now, self.staying, run),
            key=lambda way: (bool(way.refused), way.what.in_language("en") not in self._prefer, _cost(way.plan)),
        )
        best = ways[0]
        self._alternatives += [
            Alternative(way.what, way.plan.bytes_to_copy, way is best, way.refused)
            for way in sorted(ways, key=lambda way: _cost(way.plan))
        ]
        self.merged.append((run, best))
        self.ways.append(t("{names}: {what}, {way}", names=joined(run.names), what=best.what, way=best.plan.way))
        self.concerns += best.concerns
        for step in best.plan.steps:
            (self.parts.ending if isinstance(step, RemoveFile | Finish) else self.parts.copying).append(step)
        written = {path for step in best.plan.steps for path in step.writes}
        maps = {path: held for path, held in self.now.maps.items() if path not in written}
        self.now = replace(self.now, maps=maps)
        self.touch(best.plan.subjects, best.plan.after.edited(records=self.forest.records))
        for path, now in best.moved:
            self.move_records(path, now)
        for path in best.removed:
            self.remove(path)
        return best

    # -- the plan ----------------------------------------------------------------------------------------------

    def plan(self, title: Message) -> Plan:
        """Return the plan."""
        before, parts, domain = self.before.forest, self.parts, self.before.owner.domain
        forgetting, after = self._forget()
        after = without_lone_raw(before, after)
        self.concerns += checks.lost_snapshots(self.before, after, (*parts.removing, *parts.ending))
        removed = [path for step in (*parts.removing, *parts.ending) for path in step.unlinks]
        written = [path for step in parts.inside for path in step.writes]
        self.concerns += needed(before, written=written, lost=removed, own=domain.name)
        held = [disk for row in self.rows for disk in row.record.held_disks]
        named = [path for disk in held for path in (disk.source, disk.file) if path]
        self.concerns += pulling(self.before, (*self._touched, *removed, *named), lower=True)
        self.concerns += checks.left_behind(after, (row.record for row in self.rows))
        plans = [direction.plan for _, direction in self.merged]
        way = sentences(dict.fromkeys(self.ways))
        if not way and removed:
            way = t("only libvirt's records change, and saved memory is removed. No image is modified")
        self.concerns += refused_while_off(self.before.owner, (*parts.writing, *forgetting))
        return Plan(
            title=title,
            before=before,
            steps=(*parts.inside, *parts.copying, *parts.writing, *parts.removing, *forgetting, *parts.ending),
            after=after,
            moves=tuple(move for plan in plans for move in plan.moves),
            concerns=sorted_concerns((*self.concerns, *strangers(self.before))),
            way=way or t("only libvirt's records change. No file is modified"),
            space_needed=sum(plan.space_needed for plan in plans),
            subjects=tuple(self._touched) or tuple(use.path for use in domain.uses if use.path in before.images),
            alternatives=tuple(self._alternatives),
            growth=self._growth(plans),
        )

    def _growth(self, merges: Iterable[Plan]) -> dict[str, int | None]:
        """Return how much more or less the files take that stay, as far as that is known."""
        found: dict[str, int | None] = {}
        for path, names in self._inside.items():
            space, image = self.before.space.get(path), self.before.forest.images.get(path)
            ids = [] if image is None else [inside.id for inside in image.snapshots if inside.name in names]
            found[path] = None if space is None else -space.exclusive(*ids)
        for merge in merges:
            for path, size in merge.growth.items():
                before = found.get(path, 0)
                found[path] = None if before is None or size is None else before + size
        return found

    def _forget(self) -> tuple[list[Step], Forest]:
        """Return the steps that forget the records of the snapshots that go, and what is left then."""
        owner = self.before.owner
        records = tuple(self._records.get((record.guest, record.name), record) for record in self.before.forest.records)
        steps: list[Step] = []
        for row in reversed(self.rows):
            if row.status == "untracked":
                continue
            step, records = forgotten(owner.ref, records, row.name)
            if row.name not in self._forgotten:
                steps.append(step)
        return steps, self.forest.edited(records=records)


def _cost(plan: Plan) -> float:
    return float("inf") if plan.bytes_to_copy is None else plan.bytes_to_copy
