"""Snapshots that are cut short: on a full disk, by a signal, where nothing may be written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from support.guests import discard
from support.images import create, write
from support.labs import run_python, start_paused
from support.refusals import refused
from support.small_disk import small_disk

from vmsnap_nb.errors import GuestError, LibvirtError, StalePlanError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.handle import explained
from vmsnap_nb.live.journal import write_entry
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.journal import SnapshotEntry, Switch
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.system


def test_a_disk_that_is_full_leaves_guest_and_files_as_before(short: Path) -> None:
    with small_disk(short / "small", "512k"):
        done = run_python(
            """
            import shutil
            from support.faulty import perform
            small = Path(sys.argv[1]) / "small"
            with vs.Lab(Path(sys.argv[1]) / "l") as lab:
                guest = lab.guest("demo", backing=lab.base("RootBase"))
                before, inside = guest.xml(), os.stat(guest.chain().top).st_size
                plan = guest.snapshot(kind="external-disk", disks={"vda": small / "x.qcow2"})
                filler = small / "filler"
                filler.write_bytes(b"x" * shutil.disk_usage(small).free)
                try:
                    plan.run(progress=False)
                except errors.PlanRefusedError as error:
                    print([c.name for c in error.concerns])
                try:
                    perform(plan, plan.steps[0])
                except errors.NoSpaceError as error:
                    print("NoSpaceError", bool(error.reason), bool(error.next_step))
                print(os.listdir(small), guest.xml() == before, len(guest.snapshots()))
                filler.unlink()
                print(plan.run(progress=False).as_predicted)
                lab.destroy()
            """,
            short,
        )
    assert done.stdout.splitlines() == [
        "['no-space']",
        "NoSpaceError True True",
        "['filler'] True 0",
        "True",
    ], done.stderr


def test_what_qemu_says_of_memory_without_room_gets_a_next_step() -> None:
    said = "operation failed: Failed to take snapshot: Error: Error while writing VM state: Input/output error"
    assert "free space" in (explained(LibvirtError("take the snapshot a of demo", said=said)).next_step or "")


def test_what_libvirt_says_of_a_qemu_that_was_killed_gets_a_next_step() -> None:
    for words in ("domain is not running", "domain is no longer running"):
        error = explained(LibvirtError("take the snapshot a of demo", said=f"operation failed: {words}"))
        assert isinstance(error, GuestError)
        assert "start it again" in (error.next_step or "")


@pytest.mark.parametrize("kind", ["external-disk", "internal-disk"])
def test_killed_in_the_middle_and_the_next_read_says_so(short: Path, kind: str) -> None:
    """A qemu-img that kills its caller as soon as it is done: libvirt never hears of it."""
    fake = short / "bin" / "qemu-img"
    fake.parent.mkdir()
    real = subprocess.run(["which", "qemu-img"], capture_output=True, text=True, check=True).stdout.strip()
    fake.write_text(
        f'#!/bin/sh\n{real} "$@" || exit\ncase "$*" in create*snapped*|"snapshot -c"*) kill -9 $PPID;; esac\n'
    )
    fake.chmod(0o755)
    killed = run_python(
        """
        lab = vs.Lab(sys.argv[1])
        guest = lab.guest("demo", backing=lab.base("RootBase"))
        guest.snapshot("snapped", kind=sys.argv[2]).run(progress=False)
        """,
        short / "l",
        kind,
        env={"PATH": f"{fake.parent}:{os.environ['PATH']}"},
    )
    assert killed.returncode == -9, killed.stderr
    after = run_python(
        """
        with vs.Lab(sys.argv[1]) as lab:
            guest = lab.guest("demo")
            print([layer.name for layer in guest.chain()])
            print([(s.name, s.status) for s in guest.snapshots()])
            again = guest.snapshot("snapped", kind=sys.argv[2])
            print([(c.name, "interrupted" in c.remedy) for c in again.concerns])
            for plan in guest.unfinished():
                print([step.action for step in plan.steps], plan.run(progress=False).as_predicted)
            print([path for path in again.creates if os.path.lexists(path)], guest.concerns(), guest.unfinished())
            plan = guest.reconcile()
            print([step.action for step in plan.steps], plan.run(progress=False).as_predicted)
            print(guest.snapshot(kind=sys.argv[2]).run(progress=False).as_predicted)
            lab.destroy()
        """,
        short / "l",
        kind,
    )
    expected = {
        "external-disk": [
            "[]",
            "[('file-exists', True)]",
            "['remove', 'finish'] True",
            "[] <no concerns> ()",
            "[] True",
        ],
        "internal-disk": [
            "[('snapped', 'untracked')]",
            "[('name-taken', False)]",
            "['check image'] True",
            "[] <no concerns> ()",
            "['write record'] True",
        ],
    }
    assert after.stdout.splitlines() == ["['RootBase', 'demo']", *expected[kind], "True"], after.stderr


def test_where_the_lab_cannot_note_its_overlay_the_snapshot_is_taken_back(
    lab: Lab, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = lab.guest("unnoted", backing=base)
    before = guest.chain().top

    def fails(*_: object) -> None:
        raise VmsnapError("read the mark", said="Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(lab._folder, "add", fails)
        with pytest.raises(VmsnapError, match="Input/output"):
            guest.snapshot("one", kind="external-disk").run(progress=False)
    assert guest.chain().top == before
    assert len(guest.snapshots()) == 0
    assert guest.unfinished() == ()
    assert sorted(path.name for path in Path(before).parent.glob("*unnoted*")) == ["unnoted.qcow2"]
    discard(guest)


def test_an_overlay_that_was_written_through_a_link_is_not_used(
    lab: Lab, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt creates it by its name, and who may write to the folder sees from the entry when."""
    guest = lab.guest("linked", backing=base)
    before, overlay = guest.chain().top, tmp_path / "over.qcow2"

    def plant(entry: SnapshotEntry) -> None:
        write_entry(entry)
        overlay.symlink_to(tmp_path / "elsewhere")

    plan = guest.snapshot("s", kind="external-disk", disks={"vda": overlay})
    monkeypatch.setattr("vmsnap_nb.live.guest_actions.snapshot.write_entry", plant)
    with pytest.raises(StalePlanError, match=f"wrote to {tmp_path}/elsewhere"):
        plan.run(progress=False)
    assert (guest.chain().top, guest.snapshots().names) == (before, ())
    discard(guest)


