"""The panels, driven from Python as a click would, on real images."""

from __future__ import annotations

import inspect
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError, NotFoundError, PlanRefusedError, StalePlanError
from vmsnap_nb.live.folders import LiveForest
from vmsnap_nb.live.notes import write_note
from vmsnap_nb.panels import ChainView, LabPanel, MergePanel, OverlayPanel, SnapshotPanel
from vmsnap_nb.panels.panel import Panel
from vmsnap_nb.plans.merge_note import MergeNote

pytestmark = pytest.mark.system

HOSTILE = "<b>&\"'😀 快照"


def create(path: Path, base: Path | None = None) -> Path:
    backing = [] if base is None else ["-F", "qcow2", "-b", str(base)]
    size = ["4M"] if base is None else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), *size], check=True, timeout=20)
    subprocess.run(["qemu-io", "-c", f"write -P {len(path.name)} 0 64k", str(path)], check=True, timeout=20)
    return path


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """RootBase <- Snap-1 <- Snap-2, and RootBase <- Other."""
    base = create(tmp_path / "RootBase.qcow2")
    first = create(tmp_path / "Snap-1.qcow2", base)
    return {
        "base": base,
        "first": first,
        "second": create(tmp_path / "Snap-2.qcow2", first),
        "other": create(tmp_path / "Other.qcow2", base),
    }


@pytest.fixture
def forest(images: dict[str, Path], tmp_path: Path) -> LiveForest:
    return vs.scan(tmp_path)


@pytest.fixture
def opened() -> Iterator[list[Panel]]:
    panels: list[Panel] = []
    yield panels
    for panel in panels:
        panel.close()


# -- the figure ----------------------------------------------------------------------------------------------------


def test_a_selection_that_vanished_clears(forest: LiveForest, images: dict[str, Path]) -> None:
    view = ChainView(forest, selected=str(images["second"]))
    view.show(forest)
    assert view.selected == str(images["second"])
    images["second"].unlink()
    view.show(forest.refresh())
    assert view.selected is None


def test_every_box_has_its_path(forest: LiveForest, images: dict[str, Path]) -> None:
    view = ChainView(forest)
    assert set(view.boxes.values()) == {str(path) for path in images.values()}
    assert all(f'data-box="{box}"' in view.svg for box in view.boxes)


def test_a_saved_notebook_has_a_picture_and_text(forest: LiveForest) -> None:
    bundle = ChainView(forest)._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<svg" in data["text/html"]
    assert "Snap-2" in data["text/plain"]
    assert "--->" in data["text/plain"] or "<---" in data["text/plain"]


# -- the flow ------------------------------------------------------------------------------------------------------


