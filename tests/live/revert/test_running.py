"""Going back to snapshots of a guest that runs, seen with its own eyes: its files, and a counter in its memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from support import kinds

from vmsnap_nb.errors import PlanRefusedError, StalePlanError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]

COUNTER = "(while :; do n=$((n+1)); echo $n > /run/new; mv /run/new /run/count; sleep 0.1; done) & echo $! > /run/pid"


@pytest.fixture(scope="module")
def shared(lab: Lab, base: Image) -> Iterator[Guest]:
    guest = lab.guest("reverted", backing=base)
    yield guest
    guest.destroy()


@pytest.fixture
def running(shared: Guest) -> Guest:
    """The guest of this module; each test finds it running, with a counter, on a chain of any length."""
    if not shared.running:
        shared.start()
    elif shared.state == "paused":
        shared.handle.domain.resume()
    shared.execute("rm -f /before /after; kill $(cat /run/pid); echo 0 > /run/count").check()
    shared.execute(COUNTER).check()
    shared.execute("echo b > /before; sleep 1").check()
    return shared


def count(guest: Guest) -> int:
    return int(guest.execute("cat /run/count").check().stdout)


def files(guest: Guest) -> set[str]:
    return set(guest.execute("ls -d /before /after /third").stdout.split())


@pytest.mark.parametrize("kind", ["internal-checkpoint", "external-checkpoint"])
def test_a_checkpoint_brings_back_disk_and_memory_and_what_was_there_is_kept(running: Guest, kind: str) -> None:
    name = kind[:3] + "-ram"
    begun = count(running)
    assert running.snapshot(name, kind=kind).run(progress=False).as_predicted  # type: ignore[arg-type]
    running.execute("kill $(cat /run/pid); sleep 1; rm /before; echo a > /after; echo -1 > /run/count").check()
    plan = running.revert(name)
    assert [c.name for c in plan.concerns if c.level != "note"] == []
    kept = next(line for line in plan.way.split() if line.startswith("kept") and line[4:5].isdigit()).rstrip(":;")
    report = plan.run(progress=False)
    assert report.differences == ()
    assert running.state == "running"
    assert files(running) == {"/before"}
    assert running.snapshots().current.name == name  # type: ignore[union-attr]
    assert running.execute("kill -0 $(cat /run/pid)").exit_status == 0
    later = count(running)
    assert later >= begun >= 0
    time.sleep(1)
    assert count(running) > later
    kinds.record(kind, "running", "revert", "works, in single steps" if kind[0] == "e" else "works")  # type: ignore[arg-type]

    # A second branch; then back to the first, which has its memory of then as well.
    running.execute("echo t > /third").check()
    plan = running.revert(kept)
    assert plan.run(progress=False).differences == ()
    assert files(running) == {"/after"}
    assert count(running) == -1
    tree = running.snapshots().to_text()
    assert tree.count("checkpoint") >= 3
    assert {row.status for row in running.snapshots()} == {"ok"}
    assert running.unfinished() == ()


def test_where_it_goes_is_chosen(running: Guest) -> None:
    for kind in ("internal-checkpoint", "external-checkpoint"):
        name = f"to-{kind[:3]}"
        running.snapshot(name, kind=kind).run(progress=False)  # type: ignore[arg-type]
        assert running.revert(name, to="paused", keep_current=False).run(progress=False).differences == ()
        assert running.state == "paused"
        # From paused: it is still the same moment.
        assert running.revert(name, to="off", keep_current=False).run(progress=False).differences == ()
        assert running.state == "shut off"
        assert running.revert(name, keep_current=False).run(progress=False).differences == ()
        assert running.state == "running"
        assert files(running) == {"/before"}
        kinds.record(kind, "off", "revert", "works, in single steps" if kind[0] == "e" else "works")  # type: ignore[arg-type]


def test_disks_alone_from_running_and_without_keeping(running: Guest) -> None:
    running.execute("rm -f /third").check()
    running.snapshot("disk", kind="external-disk").run(progress=False)
    running.execute("echo a > /after; head -c 400000 /dev/urandom > /big; sync").check()
    overlay = running.chain().top
    plan = running.revert("disk", to="running", keep_current=False)
    warned = {c.name: c for c in plan.concerns if c.level == "warn"}
    assert set(warned) == {"state-lost", "memory-lost"}
    assert warned["state-lost"].images == (overlay,)
    assert "iB on disk)" in warned["state-lost"].what
    assert plan.run(progress=False).differences == ()
    assert running.start().state == "running"
    assert files(running) == {"/before"}
    assert os.stat(overlay).st_size < 400000  # it is in the record, so that it stays, and it is empty
    kinds.record("external-disk", "running", "revert", "works, in single steps")


def test_a_snapshot_that_was_taken_while_it_was_off(running: Guest) -> None:
    running.shutdown()
    assert running.snapshot("inside", kind="internal-disk").run(progress=False).as_predicted
    running.start().execute("echo a > /after").check()
    plan = running.revert("inside", to="running")
    assert plan.run(progress=False).differences == ()
    assert running.start().state == "running"
    assert files(running) == {"/before"}
    kinds.record("internal-disk", "running", "revert")
    assert running.revert("inside").run(progress=False).differences == ()
    assert running.state == "shut off"  # as it was taken


def test_memory_alone_goes_back_onto_a_disk_that_did_not_change(running: Guest) -> None:
    memory = running.chain().top + ".alone"
    running.handle.domain.suspend()
    running.handle.domain.snapshotCreateXML(
        f"<domainsnapshot><name>alone</name><memory snapshot='external' file='{memory}'/>"
        "<disks><disk name='vda' snapshot='no'/></disks></domainsnapshot>"
    )
    running.host._has_made(memory, "a test")
    assert running.snapshots()["alone"].kind == "vm-state"
    assert not running.snapshots().managed_save
    deletion = running.delete_snapshot("alone")
    assert (deletion.unlinks, "saved memory is removed" in deletion.way) == ((memory,), True)
    kept = running.revert("alone")
    with pytest.raises(PlanRefusedError, match="memory-lost"):
        kept.run(progress=False)
    running.destroy()
    plan = running.revert("alone", to="running")
    assert not plan.refused
    assert plan.run(progress=False).differences == ()
    assert files(running) == {"/before"}
    assert running.execute("kill -0 $(cat /run/pid)").exit_status == 0
    kinds.record("vm-state", "off", "revert", "works from a snapshot of the memory alone, in single steps")
    running.execute("echo a > /after").check()
    assert [c.name for c in running.revert("alone", keep_current=False).concerns if c.level == "refuse"] == [
        "disk-changed"
    ]


def test_an_active_job_stands_in_the_way(running: Guest) -> None:
    running.snapshot("way", kind="external-disk").run(progress=False)
    plan = running.revert("way")
    running.handle.domain.blockPull("vda", 1)  # 1 MiB/s
    try:
        assert [c.name for c in running.revert("way").concerns if c.level == "refuse"] == ["active-job"]
        with pytest.raises(PlanRefusedError, match="active-job"):
            plan.run(progress=False)
    finally:
        running.handle.domain.blockJobAbort("vda")
    running.handle.domain.suspend()
    try:
        with pytest.raises(StalePlanError):
            plan.run(progress=False)
    finally:
        running.handle.domain.resume()
    assert running.save().run(progress=False).as_predicted
    assert [c.name for c in running.revert("way").concerns if c.level == "refuse"] == ["managed-save"]
    assert running.restore().run(progress=False).as_predicted