def test_the_entry_of_an_interrupted_snapshot_stays_when_the_guest_was_started_without_its_overlay(
    lab: Lab, base: Image
) -> None:
    """libvirt was killed before it knew of the overlay, the guest has ended, and virsh has started it again."""
    guest = lab.guest("without", backing=base)
    old = Path(guest.chain().top)
    new = create(old.with_name("without.lost.qcow2"), old.name)
    write(new, "write -q -P 7 1M 64k")
    switch = Switch(target="vda", source=str(old), file=str(new))
    write_entry(SnapshotEntry(guest=guest.name, uuid=guest.uuid, name="lost", disks=(switch,), made=(str(new),)))
    start_paused(guest)
    [plan] = guest.unfinished()
    assert refused(plan) == {"disk-changed"}
    assert f"{new} holds 64 KiB" in plan.concerns[0].what
    assert guest.snapshot("next", kind="external-disk").run(progress=False).as_predicted
    [plan] = guest.unfinished()  # the next one has ended its own entry, and not this
    assert refused(plan) == {"disk-changed"}
    assert plan.run(progress=False, waive="disk-changed").as_predicted
    assert guest.unfinished() == ()
    assert new.exists()
    guest.destroy()
    discard(guest)


def test_the_overlay_of_an_interrupted_snapshot_is_found_after_the_guest_was_defined_anew(
    lab: Lab, base: Image
) -> None:
    """It has another UUID: what QEMU wrote to the overlay is in no disk of it."""
    guest = lab.guest("anew", backing=base)
    old = Path(guest.chain().top)
    new = create(old.with_name("anew.lost.qcow2"), old.name)
    write(new, "write -q -P 7 1M 64k")
    switch = Switch(target="vda", source=str(old), file=str(new))
    entry = SnapshotEntry(guest=guest.name, uuid=guest.uuid, name="lost", disks=(switch,), made=(str(new),))
    write_entry(entry)
    xml, connection = guest.xml(), guest.handle.domain.connect()
    guest.undefine()
    connection.defineXML(xml.replace(guest.uuid, str(uuid4())))
    guest = lab.guest("anew")
    assert "other-image" in {concern.name for concern in guest.concerns()}
    [plan] = guest.unfinished()
    assert refused(plan) == {"other-image"}
    assert plan.run(progress=False, waive="other-image").as_predicted
    assert guest.chain().top == str(new)
    assert (guest.unfinished(), guest.concerns()) == ((), ())
    assert not Path(entry.path).exists()
    discard(guest)


@pytest.mark.parametrize("verb", ["save", "snapshotCreateXML"])
def test_memory_stays_if_libvirt_ends_before_it_says_that_it_saved_it(
    lab: Lab, base: Image, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """libvirt starts again by itself where systemd listens for it; the guest of a save is off then."""
    guest = lab.guest(f"cut-off-{verb}", backing=base, boot="disk")
    start_paused(guest)
    memory = lab.root / "images" / f"{verb}.mem"
    libvirt = library()
    done = getattr(libvirt.virDomain, verb)

    def do_and_end(*arguments: object) -> None:
        done(*arguments)
        raise libvirt.libvirtError("End of file while reading data: Input/output error")

    monkeypatch.setattr(libvirt.virDomain, verb, do_and_end)
    plan = guest.save(memory) if verb == "save" else guest.snapshot("m", kind="external-checkpoint", memory_file=memory)
    with pytest.raises(VmsnapError, match="unknown whether libvirt completed the step"):
        plan.run(progress=False)
    monkeypatch.undo()
    assert memory.read_bytes().startswith(b"LibvirtQemudSave")
    assert all(one.run(progress=False).as_predicted for one in guest.unfinished())
    if verb == "save":
        assert guest.restore(memory).run(progress=False).as_predicted
    else:
        assert [row.status for row in guest.snapshots()] == ["ok"]
        guest.destroy()
        assert guest.revert("m").run(progress=False).as_predicted
    discard(guest)
    memory.unlink()
