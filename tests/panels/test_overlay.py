"""The panel of overlays, driven from Python as a click would, on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.images import filled

import vmsnap_nb as vs
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.panels import OverlayPanel
from vmsnap_nb.panels.panel import Panel

pytestmark = pytest.mark.system


HOSTILE = "<b>&\"'😀 快照"


def test_an_overlay_from_choice_to_report(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = OverlayPanel(forest, every=0)
    opened.append(panel)
    new = images["base"].parent / f"{HOSTILE}.qcow2"
    panel.chain.selected = str(images["second"])
    panel.form.name.value = HOSTILE
    panel.form.plan_button.click()
    panel.flow.wait()
    assert not new.exists()
    assert panel.flow.plan is not None
    assert panel.flow.plan.creates == (str(new),)
    assert panel.chain.thing is panel.flow.plan  # drawn where the click was
    assert panel.flow._boxes.children == ()  # nothing is lost, so nothing is asked
    assert HOSTILE not in panel.flow.view.value
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert panel.flow.report is not None
    assert panel.flow.report.as_predicted
    assert "qemu-img create" in panel.flow.view.value
    assert "as the plan predicted" in panel.flow.message.value
    panel.flow.cancel_button.click()
    assert panel.flow.view.value == panel.flow.message.value == panel.form.name.value == ""  # as at the beginning
    assert panel.flow.decision.layout.display == "none"
    assert vs.scan(new.parent).parent(str(new)) == str(images["second"])
    assert str(new) in panel.chain.boxes.values()
    entry = panel.activity.entries[-1]
    assert entry.state == "done"
    assert entry.commands[0].startswith("qemu-img create")


def test_thin_copies_of_a_file_elsewhere(
    forest: LiveForest, tmp_path_factory: pytest.TempPathFactory, opened: list[Panel]
) -> None:
    elsewhere = filled(tmp_path_factory.mktemp("elsewhere") / "Template.qcow2")
    panel = OverlayPanel(forest, every=0)
    opened.append(panel)
    panel.form.file.value, panel.form.name.value, panel.form.count.value, panel.form.size.value = (
        str(elsewhere),
        "thin",
        2,
        8,
    )
    panel.form.plan_button.click()
    panel.flow.wait()
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    made = vs.scan(elsewhere.parent)
    assert [image.name for image in made if image.virtual_size == 8 << 20] == ["thin-1", "thin-2"]
    assert panel.activity.entries[-1].code.startswith(f"vs.scan({str(elsewhere.parent)!r}).overlay(path=[")
