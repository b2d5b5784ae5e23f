"""Snapshots and saved memory of a guest that runs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from support.faulty import perform
from support.guests import discard
from support.kinds import record
from support.labs import run_python, start_paused
from support.small_disk import small_disk

from vmsnap_nb.errors import InvalidRequestError, NotFoundError, PlanRefusedError, StalePlanError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image

libvirt = pytest.importorskip("libvirt")
pytestmark = pytest.mark.guest


@pytest.fixture
def running(first: Guest) -> Guest:
    """The guest that tests share; each finds it running, on a chain of any length."""
    return first.start()


def test_an_internal_checkpoint_is_the_default_and_lies_inside(running: Guest) -> None:
    plan = running.snapshot("ram", description="with memory")
    assert plan.way.startswith("internal-checkpoint, because the guest is running")
    assert plan.run(progress=False).as_predicted
    top = running.chain()[-1]
    inside = next(one for one in top.snapshots if one.name == "ram")
    assert inside.vm_state_size > 1 << 20
    one = running.snapshots()["ram"]
    assert (one.kind, one.status, one.record.state) == ("internal-checkpoint", "ok", "running")
    assert running.execute("true").exit_status == 0
    record("internal-checkpoint", "running", "create")
    record("internal-checkpoint", "running", "list")
    with pytest.raises(PlanRefusedError, match="an internal disk snapshot of a running guest"):
        running.snapshot(kind="internal-disk").run(progress=False)
    record(
        "internal-disk",
        "running",
        "create",
        "refused: not-supported, as libvirt takes such a snapshot only with the memory",
    )


def test_external_snapshots_of_a_running_guest(running: Guest) -> None:
    old, depth = running.chain().top, len(running.chain())
    running.execute("echo before > /x1").check()
    disk = running.snapshot("x1", kind="external-disk")
    assert [c.name for c in disk.concerns if c.level == "note"][-1] == "memory-lost"
    assert disk.run(progress=False).as_predicted
    size = os.stat(old).st_size
    running.execute("echo after > /x1; head -c 300000 /dev/urandom > /big; sync").check()
    assert os.stat(old).st_size == size  # nothing is written to it any more
    checkpoint = running.snapshot("x2", kind="external-checkpoint")
    memory = checkpoint.creates[1]
    assert memory.endswith(".x2.mem")
    assert checkpoint.run(progress=False).as_predicted
    assert len(running.chain()) == depth + 2
    two = running.snapshots()["x2"].record
    assert (two.kind, two.memory_file, two.state) == ("external-checkpoint", memory, "running")
    assert two.memory_size == os.stat(memory).st_size > 1 << 20
    assert running.snapshots().current is not None
    assert running.execute("cat /x1").stdout == "after\n"
    text = running.snapshot().to_text()
    assert "(memory of first)" in text
    for kind in ("external-disk", "external-checkpoint"):
        record(kind, "running", "create")  # type: ignore[arg-type]
        record(kind, "running", "list")  # type: ignore[arg-type]


def test_a_comma_in_a_name_is_no_matter_for_a_running_guest(running: Guest) -> None:
    folder = Path(running.chain().top).parent
    plan = running.snapshot("with, comma", kind="external-disk", disks={"vda": "a,b <c>.qcow2"})
    assert plan.run(progress=False).as_predicted
    assert running.chain().top == str(folder / "a,b <c>.qcow2")


def test_an_active_job_and_a_changed_state_stand_in_the_way(running: Guest) -> None:
    plan = running.snapshot(kind="external-disk")
    running.handle.domain.blockPull("vda", 1)  # 1 MiB/s
    try:
        busy = running.snapshot(kind="external-disk")
        assert [c.name for c in busy.concerns if c.level == "refuse"] == ["active-job"]
        with pytest.raises(PlanRefusedError, match="active-job"):
            plan.run(progress=False)
        with pytest.raises(VmsnapError, match="active block job"):  # as libvirt says itself
            perform(plan, plan.steps[0])
    finally:
        running.handle.domain.blockJobAbort("vda")
    assert not os.path.lexists(plan.creates[0])
    running.handle.domain.suspend()
    try:
        with pytest.raises(StalePlanError):
            plan.run(progress=False)
        assert running.snapshot(kind="internal-checkpoint").after.records[-1].state == "paused"
    finally:
        running.handle.domain.resume()


def test_saved_memory_goes_on_where_it_was(running: Guest, short: Path) -> None:
    running.execute(
        "(while :; do n=$((n+1)); echo $n > /run/new; mv /run/new /run/count; sleep 0.2; done) & echo $! > /run/pid"
    ).check()
    time.sleep(0.5)
    file = short / "memory, saved"
    plan = running.save(file)
    count = int(running.execute("cat /run/count").stdout)
    assert plan.run(progress=False).as_predicted
    assert running.state == "shut off"
    assert file.stat().st_size > 1 << 20
    with pytest.raises(PlanRefusedError, match="no memory to save"):
        running.save().run(progress=False)
    back = running.restore(file)
    assert not back.refused
    assert back.run(progress=False).as_predicted
    time.sleep(0.5)
    assert int(running.execute("cat /run/count; kill -0 $(cat /run/pid)").check().stdout) > count

    # Managed save: libvirt keeps the file, and an overlay must not be put below what it remembers.
    assert running.save().run(progress=False).as_predicted
    assert (running.state, running.running) == ("saved", False)
    assert running.host.guests().to_frame().loc[running.name, "state"] == "saved"
    assert f"{running.name}: vda (saved)" in running.chain().to_text()
    assert running.snapshots().managed_save
    record("vm-state", "off", "list")
    with pytest.raises(PlanRefusedError, match="managed-save"):
        running.snapshot(kind="external-disk").run(progress=False)
    # The guest has written since the file was saved: going on from there would spoil its disk.
    assert running.restore().run(progress=False).as_predicted
    running.execute("echo later > /later").check()
    assert running.save().run(progress=False).as_predicted
    with pytest.raises(PlanRefusedError, match="disk-changed"):
        running.restore(file).run(progress=False)
    assert running.restore().run(progress=False).as_predicted
    assert not running.snapshots().managed_save
    assert int(running.execute("cat /run/count; kill $(cat /run/pid)").check().stdout) > count
    with pytest.raises(PlanRefusedError, match="file-exists"):
        running.save(file).run(progress=False)
    record("vm-state", "running", "create")
    record("vm-state", "off", "revert", "works from a managed save")


def test_what_is_no_saved_memory(running: Guest, short: Path) -> None:
    with pytest.raises(VmsnapError) as missing:
        running.restore(short / "none")
    assert missing.value.reason
    (short / "text").write_text("no memory")
    with pytest.raises(VmsnapError, match="text"):
        running.restore(short / "text")
    with pytest.raises(InvalidRequestError):
        running.snapshot("a/b")
    with pytest.raises(NotFoundError, match="available: "):
        running.snapshots()["never"]


def test_a_full_disk_and_a_killed_qemu_while_the_memory_is_written(short: Path) -> None:
    with small_disk(short / "small", "4m"):
        done = run_python(
            """
            import threading
            small = Path(sys.argv[1]) / "small"
            with vs.Lab(Path(sys.argv[1]) / "l") as lab:
                guest = lab.guest("demo", backing=lab.base("RootBase")).start(wait=False)
                time.sleep(1)
                before = guest.chain().top
                full = guest.snapshot("full", memory_file=small / "memory")
                print([c.name for c in full.concerns if c.level == "refuse"])
                try:
                    full.run(waive="no-space", progress=False)
                except errors.NoSpaceError as error:
                    print("NoSpaceError", bool(error.next_step))
                print(os.listdir(small), guest.state, guest.chain().top == before, len(guest.snapshots()))

                big = Path(sys.argv[1]) / "big"
                plan = guest.snapshot("killed", memory_file=big)
                pid = int(next((lab.root / "run").rglob("demo.pid")).read_text())

                def kill():
                    while not big.exists():
                        time.sleep(0.001)
                    os.kill(pid, signal.SIGKILL)

                threading.Thread(target=kill, daemon=True).start()
                try:
                    plan.run(progress=False)
                except errors.GuestError as error:
                    print("GuestError", "its QEMU process has exited" in error.reason, bool(error.next_step))
                print(big.exists(), guest.state, guest.chain().top == before, len(guest.snapshots()))
                print(guest.snapshot().run(progress=False).as_predicted)
                lab.destroy()
            """,
            short,
        )
    assert done.stdout.splitlines() == [
        "['no-space']",
        "NoSpaceError True",
        "[] running True 0",
        "GuestError True True",
        "False shut off True 0",
        "True",
    ], done.stderr


def test_an_agent_that_does_not_thaw_fails_a_snapshot_that_was_taken(
    lab: Lab, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt then has no record of it, and the guest writes to the overlay: that is said, and nothing is removed."""
    guest = lab.guest("frozen", backing=base)
    start_paused(guest)
    create = libvirt.virDomain.snapshotCreateXML

    def then_fail(domain: Any, xml: str, flags: int) -> None:
        create(domain, xml, flags).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        raise libvirt.libvirtError("unable to execute QEMU agent command 'guest-fsfreeze-thaw'")

    try:
        monkeypatch.setattr(libvirt.virDomain, "snapshotCreateXML", then_fail)
        with pytest.raises(VmsnapError) as raised:
            guest.snapshot("late", kind="external-disk").run(progress=False)
        monkeypatch.undo()
        top = guest.chain().top or ""
        assert top.endswith(".late.qcow2")
        assert f"frozen already uses {top}, but libvirt has no record of the snapshot" in str(raised.value)
        assert "removed completely" not in str(raised.value)
        (finish,) = guest.unfinished()
        assert finish.run(progress=False).as_predicted
        assert os.path.exists(top)
        assert guest.commit(top=top).run(progress=False).as_predicted
        assert len(guest.chain()) == 2
    finally:
        discard(guest)
