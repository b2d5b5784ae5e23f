"""What the decision bar says: what is lost, what it costs, how it ended."""

from __future__ import annotations

import pytest
from support.forests import UNIT, figure_2, handout
from support.merges import FACTS, commit, pull
from support.readings import reading

from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.panels.decision import brief, brief_html, decision_html, lost_html, outcome_html, said_html
from vmsnap_nb.plans.merge.steps import CommitLayers
from vmsnap_nb.plans.overlay.request import OverlayRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report, StepDone
from vmsnap_nb.words.language import set_language
from vmsnap_nb.words.message import Message, joined, t

pytestmark = pytest.mark.quick


def test_a_commit_names_what_becomes_invalid_and_a_pull_loses_nothing() -> None:
    lost = lost_html(commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS))
    assert "Become invalid: " in lost
    assert 'title="/i/Snap-2"' in lost
    assert lost_html(pull(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS)) == ""


def test_files_are_separated_by_the_comma_of_the_language() -> None:
    set_language("zh")
    try:
        assert "</code>、<code" in lost_html(commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS))
    finally:
        set_language(None)


def test_removed_files_are_named_once_and_the_rest_is_counted() -> None:
    lost = lost_html(commit(handout(), "/i/Snap-4", "/i/RootBase", remove=True, facts=FACTS))
    assert "invalid" not in lost
    assert "Removed: " in lost
    assert lost.count("<code") == 4


def test_a_new_overlay_loses_nothing() -> None:
    plan = OverlayRequest(paths=("/i/new <b>.qcow2",), backing="/i/RootBase").plan(reading(figure_2()))
    assert lost_html(plan) == ""
    said = decision_html(plan)
    assert "Create new &lt;b&gt;" in said
    assert "creates 1 file" in said
    assert "<b>" not in said


def test_time_is_estimated_only_from_a_known_rate() -> None:
    plan = commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS)
    assert "about" not in decision_html(plan)
    assert "about 2 s" in decision_html(plan, 3 * UNIT / 2)


def test_files_are_named_without_their_folders_which_the_tooltip_has() -> None:
    paths = joined(["/i/a <b>.qcow2", "/i/b.qcow2"])
    said = Message("the guest {guest} needs {images}", guest="web", images=paths)
    tip = "the guest web needs /i/a &lt;b&gt;.qcow2, /i/b.qcow2"
    assert brief_html(said) == f'<span title="{tip}">The guest web needs a &lt;b&gt;.qcow2, b.qcow2</span>'
    assert brief_html(Message("{folder} is full", folder="/i")) == "<span>/i is full</span>"
    assert brief(Message("{action} {image}", action=t("commit live"), image="/i/a")) == "commit live a"
    assert ">Cannot <i>\n  why: x<".replace("<i>", "&lt;i&gt;") in said_html("x", details="cannot <i>\n  why: x")
    moved = said_html("x", details="a", tip="/i/a")
    assert 'class="vmsnap-below" title="/i/a">A<' in moved


def test_a_plan_that_only_removes_records_says_which() -> None:
    before = figure_2().edited(records=[SnapshotRecord("web", "a <b>"), SnapshotRecord("web", "kept")])
    after = before.edited(records=[SnapshotRecord("web", "kept")])
    said = decision_html(Plan(title=Message("correct"), before=before, steps=(), after=after))
    assert 'title="a &lt;b&gt;">removes 1 record<' in said


def test_a_refused_plan_gives_its_reason_and_the_way_out() -> None:
    plan = commit(figure_2(), "/i/Overlay-1A", "/i/RootBase")
    said = decision_html(plan)
    assert "Refused: " in said
    assert "Overlay-2" in said
    assert "would be silently corrupted. Pull the layers into the overlays of Overlay-1A instead. Or pull" in said
    assert "Nothing has been changed" not in said


def test_a_run_that_was_cancelled_in_time_says_that_all_is_as_before() -> None:
    plan = commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS)
    steps = tuple(StepDone(step, "not run") for step in plan.steps)
    said = outcome_html(Report(plan, steps, plan.before, cancelled=True))
    assert "Nothing was changed" in said
    assert "invalid" not in said.lower()
    assert "nothing was changed" not in outcome_html(Report(plan, steps, plan.after, cancelled=True))


def test_a_commit_that_was_cancelled_while_it_copied_says_where_the_data_is() -> None:
    plan = commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS)
    steps = tuple(StepDone(step, "undone" if isinstance(step, CommitLayers) else "not run") for step in plan.steps)
    said = outcome_html(Report(plan, steps, plan.before, cancelled=True))
    assert "The chain is unchanged, but Snap-1 may already contain some of the data" in said


def test_a_merge_that_left_invalid_files_names_them() -> None:
    plan = commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS)
    steps = tuple(StepDone(step, "done", 0.5, step.size or 0) for step in plan.steps)
    said = outcome_html(Report(plan, steps, plan.after))
    assert "Invalid but still on disk: Snap-2, Snap-3" in said or "Snap-3, Snap-2" in said
    assert "copied 192 KiB" in said
