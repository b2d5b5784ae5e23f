"""Two plans at once: one is carried out, the other says so, and nothing is lost."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PATH
from support.content import content
from support.faulty import faulty
from support.guests import discard
from support.images import MIB, create, handout_chain, write
from support.labs import PREFIX, start_paused

import vmsnap_nb as vs
from vmsnap_nb.errors import StalePlanError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.report import LiveReport
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.plans.step import Step

_NUMBER = itertools.count()


@pytest.fixture
def guest(lab: Lab, short: Path) -> Iterator[Guest]:
    """A guest that is off, with a small disk of its own; a paused one has the same disk."""
    base = create(short / "Base.qcow2", size=64 * MIB)
    write(base, "write -q -P 100 0 8M")
    guest = lab.guest(f"both{next(_NUMBER)}", backing=base, boot="disk", protect=False)
    yield guest
    discard(guest)


def take(guest: Guest, names: str, kind: str) -> None:
    for number, name in enumerate(names, 1):
        assert guest.snapshot(name, kind=kind).run(progress=False).as_predicted  # type: ignore[arg-type]
        write(
            Path(guest.chain().top), f"write -q -P {number} {number}M 512k", f"write -q -P {number} {number * 64}k 9k"
        )


def states(guest: Guest) -> dict[str, str]:
    """What each snapshot's disk holds, and the guest's own."""
    found = {"now": content(guest.chain().top)}
    for row in guest.snapshots():
        [disk] = row.record.held_disks
        found[row.name] = content(disk.source or "", snapshot=row.name if disk.held == "internal" else None)
    return found


def at_once(*plans: LivePlan) -> list[object]:
    """Run plans in threads that begin together; give for each whether it went as predicted, or its error."""
    ends: dict[int, object] = {}
    gate = threading.Barrier(len(plans))

    def go(number: int) -> None:
        gate.wait(10)
        try:
            ends[number] = plans[number].run(progress=False).as_predicted
        except VmsnapError as error:
            ends[number] = error

    threads = [threading.Thread(target=go, args=[number]) for number in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [ends[number] for number in range(len(plans))]


def check(guest: Guest, ends: list[object], before: dict[str, str]) -> None:
    assert [end for end in ends if not isinstance(end, StalePlanError)] == [True]
    assert all(end.next_step for end in ends if isinstance(end, StalePlanError))
    guest.destroy()
    after = states(guest)
    assert after == {name: state for name, state in before.items() if name in after}
    assert {row.status for row in guest.snapshots()} <= {"ok"}
    assert guest.unfinished() == ()
    folders = {Path(image.path).parent for image in guest.chain()}
    assert [path for folder in folders for path in folder.glob(".vmsnap*")] == []


@pytest.mark.system
@pytest.mark.parametrize("names", ["bb", "ab", "bc", "cc"])
def test_two_deletions_of_external_ones_of_a_guest_that_is_off(guest: Guest, names: str) -> None:
    take(guest, "abc", "external-disk")
    before = states(guest)
    check(guest, at_once(*(guest.delete_snapshot(name) for name in names)), before)
    assert len(guest.snapshots()) == 2


@pytest.mark.system
@pytest.mark.parametrize("names", ["aa", "ab"])
def test_two_deletions_of_internal_ones(guest: Guest, names: str) -> None:
    take(guest, "abc", "internal-disk")
    before = states(guest)
    check(guest, at_once(*(guest.delete_snapshot(name) for name in names)), before)
    assert len(guest.snapshots()) == 2


@pytest.mark.guest
@pytest.mark.parametrize("names", ["bb", "ab", "cc"])
def test_two_deletions_while_the_guest_runs(guest: Guest, names: str) -> None:
    take(guest, "abc", "external-disk")
    before = states(guest)
    start_paused(guest)
    check(guest, at_once(*(guest.delete_snapshot(name) for name in names)), before)
    assert len(guest.snapshots()) == 2


@pytest.mark.system
def test_a_deletion_a_revert_and_a_snapshot(guest: Guest) -> None:
    take(guest, "ab", "external-disk")
    before = states(guest)
    plans = guest.delete_snapshot("a"), guest.revert("a"), guest.snapshot("x", kind="external-disk")
    check(guest, at_once(*plans), before | {"x": before["now"], "kept1": before["now"]} | now(guest, before))


def now(guest: Guest, before: dict[str, str]) -> dict[str, str]:
    """After a revert the guest's disk is that of the snapshot."""
    return {"now": before["a"]} if "kept1" in guest.snapshots().names else {}


class Held:
    """A plan that stops before its first step until it is let go."""

    def __init__(self, plan: LivePlan) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.job = faulty(plan, Step, self._wait).start()
        assert self.reached.wait(100)

    def _wait(self, step: Step, perform: Action) -> Undo:
        self.reached.set()
        assert self.go_on.wait(100)
        return perform(step)

    def end(self) -> LiveReport:
        self.go_on.set()
        return self.job.wait(60)


@pytest.mark.system
def test_one_that_goes_on_keeps_the_others_out(guest: Guest) -> None:
    take(guest, "ab", "external-disk")
    before = states(guest)
    others = guest.delete_snapshot("a"), guest.revert("a"), guest.snapshot("x"), guest.reconcile()
    held = Held(guest.delete_snapshot("b"))
    for other in others:
        with pytest.raises(
            StalePlanError, match="another plan is currently changing the snapshots of this guest"
        ) as error:
            other.run(progress=False)
        assert "wait until that plan has ended" in (error.value.next_step or "")
    assert held.end().as_predicted
    check(guest, [True], before)
    # It lets go in the end: what is planned now can be carried out.
    assert guest.delete_snapshot("a").run(progress=False).as_predicted


def test_merges_of_the_same_images(tmp_path: Path) -> None:
    handout_chain(tmp_path)
    top = tmp_path / "Snap-4.qcow2"
    before = content(top)
    forest = vs.scan(tmp_path)
    other, apart = forest.commit("Snap-2", "Snap-1"), forest.commit("Snap-4", "Snap-3")
    held = Held(forest.commit("Snap-1", "RootBase"))
    with pytest.raises(StalePlanError, match=r"another plan is currently changing .*Snap-[12]"):
        other.run(progress=False)
    assert apart.run(progress=False).as_predicted  # it has nothing to do with those
    held.end()
    assert content(tmp_path / "Snap-3.qcow2") == before


def test_another_process_is_kept_out_too(tmp_path: Path) -> None:
    handout_chain(tmp_path)
    code = """
    from support.faulty import faulty
    from vmsnap_nb.plans.step import Step
    plan = vs.scan(sys.argv[1]).commit("Snap-1", "RootBase")
    def wait(step, perform):
        print("reached", flush=True)
        sys.stdin.readline()
        raise errors.VmsnapError("go on")
    faulty(plan, Step, wait).start().wait(60)
    """
    first = subprocess.Popen(
        [sys.executable, "-c", PREFIX + "\n".join(line[4:] for line in code.splitlines()), tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATH)},
    )
    with first:
        assert first.stdout is not None
        assert first.stdin is not None
        while first.stdout.readline().strip() != "reached":
            assert first.poll() is None
        plan = vs.scan(tmp_path).commit("Snap-2", "Snap-1")
        with pytest.raises(StalePlanError, match="another plan is currently changing"):
            plan.run(progress=False)
        first.kill()  # what a process had is free with its end
        first.wait(100)
        assert plan.run(progress=False).as_predicted
