"""Merges that fail or are cancelled in the middle: the old chain stays, or the rest can be done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.content import backing, chain_of, content
from support.faulty import faulty
from support.images import MIB, create, handout_chain, write

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, StalePlanError, VmsnapError
from vmsnap_nb.live.job import Job
from vmsnap_nb.live.journal import begun, write_entry
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.plans.merge.steps import CheckContent, CommitLayers, RemoveFile, Repoint
from vmsnap_nb.system.qemu import qemu_img

pytestmark = pytest.mark.system


def test_what_fails_after_the_copying_can_be_finished(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    forest = vs.scan(folder)

    def refuse(step: RemoveFile, perform: Action) -> NoReturn:
        raise VmsnapError("remove", said="not today")

    plan = faulty(forest.commit("Snap-3", "Snap-1", remove=True), RemoveFile, refuse)
    with pytest.raises(VmsnapError, match="not today") as caught:
        plan.run(progress=False)
    assert "the data remains in" in " ".join(caught.value.__notes__)
    assert content(paths[-1]) == was
    assert chain_of(paths[-1]) == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"], "it was repointed back"
    (rest,) = vs.scan(folder).unfinished()
    assert rest.run(progress=False).as_predicted
    assert content(paths[-1]) == was
    assert sorted(path.name for path in folder.iterdir()) == ["RootBase.qcow2", "Snap-1.qcow2", "Snap-4.qcow2"]


def test_a_header_that_is_changed_by_a_program_that_fails_is_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As qemu-img does on a full disk: "No space left in the file header", though the header is written."""
    paths = handout_chain(folder)
    was, run = content(paths[-1]), qemu_img.run
    rebased: list[object] = []

    def fails(argv: tuple[str, ...], **options: Any) -> object:
        done = run(argv, **options)
        if argv[1] == "rebase" and not rebased:
            rebased.append(argv)
            raise VmsnapError(options["tried"], said="No space left in the file header")
        return done

    monkeypatch.setattr(qemu_img, "run", fails)
    with pytest.raises(VmsnapError, match="No space left"):
        vs.scan(folder).pull("Snap-4", "RootBase").run(progress=False)
    assert rebased
    assert chain_of(paths[-1]) == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]
    assert content(paths[-1]) == was


def test_nothing_is_repointed_back_to_what_is_gone(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])

    def one_only(step: RemoveFile, perform: Action) -> Undo:
        if step.path.endswith("Snap-2.qcow2"):
            raise VmsnapError("remove", said="not today")
        return perform(step)

    plan = faulty(vs.scan(folder).commit("Snap-3", "Snap-1", remove=True), RemoveFile, one_only)
    with pytest.raises(VmsnapError, match="not today"):
        plan.run(progress=False)
    assert content(paths[-1]) == was
    assert backing(paths[-1]) == "Snap-1.qcow2"
    (rest,) = vs.scan(folder).unfinished()
    assert rest.run(progress=False).as_predicted
    assert not paths[2].exists()


@pytest.mark.parametrize(
    ("below", "stale"), [("RootBase", False), ("Snap-4", False), ("Snap-1", True), ("Snap-3", True)]
)
def test_only_an_overlay_on_what_changes_makes_a_merge_stale(folder: Path, below: str, *, stale: bool) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).commit("Snap-3", "Snap-1")
    assert vs.scan(folder).overlay("new", below).run(progress=False).as_predicted
    if stale:
        with pytest.raises(StalePlanError, match=f"new.qcow2 is now based on .*{below}"):
            plan.run(progress=False)
    else:
        assert plan.run(progress=False).as_predicted
    assert content(paths[-1]) == was


def test_a_cancel_leaves_the_old_chain(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    jobs: list[Job] = []

    def then_cancel(step: Repoint, perform: Action) -> Undo:
        undo = perform(step)
        jobs[0].cancel()
        return undo

    jobs.append(faulty(vs.scan(folder).commit("Snap-3", "Snap-1"), Repoint, then_cancel).start())
    report = jobs[0].wait(60)
    assert report.cancelled
    assert [done.state for done in report.steps] == ["done", "undone", "not run", "not run", "not run"]
    assert (report.differences, report.invalid) == ((), ())
    text = report.to_text()
    assert not re.search("INVALID|cleanup|as predicted", text), text
    assert chain_of(paths[-1]) == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]
    assert content(paths[-1]) == was
    (rest,) = vs.scan(folder).unfinished()
    assert rest.run(progress=False).as_predicted
    assert content(paths[-1]) == was


def test_verify_notices_a_change_before_anything_is_removed(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])

    def spoil_first(step: CheckContent, perform: Action) -> Undo:
        write(paths[1], "write -q -P 99 15M 4k")
        return perform(step)

    plan = vs.scan(folder).commit("Snap-3", "Snap-1", remove=True, verify=True)
    plan = faulty(plan, CheckContent, spoil_first)
    with pytest.raises(ImageError, match="its content has changed"):
        plan.run(progress=False)
    assert all(path.exists() for path in paths)
    assert was != content(paths[-1])


def test_verify_compares_before_an_overlay_is_switched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    commits = vs.scan(folder).commit("Snap-2", remove=True, verify=True)
    commits = faulty(commits, CommitLayers, lambda step, perform: lambda: None)
    with pytest.raises(ImageError, match="its content has changed"):
        commits.run(progress=False)
    monkeypatch.setattr("vmsnap_nb.live.image_actions.fill", lambda *_, **__: True)
    with pytest.raises(ImageError, match="its content would change"):
        vs.scan(folder).pull("Snap-4", "Snap-1", verify=True).run(progress=False)
    assert chain_of(paths[-1]) == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]
    assert content(paths[-1]) == was


def test_finishing_looks_at_what_the_commit_looked_at(tmp_path: Path) -> None:
    # What is above is longer than the top, so it matters what is behind the top's end in all that is below.
    for name, below, size in (("r", None, 8), ("b", "r", 8), ("t", "b", 4), ("c", "t", 8)):
        backing = None if below is None else f"{below}.qcow2"
        create(tmp_path / f"{name}.qcow2", backing, size=size * MIB)
    plan = vs.scan(tmp_path).commit("t", "b")
    assert not plan.refused
    write_entry(begun(plan.steps[0].entry))  # type: ignore[attr-defined]
    [finish] = vs.scan(tmp_path).unfinished()
    assert not finish.refused, finish.concerns
    assert finish.run(progress=False).as_predicted
