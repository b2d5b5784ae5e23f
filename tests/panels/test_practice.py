"""Exercises and scenarios in the panel of a lab: set up, solved, checked and begun again, as clicks would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import eventually

from vmsnap_nb.lab.exercises.hand_help import HELP
from vmsnap_nb.lab.exercises.hint import hint_of
from vmsnap_nb.lab.exercises.place import ExercisePlace
from vmsnap_nb.lab.exercises.practice import clear
from vmsnap_nb.lab.exercises.progress import write_progress
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.image import Image
from vmsnap_nb.panels import LabPanel
from vmsnap_nb.panels.practice import PracticeList, PracticePage
from vmsnap_nb.words.language import set_language

pytestmark = pytest.mark.system


@pytest.fixture
def panel(lab: Lab) -> Iterator[LabPanel]:
    panel = LabPanel(lab, every=0)
    yield panel
    panel.close()


def opened(panel: LabPanel, key: str) -> tuple[PracticeList, PracticePage]:
    practice = panel.practice
    assert practice is not None
    practice.read()
    practice.list.value = key
    page = panel.practice_page
    assert page is not None
    assert panel.page.children == (page,)
    return practice, page


def signs(practice: PracticeList, key: str) -> str:
    practice.read()
    return practice.list[key].sign


def test_an_exercise_from_its_start_to_done(panel: LabPanel, lab: Lab) -> None:
    clear(lab, "first-overlay")  # other tests of this process have the same lab
    write_progress(ExercisePlace(lab, "first-overlay").folder.parent, {})
    practice, page = opened(panel, "first-overlay")
    assert "record the backing format" in page.task.value
    assert (page.layers, practice.list["first-overlay"].meaning) == (None, "not started")
    page.set_up_button.click()
    panel.flow.wait()
    assert page.layers is not None
    assert signs(practice, "first-overlay") == "◔"
    page.hint_button.click()
    assert "Hint 1 of 3" in page.hints.value
    page.check_button.click()
    assert eventually(lambda: "0 of 3" in page.result.value)
    page.hint_button.click()
    assert "0 of 3" in page.result.value  # a hint leaves what was found
    form = page.layers.overlay
    assert page.layers.new_overlay.unfolded  # nothing can be merged
    assert page.layers.choices.layout.display == "none"
    form.name.value = "Overlay-1"
    form.plan_button.click()
    page.layers.flow.wait()
    page.layers.flow.confirm_button.click()
    page.layers.flow.wait()
    assert page.layers.choices.layout.display is None
    page.check_button.click()
    assert eventually(lambda: "An overlay: done" in page.result.value)
    assert signs(practice, "first-overlay") == "✓"
    page.reset_button.click()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert [image.name for image in lab.exercise("first-overlay")] == ["RootBase"]
    panel.images_button.click()
    assert (practice.list.value, panel.practice_page) == (None, None)


def test_a_scenario_begins_again(panel: LabPanel, lab: Lab) -> None:
    _, page = opened(panel, "scenario merge")
    assert eventually(lambda: page.layers is not None)
    lab.scenario("merge").remove("Snap-2").run(progress=False)
    page.reset_button.click()
    assert "All changes to the images" in panel.flow.lost.value
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert "Snap-2" in [image.name for image in lab.scenario("merge")]


def test_a_page_that_is_left_while_its_images_are_made_reads_nothing_afterwards(panel: LabPanel, lab: Lab) -> None:
    lab.scenario("merge")
    opened(panel, "scenario merge")
    panel.close()
    assert eventually(
        lambda: {"vmsnap exercise", "vmsnap panel watch"}.isdisjoint(t.name for t in threading.enumerate())
    )


def test_with_a_guest_its_images_can_go_but_not_what_others_need(panel: LabPanel, lab: Lab, base: Image) -> None:
    guest = lab.guest("goes", backing=base)
    guest.snapshot("one", kind="external-disk").run(progress=False)
    guest.delete_snapshot("one", metadata_only=True).run(progress=False)
    top, below = (guest.chain()[number].path for number in (-1, -2))
    other = lab.guest("stays", backing=base)
    panel.refresh()
    panel.guests.act("remove", "goes")
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert "goes" not in [one.name for one in lab.guests()]
    plan = panel.flow.plan
    assert plan is not None
    assert set(plan.unlinks) == {top, below}  # and not the base
    assert panel.flow.confirm_button.description == "Remove images"
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert {image.path for image in lab.survey()}.isdisjoint({top, below})
    other.undefine()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_answer_is_asked_for_only_where_there_is_one(panel: LabPanel, lab: Lab, language: str) -> None:
    set_language(language)
    try:
        for key, wanted in (("first-overlay", False), ("read-needed", True), ("order-middle-layer", False)):
            lab.exercise(key)
            _, page = opened(panel, key)
            shown = page.children[2].children
            assert (page.answer in shown, page.check_button in shown) == (wanted, page.order is None)
    finally:
        set_language(None)


def test_commands_are_put_in_order_in_a_page(panel: LabPanel, lab: Lab) -> None:
    lab.reset_exercise("order-middle-layer")
    practice, page = opened(panel, "order-middle-layer")
    assert page.order is not None
    assert page.children[4].children == (page.order,)
    buttons = page.order.children[2].children
    buttons[-1].click()  # an order in which nothing was moved yet
    assert "of " in page.order.children[-1].value
    assert signs(practice, "order-middle-layer") in "◔◑"


def test_a_hint_ends_with_one_sign() -> None:
    for exercise in HELP:
        for number in (1, 2, 3):
            assert not hint_of(exercise, number, Path("/x")).text.endswith(("….", "..")), exercise
