"""Running a plan: refusals, what is taken back, cancelling; on a world that is only a list."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import tempfile
import termios
import threading
from dataclasses import replace

import pytest
from support import TESTS
from support.faulty import faulty
from support.forests import MIB, forest, image
from support.list_world import ListWorld

from vmsnap_nb.errors import (
    InvalidRequestError,
    LibvirtError,
    NoSpaceError,
    PlanRefusedError,
    ReadOnlyError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.step_action import Action, HalfDoneError, StaysError, Undo
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import CreateOverlay


def full(path: str) -> None:
    if path.endswith("bad"):
        raise NoSpaceError(f"create {path}", said="No space left on device")


def test_run_does_what_the_plan_says() -> None:
    world = ListWorld()
    report = world.plan("/i/a", "/i/b").run()
    assert [done.state for done in report.steps] == ["done", "done"]
    assert report.as_predicted
    assert set(world.forest.images) == {"/i/base", "/i/a", "/i/b"}


def test_a_plan_that_does_not_merge_has_nothing_to_remove_or_to_compare() -> None:
    world = ListWorld()
    plan = world.plan("/i/a")
    with pytest.raises(InvalidRequestError, match=r"with the option remove[\s\S]*does not merge images"):
        plan.run(remove=True)
    with pytest.raises(InvalidRequestError, match="with the option verify"):
        plan.start(verify=False)
    assert set(world.forest.images) == {"/i/base"}
    with pytest.raises(InvalidRequestError, match="is marked as invalid"):
        plan.run().cleanup()


def test_a_failed_step_takes_back_what_was_done_and_raises() -> None:
    world = ListWorld(full)
    plan = world.plan("/i/a", "/i/bad", "/i/c")
    with pytest.raises(NoSpaceError, match="No space left") as caught:
        plan.run()
    assert "were undone" in caught.value.__notes__[0]
    assert set(world.forest.images) == {"/i/base"}
    job = plan.start()
    with pytest.raises(NoSpaceError):
        job.wait()
    assert job.report is not None
    assert [done.state for done in job.report.steps] == ["undone", "failed", "not run"]
    assert not job.report.as_predicted


def failing(world: ListWorld, path: str, undo_fails: Exception | None, half: bool = False) -> LivePlan:
    """Plan /i/a to /i/d; the last cannot be made, and what was made at a path cannot be taken back."""
    plan = world.plan("/i/a", "/i/b", "/i/c", "/i/d")

    def create(step: CreateOverlay, perform: Action) -> Undo:
        if step.path == "/i/d":
            error = NoSpaceError("create d", said="No space left on device")
            raise HalfDoneError(error) if half else error
        undo = perform(step)

        def fails() -> None:
            assert undo_fails is not None
            raise undo_fails

        return fails if step.path == path and undo_fails is not None else undo

    return faulty(plan, CreateOverlay, create)


@pytest.mark.parametrize(
    "limited",
    [OSError(errno.EMFILE, "Too many open files"), MemoryError(), RuntimeError("can't start new thread")],
    ids=["files", "memory", "threads"],
)
@pytest.mark.parametrize("where", ["step", "afterwards", "thread"])
def test_a_limit_of_the_process_is_named_and_what_was_done_is_said(
    limited: Exception, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ListWorld()
    plan = world.plan("/i/a", "/i/b")

    def create(step: CreateOverlay, perform: Action) -> Undo:
        if step.path == "/i/b":
            raise limited
        return perform(step)

    def fails(*_: object) -> None:
        raise limited

    if where == "step":
        plan = faulty(plan, CreateOverlay, create)
    elif where == "afterwards":
        plan = unreadable(world, world.plan("/i/a"), limited)
    else:
        monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(VmsnapError) as raised:
        plan.run(progress=False)
    assert "raise the limits of this process" in (raised.value.next_step or "")
    if where == "step":
        assert set(world.forest.images) == {"/i/base"}
        assert "were undone" in raised.value.__notes__[0]
    if where == "afterwards":
        assert "Completed steps" in raised.value.__notes__[0]


def test_what_lies_below_a_step_that_cannot_be_taken_back_stays() -> None:
    world = ListWorld()
    with pytest.raises(NoSpaceError) as raised:
        failing(world, "/i/b", VmsnapError("take b back", said="no")).run(progress=False)
    assert set(world.forest.images) == {"/i/base", "/i/a", "/i/b"}, "c was taken back, b could not be, and a stays"
    [failed, stays] = raised.value.__notes__
    assert "could not undo" in failed
    assert "were not undone either" in stays


def test_an_undo_of_which_nobody_knew_that_it_can_fail_hides_nothing() -> None:
    world = ListWorld()
    with pytest.raises(NoSpaceError) as raised:
        failing(world, "/i/c", KeyError("of another kind")).run(progress=False)
    assert set(world.forest.images) == {"/i/base", "/i/a", "/i/b", "/i/c"}
    assert "of another kind" in raised.value.__notes__[0]


REFUSED = LibvirtError("connect", said="Connection refused")


def unreadable(world: ListWorld, plan: LivePlan, error: Exception = REFUSED) -> LivePlan:
    """Let nothing be read after the first step, as where libvirt has ended."""

    def create(step: CreateOverlay, perform: Action) -> Undo:
        try:
            return perform(step)
        finally:
            del world.forest

    plan = faulty(plan, CreateOverlay, create)

    def survey() -> Reading:
        if not hasattr(world, "forest"):
            raise error
        return Reading(forest=world.forest)

    return replace(plan, place=replace(plan.place, survey=survey))


def test_a_failed_step_is_said_though_nothing_can_be_read_afterwards() -> None:
    world = ListWorld(full)
    with pytest.raises(NoSpaceError, match="No space left") as raised:
        unreadable(world, world.plan("/i/bad")).run(progress=False)
    assert "Connection refused" in raised.value.__notes__[-1]


def test_what_was_done_is_said_though_nothing_can_be_read_afterwards() -> None:
    world = ListWorld()
    with pytest.raises(LibvirtError, match="Connection refused") as raised:
        unreadable(world, world.plan("/i/a")).run(progress=False)
    assert "/i/a" in raised.value.__notes__[-1]


def test_what_stays_by_its_nature_keeps_nothing_else() -> None:
    world = ListWorld()
    with pytest.raises(NoSpaceError):
        failing(world, "/i/b", StaysError("take b back", said="it stays")).run(progress=False)
    assert set(world.forest.images) == {"/i/base", "/i/b"}


def test_nothing_is_taken_back_below_a_step_that_is_half_done() -> None:
    world = ListWorld()
    with pytest.raises(NoSpaceError) as raised:
        failing(world, "", None, half=True).run(progress=False)
    assert set(world.forest.images) == {"/i/base", "/i/a", "/i/b", "/i/c"}
    assert "were not undone" in raised.value.__notes__[-1]


def test_cancel_takes_back_and_is_no_error() -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(path: str) -> None:
        if path.endswith("b"):
            reached.set()
            assert go_on.wait(10)

    world = ListWorld(slow)
    job = world.plan("/i/a", "/i/b", "/i/c").start()
    assert reached.wait(10)
    assert job.running
    assert (job.progress.done, job.progress.total) == (1, 3)
    with pytest.raises(TimeoutError):
        job.wait(0.01)
    job.cancel()
    go_on.set()
    report = job.wait(10)
    assert report.cancelled
    assert [done.state for done in report.steps] == ["undone", "undone", "not run"]
    assert set(world.forest.images) == {"/i/base"}


def test_a_job_can_be_awaited() -> None:
    async def main() -> bool:
        return (await ListWorld().plan("/i/a").start()).as_predicted

    assert asyncio.run(main())


def test_a_stale_plan_is_refused() -> None:
    world = ListWorld()
    plan = world.plan("/i/a")
    world.forest = world.forest.edited(put=[image("base", virtual_size=2 * MIB)])
    with pytest.raises(StalePlanError, match="virtual size"):
        plan.run()
    world.forest = forest(image("base", status="invalid"))
    with pytest.raises(StalePlanError, match="status"):
        plan.run()


def test_what_a_plan_is_not_about_makes_it_neither_stale_nor_wrong() -> None:
    world = ListWorld()
    plan = world.plan("/i/a")
    world.forest = forest(image("base"), image("other", "base"), image("/elsewhere/unrelated"))
    report = plan.run()
    assert report.as_predicted, report.differences
    world.forest = world.forest.edited(put=[image("a", "other")])
    assert not replace(report, after=world.forest).as_predicted


def test_what_came_to_stand_in_the_way_since_is_refused() -> None:
    world = ListWorld()
    plan = world.plan("/i/a")
    world.forest = world.forest.edited(put=[image("a")])
    with pytest.raises(PlanRefusedError, match="file-exists"):
        plan.run()


def test_a_refused_plan_runs_only_when_waived() -> None:
    world = ListWorld()
    plan = world.plan("/i/a", size=MIB)
    with pytest.raises(PlanRefusedError, match="smaller-size"):
        plan.run()
    plan.run(waive="smaller-size")
    assert "/i/a" in world.forest


def test_a_read_only_world_runs_nothing() -> None:
    world = ListWorld()
    world.readonly = "the connection was opened for reading only"
    with pytest.raises(ReadOnlyError, match="reading only"):
        world.plan("/i/a").run()
    assert "/i/a" not in world.forest


SLOW_RUN = """
import sys, time
import tqdm.auto, tqdm.notebook  # on a busy machine that takes longer than the whole run
sys.path.insert(0, sys.argv[1])

from support.list_world import ListWorld
print(ListWorld(lambda path: time.sleep(0.7)).plan("/i/a", "/i/b", "/i/c").run())
"""


def slow_run(stderr: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_RUN, str(TESTS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)


def read_terminal(terminal: int) -> bytes:
    """Read until the other side is closed, as a terminal does: it must not fill up meanwhile."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 1 << 12)
        except OSError as error:
            if error.errno == errno.EIO:  # how Linux says that nobody is left there
                return shown
            raise
        shown += piece


def test_a_terminal_gets_a_bar_and_a_log_gets_none() -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with slow_run(theirs) as run:
        os.close(theirs)
        assert b"create 3 overlays on base: 100%" in read_terminal(ours)
        os.close(ours)
        assert "3 of 3 steps done" in run.communicate(timeout=60)[0]
    with tempfile.TemporaryFile() as log, slow_run(log.fileno()) as run:
        assert "3 of 3 steps done" in run.communicate(timeout=60)[0]
        log.seek(0)
        assert log.read() == b""
