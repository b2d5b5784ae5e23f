"""The panel of merges, driven from Python as a click would, on real images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.claim import Claim
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.journal import begun, write_entry
from vmsnap_nb.panels import MergePanel
from vmsnap_nb.panels.panel import Panel
from vmsnap_nb.plans.journal import MergeEntry

pytestmark = pytest.mark.system


def test_a_refused_commit_can_be_a_pull_instead(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.merge_onto(str(images["second"]), str(images["base"]))
    panel.flow.wait()
    (instead,) = (button for button in panel.flow._buttons.children if button.description == "Pull up instead")
    instead.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert not panel.flow.plan.refused
    assert panel.flow.plan.after.parent(str(images["second"])) == str(images["base"])


def test_what_was_cut_short_can_be_finished(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    entry = MergeEntry(base=str(images["first"]), top=str(images["second"]), merged=(str(images["second"]),))
    write_entry(begun(entry))  # as a process leaves it that was killed while it copied
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    assert f'title="the merge of {entry.top} into {entry.base}' in panel.begun.value
    assert f">The merge of {images['second'].name} into {images['first'].name} was cancelled or" in panel.begun.value
    assert (panel.unfinished.layout.display, panel.complete.layout.display) == ("", None)
    panel.merge_onto(str(images["second"]), str(images["base"]))
    panel.flow.wait()
    (finish,) = (button for button in panel.flow._buttons.children if button.description.startswith("Complete"))
    finish.click()
    panel.flow.wait()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert panel.flow.report is not None
    assert panel.flow.report.as_predicted
    assert not Path(entry.path).exists()
    assert panel.activity.entries[-1].code == "forest.unfinished()[0].run()"
    panel.refresh()
    assert (panel.begun.value, panel.unfinished.layout.display) == ("", "none")


def test_a_panel_says_by_itself_what_was_cut_short(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    assert panel.unfinished.layout.display == "none"
    write_entry(
        begun(MergeEntry(base=str(images["first"]), top=str(images["second"]), merged=(str(images["second"]),)))
    )
    panel.refresh()
    panel.unfinished.children[1].click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert not panel.flow.plan.refused
    assert panel.flow.plan.title == "commit Snap-2 into Snap-1"


@pytest.mark.parametrize("is_own", [True, False])
def test_what_runs_needs_nobody_to_complete_it(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel], is_own: bool
) -> None:
    merged = MergeEntry(base=str(images["first"]), top=str(images["second"]), merged=(str(images["second"]),))
    entry = begun(merged)
    assert entry.began is not None
    pid = entry.began.pid if is_own else entry.began.pid + 1
    write_entry(replace(entry, began=replace(entry.began, pid=pid)))
    claim = Claim("", "", [entry.base])
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    said = "" if is_own else f"The merge of {images['second'].name} into {images['first'].name} is running</span>"
    assert said in panel.begun.value
    assert panel.unfinished.layout.display == ("none" if is_own else "")
    assert panel.complete.layout.display == "none"
    claim.release()
    panel.refresh()
    assert "was cancelled or interrupted" in panel.begun.value
    assert panel.complete.layout.display is None


def test_a_block_map_is_drawn(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.map_button.click()
    assert isinstance(panel.last_error, InvalidRequestError)
    panel.chain.selected = str(images["second"])
    panel.map_button.click()
    assert eventually(lambda: "guest reads" in panel.map_view.value)


def test_a_chain_is_shortened(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.direction.value, panel.top.value, panel.keep.value = "shorten", str(images["second"]), 2
    assert panel.base.layout.display == "none"
    panel.plan_button.click()
    panel.flow.wait()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert len(vs.chain(images["second"])) == 2
    assert panel.activity.entries[-1].code.startswith("forest.shorten(image=")


def test_one_layer_is_taken_out_and_every_disk_compared(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.direction.value, panel.top.value, panel.verify.value = "remove", str(images["first"]), True
    assert panel.base.layout.display == panel.remove.layout.display == "none"
    assert panel.plan_button.description == "Remove image…"
    panel.plan_button.click()
    panel.flow.wait()
    assert panel.flow.confirm_button.description == "Remove image"  # what the title of the plan says
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert not images["first"].exists()
    assert vs.scan(images["base"].parent).parent(str(images["second"])) == str(images["base"])
    assert panel.activity.entries[-1].code == f"forest.remove(image={str(images['first'])!r}, verify=True).run()"


def test_what_a_merge_left_invalid_is_cleaned_up(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    assert panel.cleanup_button.disabled
    panel.merge_onto(str(images["second"]), str(images["first"]))
    panel.flow.wait()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert images["second"].exists()
    assert not panel.cleanup_button.disabled
    panel.cleanup_button.click()
    panel.flow.wait()
    assert str(images["second"]) in panel.flow.danger.value
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert not images["second"].exists()
    assert panel.cleanup_button.disabled
    assert panel.activity.entries[-1].code == "forest.cleanup().run()"


def test_dragging_upwards_is_a_pull(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.merge_onto(str(images["first"]), str(images["second"]))
    panel.flow.wait()
    assert panel.direction.value == "pull"
    assert panel.flow.plan is not None
    assert panel.flow.plan.after.parent(str(images["second"])) == str(images["base"])


def test_a_drag_is_judged_by_the_plans_of_its_targets(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    told = {path: (does, why) for path, does, why in panel.chain.judge(str(images["second"]))}
    assert told[str(images["first"])][0].startswith("commit ")
    assert told[str(images["first"])][1] == ""
    assert "Other" in told[str(images["base"])][1]
    assert told[str(images["other"])] == ("", "neither image is based on the other")
    up = {path: does for path, does, _ in panel.chain.judge(str(images["first"]))}
    assert up[str(images["second"])].startswith("pull ")
    assert panel.flow.plan is None
    assert panel.direction.value == "commit"


def test_the_same_drag_counts_again_after_its_plan_was_discarded(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    for _ in range(2):
        panel.chain.proposed = [str(images["second"]), str(images["first"])]
        panel.flow.wait()
        assert panel.flow.plan is not None
        panel.flow.discard_button.click()
        assert panel.flow.plan is None


def test_the_chain_of_the_guest_is_above_those_of_others(guest: Guest, opened: list[Panel]) -> None:
    panel = MergePanel(guest, every=0)
    opened.append(panel)
    (disk,) = guest.domain().disks
    assert panel.chain.first == (disk.source,)
