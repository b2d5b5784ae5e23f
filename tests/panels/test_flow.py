"""From a plan to its report: what must be confirmed, waived or made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.images import filled

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError, NotFoundError, PlanRefusedError, StalePlanError
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.panels import MergePanel, OverlayPanel
from vmsnap_nb.panels.panel import Panel

pytestmark = pytest.mark.system


def test_a_merge_runs_only_after_its_losses_were_read(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.chain.proposed = [str(images["second"]), str(images["first"])]  # one dragged onto the other
    panel.flow.wait()
    assert panel.flow.confirm_button.disabled
    assert panel.flow.confirm_button.tooltip == "tick the box first"
    assert str(images["first"]) in panel.flow.danger.value
    assert str(images["second"]) in panel.flow.lost.value
    assert 'class="box ' in panel.chain.svg
    assert "qemu-img commit" in panel.flow.view.value
    assert 'class="box ' not in panel.flow.view.value  # one figure is drawn, once
    panel.flow.confirm()  # as a second front end could call it
    assert panel.flow.report is None
    panel.flow.understood.value = True
    assert not panel.flow.confirm_button.disabled
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert panel.flow.report is not None
    assert panel.flow.report.as_predicted


def test_a_refused_merge_cannot_be_confirmed(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    before = images["base"].read_bytes()
    panel.merge_onto(str(images["second"]), str(images["base"]))  # Other stands on RootBase
    panel.flow.wait()
    panel.flow.understood.value = True
    assert panel.flow.plan is not None
    assert "shared-base" in [concern.name for concern in panel.flow.plan.concerns]
    assert panel.flow.confirm_button.disabled
    panel.flow.confirm()
    panel.flow.wait()
    assert images["base"].read_bytes() == before
    assert "shared-base" in str(panel.last_error)


def test_a_refusal_is_waived_by_a_box_that_says_what_is_risked(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = OverlayPanel(forest, every=0)
    opened.append(panel)
    panel.form.base.value, panel.form.name.value, panel.form.size.value = str(images["other"]), "short", 1
    panel.form.plan_button.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    (box,) = panel.flow._boxes.children
    assert "smaller-size" in box.description
    assert "would cut off the end of the disk" in box.description
    assert panel.flow.confirm_button.disabled
    box.value = True
    assert not panel.flow.confirm_button.disabled
    box.value = False
    assert panel.flow.confirm_button.disabled
    box.value = True
    panel.flow.again_button.click()  # another plan is another decision
    panel.flow.wait()
    assert panel.flow.waived == ()
    assert panel.flow.confirm_button.disabled
    panel.flow._boxes.children[0].value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    made = vs.scan(images["other"].parent)
    assert made[made.find("short")].virtual_size == 1 << 20
    assert panel.activity.entries[-1].code.endswith("size=1048576).run(waive=('smaller-size',))")
    assert panel.flow._boxes.children == ()


def test_what_is_waived_wants_its_files_read_as_well(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.merge_onto(str(images["second"]), str(images["base"]))  # Other stands on RootBase
    panel.flow.wait()
    waiver, understood = panel.flow._boxes.children
    assert "Other" in waiver.description
    assert "silently corrupted" in waiver.description
    waiver.value = True
    assert panel.flow.confirm_button.disabled
    panel.flow.confirm()
    assert panel.flow.report is None
    understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert panel.flow.report is not None
    assert "(waive=('shared-base',))" in panel.activity.entries[-1].code


def test_what_cannot_be_waived_has_no_box(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = OverlayPanel(forest, every=0)
    opened.append(panel)
    images["first"].unlink()  # on which Snap-2 stands
    panel.refresh()
    panel.form.base.value, panel.form.name.value, panel.form.size.value = str(images["second"]), "short", 1
    panel.form.plan_button.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert {concern.waivable for concern in panel.flow.plan.concerns if concern.level == "refuse"} == {False, True}
    assert panel.flow._boxes.children == ()
    assert panel.flow.confirm_button.disabled
    panel.flow.confirm()
    panel.flow.wait()
    assert isinstance(panel.last_error, PlanRefusedError)
    assert not (images["base"].parent / "short.qcow2").exists()


def test_errors_are_shown_and_kept(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.plan_button.click()
    assert isinstance(panel.last_error, InvalidRequestError)
    assert "no image is selected" in panel.flow.message.value
    assert "no image is selected" in panel.activity.entries[-1].state
    panel.chain.proposed = [str(images["second"]), str(images["other"])]
    assert "neither image is based on the other" in panel.flow.message.value


def test_a_plan_that_has_become_stale_can_be_made_again(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.merge_onto(str(images["second"]), str(images["first"]))
    panel.flow.wait()
    filled(images["first"].parent / "New.qcow2", images["second"])
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert isinstance(panel.last_error, StalePlanError)
    panel.flow.again_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert panel.flow.plan is not None


def test_the_plan_of_an_image_that_is_gone_says_so(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = OverlayPanel(forest, every=0)
    opened.append(panel)
    panel.form.base.value, panel.form.name.value = str(images["other"]), "a"
    images["other"].unlink()
    panel.form.plan_button.click()
    panel.flow.wait()
    assert isinstance(panel.last_error, NotFoundError)
