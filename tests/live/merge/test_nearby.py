"""What is done nearby while a plan is looked at, or runs: only what the plan is about counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.content import content
from support.faulty import faulty
from support.images import create, handout_chain

import vmsnap_nb as vs
from vmsnap_nb.errors import PlanRefusedError, StalePlanError
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.plans.merge.steps import CommitLayers

pytestmark = pytest.mark.system

UNRELATED = ("RootBase", "Snap-1", "Snap-4", "other")
"""Images on which an overlay reads the same whatever a commit of Snap-3 into Snap-2 does."""


@pytest.fixture
def forest(folder: Path) -> vs.LiveForest:
    handout_chain(folder)
    create(folder / "other.qcow2")
    create(folder / "sibling.qcow2", folder / "Snap-1.qcow2")
    return vs.scan(folder)


def during(plan: LivePlan, act: Callable[[], object]) -> LivePlan:
    """Let something happen in the middle of a run."""

    def both(step: CommitLayers, perform: Action) -> Undo:
        act()
        return perform(step)

    return faulty(plan, CommitLayers, both)


@pytest.mark.parametrize("base", UNRELATED)
def test_an_unrelated_overlay_during_a_run_is_no_difference(forest: vs.LiveForest, folder: Path, base: str) -> None:
    was = content(folder / "Snap-4.qcow2")
    plan = during(forest.commit("Snap-3", "Snap-2"), lambda: create(folder / "new.qcow2", folder / f"{base}.qcow2"))
    report = plan.run(progress=False)
    assert (folder / "new.qcow2").exists()
    assert report.as_predicted, report.differences
    assert content(folder / "Snap-4.qcow2") == was


@pytest.mark.parametrize("base", UNRELATED)
def test_an_unrelated_overlay_makes_no_plan_stale(forest: vs.LiveForest, folder: Path, base: str) -> None:
    plan = forest.commit("Snap-3", "Snap-2")
    create(folder / "new.qcow2", folder / f"{base}.qcow2")
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences


@pytest.mark.parametrize("base", ["Snap-2", "Snap-3"])
def test_an_overlay_on_what_is_written_or_merged_counts(forest: vs.LiveForest, folder: Path, base: str) -> None:
    plan = forest.commit("Snap-3", "Snap-2")
    create(folder / "new.qcow2", folder / f"{base}.qcow2")
    with pytest.raises(StalePlanError, match=rf"new\.qcow2 is now based on .*{base}\.qcow2"):
        plan.run(progress=False)
    if base == "Snap-2":
        with pytest.raises(PlanRefusedError, match="shared-base"):
            forest.commit("Snap-3", "Snap-2").run(progress=False)


def test_an_overlay_on_what_is_written_during_a_run_is_told(forest: vs.LiveForest, folder: Path) -> None:
    plan = during(forest.commit("Snap-3", "Snap-2"), lambda: create(folder / "new.qcow2", folder / "Snap-2.qcow2"))
    report = plan.run(progress=False)
    assert not report.as_predicted
    assert any("new.qcow2 is now based on" in line for line in report.differences)


def test_what_a_layer_below_becomes_makes_a_plan_stale(forest: vs.LiveForest, folder: Path) -> None:
    plan = forest.commit("Snap-3", "Snap-2")
    (folder / "RootBase.qcow2").unlink()
    with pytest.raises(StalePlanError, match=r"RootBase\.qcow2 no longer exists"):
        plan.run(progress=False)