def test_an_overlay_from_choice_to_report(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = OverlayPanel(forest, every=0)
    opened.append(panel)
    new = images["base"].parent / f"{HOSTILE}.qcow2"
    panel.chain.selected = str(images["second"])
    panel.name.value = HOSTILE
    panel.plan_button.click()
    panel.flow.wait()
    assert not new.exists()
    assert panel.flow.plan is not None
    assert panel.flow.plan.creates == (str(new),)
    assert HOSTILE not in panel.flow.view.value
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert panel.flow.report is not None
    assert panel.flow.report.as_predicted
    assert panel.flow.view.value == ""
    assert "qemu-img create" in panel.flow.result.value
    panel.flow.cancel_button.click()
    assert panel.flow.result.value == ""
    assert vs.scan(new.parent).parent(str(new)) == str(images["second"])
    assert str(new) in panel.chain.boxes.values()
    entry = panel.activity.entries[-1]
    assert entry.state == "done"
    assert entry.commands[0].startswith("qemu-img create")


def test_thin_copies_of_a_file_elsewhere(
    forest: LiveForest, tmp_path_factory: pytest.TempPathFactory, opened: list[Panel]
) -> None:
    elsewhere = create(tmp_path_factory.mktemp("elsewhere") / "Template.qcow2")
    panel = OverlayPanel(forest, every=0)
    opened.append(panel)
    panel.file.value, panel.name.value, panel.count.value, panel.size.value = str(elsewhere), "thin", 2, 8
    panel.plan_button.click()
    panel.flow.wait()
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    made = vs.scan(elsewhere.parent)
    assert [image.name for image in made if image.virtual_size == 8 << 20] == ["thin-1", "thin-2"]
    assert panel.activity.entries[-1].code.startswith(f"vs.scan({str(elsewhere.parent)!r}).overlay(path=[")


def test_a_merge_is_confirmed_only_after_its_files_were_read(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.chain.proposed = [str(images["second"]), str(images["first"])]  # one dragged onto the other
    panel.flow.wait()
    assert panel.flow.confirm_button.disabled
    assert str(images["first"]) in panel.flow.danger.value
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
    panel.base.value, panel.name.value, panel.size.value = str(images["other"]), "short", 1
    panel.plan_button.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    (box,) = panel.flow._boxes.children
    assert "smaller-size" in box.description
    assert "its end would be cut off" in box.description
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
    assert "spoil it silently" in waiver.description
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
    panel.base.value, panel.name.value, panel.size.value = str(images["second"]), "short", 1
    panel.plan_button.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert {concern.waivable for concern in panel.flow.plan.concerns if concern.level == "refuse"} == {False, True}
    assert panel.flow._boxes.children == ()
    assert panel.flow.confirm_button.disabled
    panel.flow.confirm()
    panel.flow.wait()
    assert isinstance(panel.last_error, PlanRefusedError)
    assert not (images["base"].parent / "short.qcow2").exists()


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
    note = MergeNote(str(images["first"]), str(images["second"]), (str(images["second"]),))
    write_note(note)  # as a process leaves it that was killed while it copied
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.merge_onto(str(images["second"]), str(images["base"]))
    panel.flow.wait()
    (finish,) = (button for button in panel.flow._buttons.children if button.description.startswith("Finish"))
    finish.click()
    panel.flow.wait()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert panel.flow.report is not None
    assert panel.flow.report.as_predicted
    assert not Path(note.path).exists()
    assert panel.activity.entries[-1].code == "forest.unfinished()[0].run()"


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
    panel.plan_button.click()
    panel.flow.wait()
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


def test_errors_are_shown_and_kept(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.plan_button.click()
    assert isinstance(panel.last_error, InvalidRequestError)
    assert "no image was chosen" in panel.flow.message.value
    assert "no image was chosen" in panel.activity.entries[-1].state
    panel.chain.proposed = [str(images["second"]), str(images["other"])]
    assert "neither stands on the other" in panel.flow.message.value


def test_a_plan_that_has_become_stale_can_be_made_again(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panel = MergePanel(forest, every=0)
    opened.append(panel)
    panel.merge_onto(str(images["second"]), str(images["first"]))
    panel.flow.wait()
    create(images["first"].parent / "New.qcow2", images["second"])
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
    panel.base.value, panel.name.value = str(images["other"]), "a"
    images["other"].unlink()
    panel.plan_button.click()
    panel.flow.wait()
    assert isinstance(panel.last_error, NotFoundError)


# -- steadiness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LabPanel, SnapshotPanel, MergePanel, OverlayPanel])
def test_a_panel_reads_each_second(kind: type[Panel]) -> None:
    # So what others do appears within two. Not by the clock: a busy machine takes its time for a reading.
    assert 0 < inspect.signature(kind.__init__).parameters["every"].default <= 1.0


def test_what_others_do_appears_in_every_panel(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panels = [OverlayPanel(forest, every=0.2), MergePanel(forest, every=0.2)]
    opened.extend(panels)
    panels[0].base.value = str(images["other"])
    new = create(images["first"].parent / "New.qcow2", images["other"])
    for panel in panels:
        assert eventually(lambda panel=panel: str(new) in panel.chain.boxes.values())
        assert "UTC" in panel.time_line.value
    images["other"].unlink()
    assert eventually(lambda: panels[0].base.value is None)


def test_a_panel_reads_as_long_as_it_is_shown(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    def rests() -> bool:
        reading = panel.reading
        time.sleep(0.3)
        return panel.reading is reading

    panel = OverlayPanel(forest, every=0.05)
    opened.append(panel)
    panel.chain.views = 1
    seen = create(images["first"].parent / "Seen.qcow2", images["other"])
    assert eventually(lambda: str(seen) in panel.chain.boxes.values())
    panel.chain.views = 0
    assert eventually(rests)  # one that was under way comes to its end
    reading = panel.reading
    panel.chain.views = 1
    assert eventually(lambda: panel.reading is not reading)


def test_a_closed_panel_reads_no_more(forest: LiveForest, opened: list[Panel]) -> None:
    def watchers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "vmsnap panel watch"}

    before = watchers()
    panel = MergePanel(forest, every=0.05)
    assert len(watchers() - before) == 1
    panel.close()
    assert eventually(lambda: watchers() <= before)
