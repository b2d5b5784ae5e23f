"""The two directions in which a run of snapshots can be merged.

- down: the overlay is committed into the image below; what was based on the overlay is based on that then;
- up: what the overlay reads from that image is pulled into it; the image goes if nobody needs it any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmsnap_nb.plans.checks import bitmaps, layers
from vmsnap_nb.plans.checks.known import inner_names
from vmsnap_nb.plans.concern import Concern, refuse, remark
from vmsnap_nb.plans.delete import checks
from vmsnap_nb.plans.delete.edges import Run, Staying
from vmsnap_nb.plans.merge.plan import plan_commit, plan_pull
from vmsnap_nb.plans.merge.request import CommitRequest, PullRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import NOTHING, Message, joined, t

__all__ = ["Direction", "directions"]


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One direction: the merge, and what becomes of the records that stay (from image, to image) and of files.

    `down` says whether it is a commit.
    """

    what: Message
    down: bool
    plan: Plan
    concerns: tuple[Concern, ...]
    moved: tuple[tuple[str, str], ...]
    removed: tuple[str, ...] = ()

    @property
    def refused(self) -> Message:
        """Why it cannot be chosen, or empty."""
        return next((concern.what for concern in self.concerns if concern.level == "refuse"), NOTHING)


def directions(now: Reading, staying: Staying, run: Run) -> tuple[Direction, Direction]:
    """Return both directions, down first."""
    # Which records of the guest change, and how, is decided here; those of others and saved memory stay as they are.
    guest = now.owner.domain.name
    others = (record for record in now.forest.records if record.guest != guest or record.saved)
    bare = replace(now, forest=now.forest.edited(records=others))
    down, up = _down(bare, staying, run), _up(bare, staying, run)
    return _with_shared(now, down), _with_shared(now, up)


def _with_shared(now: Reading, way: Direction) -> Direction:
    return replace(way, concerns=(*checks.other_guests(now, way.plan.writes), *way.concerns))


def _down(now: Reading, staying: Staying, run: Run) -> Direction:
    forest = now.forest
    plan = _commit(now, run)
    states = (
        refuse(
            "shared-base",
            t(
                "{image} holds the state of snapshot {name}, which must be kept",
                image=forest[run.base].name,
                name=name,
            ),
            t("delete {name} first", name=name),
            images=(run.base,),
        )
        for name in staying.states(run.base)
    )
    return Direction(
        what=t(
            "commit {top} into {base} (disk {disk})",
            disk=run.target,
            top=forest[run.top].name,
            base=forest[run.base].name,
        ),
        down=True,
        plan=plan,
        concerns=(*states, *plan.concerns),
        moved=((run.top, run.base),),
    )


def _up(now: Reading, staying: Staying, run: Run) -> Direction:
    forest = now.forest
    lineage = forest.known_lineage(run.top)
    last = lineage.index(layers.named_in(forest, lineage, run.base))
    plan = _pull(now, run, forest.parent(run.base))
    concerns = list(plan.concerns)
    carried = bitmaps.merged_up(
        forest,
        lineage[: last + 1],
        forest[run.top].virtual_size,
        checkpoints=now.owner.domain.checkpoints,
        live=now.owner.running,
    ).sources
    removed: list[str] = []
    for path in lineage[1 : last + 1]:
        name, inside = forest[path].name, inner_names(forest, path)
        if stays := staying.why_stays(path, besides=(run.top, *removed)):
            concerns.append(remark("shared-base", stays, images=(path,)))
        elif inside:
            lost = t(
                "{image} has internal snapshots ({names}), to which {guest} could no longer revert",
                image=name,
                names=joined(inside),
                guest=now.owner.domain.name,
            )
            concerns.append(refuse("state-lost", lost, t("delete those snapshots first"), images=(path,)))
        else:
            concerns += bitmaps.removed(forest, path, carried)
            removed.append(path)
    return Direction(
        what=t(
            "pull {base} into {top} (disk {disk})",
            disk=run.target,
            base=forest[run.base].name,
            top=forest[run.top].name,
        ),
        down=False,
        plan=plan,
        concerns=tuple(concerns),
        moved=tuple((path, run.top) for path in removed),
        removed=tuple(removed),
    )


# -- by the verbs that merge -----------------------------------------------------------------------------


def _commit(now: Reading, run: Run) -> Plan:
    guest, disk = _whose(now, run)
    return plan_commit(now, CommitRequest(guest=guest, disk=disk, top=run.top, base=run.base, remove=True))


def _pull(now: Reading, run: Run, base: str | None) -> Plan:
    guest, disk = _whose(now, run)
    return plan_pull(now, PullRequest(guest=guest, disk=disk, into=run.top, base=base))


def _whose(now: Reading, run: Run) -> tuple[str, str | None]:
    """Return the guest and the disk in whose chain a run is; no guest where it is in none of its chains."""
    for use in now.forest.uses:
        if use.guest == now.owner.domain.name and run.top in now.forest.known_lineage(use.path):
            return use.guest, use.target
    return "", None
