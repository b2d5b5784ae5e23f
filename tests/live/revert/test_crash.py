"""Going back that is cut short, by the end of QEMU or of this process, or on a full disk: nothing is lost."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from support.faulty import perform
from support.guests import discard
from support.images import write
from support.labs import run_python
from support.refusals import refused
from support.small_disk import small_disk

from vmsnap_nb.errors import GuestError, LibvirtError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.guest_actions.revert import _explained
from vmsnap_nb.live.journal import write_entry
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.journal import RecordEntry, RevertEntry
from vmsnap_nb.plans.revert.steps import BeginRevert
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.snapshots import find_snapshot

pytestmark = pytest.mark.system


@pytest.mark.parametrize("then", ["restarted", "room"])
def test_a_record_that_libvirt_cannot_write_and_so_drops_is_not_lost(short: Path, then: str) -> None:
    """libvirt's folder of records is full: it then lists the snapshot no more, until it is started again."""
    revert = """
        from support.faulty import faulty
        import atexit, contextlib
        from support.small_disk import fill_up, small_disk
        lab = vs.Lab(sys.argv[1])
        guest = lab.guest("demo", backing=lab.base("RootBase"), boot="disk")
        for name in ("a", "b"):
            guest.snapshot(name, kind="external-disk").run(progress=False)
        [records] = {path.parent for path in lab.root.rglob("snapshot/demo/a.xml")}
        full = contextlib.ExitStack()
        atexit.register(full.close)

        def fill(step, perform):
            full.enter_context(small_disk(records, "64k"))
            fill_up(records)
            return perform(step)

        try:
            faulty(guest.revert("a"), "MakeCurrent", fill).run(progress=False)
        except errors.VmsnapError as error:
            print(any("guest.unfinished()[0].run() writes" in note for note in error.__notes__))
        print("a" in guest.snapshots().names)
        steps = [step for plan in guest.unfinished() for step in plan.steps]
        print(sorted((step.entry.name, step.action, oct(os.stat(step.entry.path).st_mode)) for step in steps))
        next = guest.snapshot("next", kind="external-disk")
        print({concern.name for concern in next.concerns if concern.level == "refuse"})
        full.close()
        if sys.argv[2] == "restarted":
            sys.stdout.flush()
            os._exit(0)
    """
    after = """
        guest = vs.Lab(sys.argv[1]).guest("demo")
        print("a" in guest.snapshots().names)
        while plans := guest.unfinished():
            print(plans[0].steps[0].action, plans[0].run(progress=False).as_predicted)
        print({"a", "b"} <= set(guest.snapshots().names), {row.status for row in guest.snapshots()}, guest.concerns())
        guest.host.destroy()
    """
    done = run_python(revert + ("" if then == "restarted" else after), short / "l", then)
    # That of b, which was to be the current one again when this was undone, is dropped as well.
    lost = [(name, "write record", "0o101600") for name in ("a", "b")]
    full = ["True", "False", str(lost), "{'active-job'}"]
    assert done.stdout.splitlines()[:4] == full, done.stderr
    if then == "restarted":
        done = run_python(after, short / "l")
    finished = [
        str(then == "restarted"),
        *["write record True"] * 2,
        "record revert True",
        "True {'ok'} <no concerns>",
    ]
    assert done.stdout.splitlines()[-len(finished) :] == finished, done.stderr


def test_an_interrupted_revert_to_a_snapshot_that_was_deleted_since_can_be_forgotten(lab: Lab, base: Image) -> None:
    guest = lab.guest("deleted-since", backing=base, boot="disk")
    guest.snapshot("a", kind="external-disk").run(progress=False)
    entry = RevertEntry(
        folder=str(lab.root / "images"), guest=guest.name, uuid=guest.uuid, name="a", to="off", kept="a"
    )
    for kept, said in (("a", "revert to another snapshot"), ("b", "revert to b, which holds the previous state")):
        write_entry(replace(entry, kept=kept))
        if kept == "a":
            guest.snapshot("b", kind="external-disk").run(progress=False)
            find_snapshot(guest.handle.domain, "a").delete(library().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        [plan] = guest.unfinished()
        assert refused(plan) == {"active-job"}
        assert said in plan.concerns[0].remedy
    assert plan.run(progress=False, waive="active-job").as_predicted
    assert guest.unfinished() == ()
    discard(guest)


def test_what_was_written_since_is_not_discarded_though_the_clock_was_set_back(lab: Lab, base: Image) -> None:
    guest = lab.guest("old-clock", backing=base, boot="disk")
    guest.snapshot("a", kind="external-disk").run(progress=False)
    top = Path(guest.chain()[-1].path)
    write(top, "write -q -P 7 0 64k")
    plan = guest.revert("a", keep_current=False)
    undo = perform(plan, next(step for step in plan.steps if isinstance(step, BeginRevert)))
    try:
        assert refused(guest.unfinished()[0]) == set()
        os.utime(top, (time.time() - 3600, time.time() - 3600))  # as a write does then
        assert refused(guest.unfinished()[0]) == {"disk-changed"}
    finally:
        undo()
        discard(guest)


@pytest.mark.parametrize("kind", ["internal-disk", "external-disk"])
def test_an_interrupted_revert_of_a_guest_that_was_defined_anew_is_named_and_ends(
    lab: Lab, base: Image, kind: Literal["internal-disk", "external-disk"]
) -> None:
    """Its entry has the UUID of before, by which nothing finds it any more."""
    guest, old = defined_anew(lab, base, kind, f"anew-{kind}")
    write_entry(RevertEntry(folder=str(lab.root / "images"), guest=guest.name, uuid=old, name="a", to="off", kept="k"))
    [plan] = guest.unfinished()
    concerns = {concern.name: concern for concern in plan.concerns}
    concern = concerns["active-job"]
    assert (concern.level, concern.waivable) == ("refuse", True)
    assert old in concern.what
    assert guest.uuid in concern.what
    if kind == "internal-disk":
        assert "reconcile()" in concerns["not-supported"].remedy
        assert guest.reconcile().run(progress=False).as_predicted
        [plan] = guest.unfinished()
        assert plan.title == f"revert {guest.name} to a"
    assert refused(plan) == {"active-job"}
    assert plan.run(progress=False, waive="active-job").as_predicted
    assert guest.unfinished() == ()
    discard(guest)


def test_a_lost_record_of_a_guest_that_was_defined_anew_is_named_and_ends(lab: Lab, base: Image) -> None:
    guest, old = defined_anew(lab, base, "external-disk", "anew-record")
    xml = f"<domainsnapshot><name>a</name><domain><name>{guest.name}</name><uuid>{old}</uuid></domain></domainsnapshot>"
    write_entry(RecordEntry(folder=str(lab.root / "images"), guest=guest.name, uuid=old, name="a", xml=xml))
    assert refused(guest.snapshot("b", kind="external-disk")) == set()
    [plan] = guest.unfinished()
    assert refused(plan) == {"active-job"}
    assert old in plan.concerns[0].what
    assert plan.run(progress=False, waive="active-job").as_predicted
    assert guest.unfinished() == ()
    discard(guest)


def defined_anew(
    lab: Lab, base: Image, kind: Literal["internal-disk", "external-disk"], name: str
) -> tuple[Guest, str]:
    """Return a guest with the disk of one that had a snapshot and was undefined, and the UUID of that one."""
    guest = lab.guest(name, backing=base, boot="disk")
    guest.snapshot("a", kind=kind).run(progress=False)
    old, xml = guest.uuid, guest.xml()
    guest.handle.domain.undefineFlags(library().VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
    lab.connection.defineXML(xml.replace(f"<uuid>{old}</uuid>", ""))
    return lab.guest(name), old


@pytest.mark.parametrize(
    ("kind", "while_"), [("internal-checkpoint", "RevertInside"), ("external-checkpoint", "RestoreMemory")]
)
def test_a_killed_qemu_is_taken_back(short: Path, kind: str, while_: str) -> None:
    done = run_python(
        """
        import threading
        from support.faulty import faulty
        root, kind, while_ = sys.argv[1:]
        with vs.Lab(root) as lab:
            guest = lab.guest("demo", backing=lab.base("RootBase"))
            guest.handle.domain.createWithFlags(1)  # paused: it boots nothing, and has a memory all the same
            guest.snapshot("a", kind=kind).run(progress=False)
            guest.handle.domain.resume()  # QEMU writes the memory of one moment only once
            guest.handle.domain.suspend()
            top = guest.chain().top
            names = guest.snapshots().names
            killed = []

            def pid():
                try:
                    return int(next((lab.root / "run").rglob("demo.pid")).read_text())
                except (StopIteration, OSError, ValueError):
                    return old

            def kill():
                while not killed:
                    now = pid()
                    if now != old:
                        os.kill(now, signal.SIGKILL)
                        killed.append(now)
                    time.sleep(0.001)

            def perform_and_kill(step, perform):
                threading.Thread(target=kill, daemon=True).start()
                return perform(step)

            old = 0
            old = pid()
            try:
                faulty(guest.revert("a"), while_, perform_and_kill).run(progress=False)
            except errors.VmsnapError as error:
                notes = [note for note in error.__notes__ if "could not" in note]
                print(type(error).__name__, bool(error.next_step), notes, error.reason.splitlines(), file=sys.stderr)
                print(type(error).__name__, bool(error.next_step), [note.partition(" the step")[0] for note in notes])
            print(len(killed), guest.state, guest.chain().top == top)
            kept = [name for name in guest.snapshots().names if name not in names]
            print(kept, guest.unfinished(), {row.status for row in guest.snapshots()})
            print(guest.revert("a").run(progress=False).as_predicted, guest.state)
            print(lab.destroy())
        """,
        short,
        kind,
        while_,
        env={"VMSNAP_ACCEL": "tcg"},
    )
    # What an overlay of a guest that runs holds cannot be taken back: the snapshot of before stays.
    stays = kind.startswith("external")
    assert done.stdout.splitlines() == [
        f"GuestError True {['could not undo'] * stays}",
        f"1 paused {not stays}",
        f"{['kept1'] * stays} () {{'ok'}}",
        "True paused",
        "()",
    ], done.stderr


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("internal error: End of file from qemu monitor (vm='demo')", GuestError),
        ("internal error: process exited while connecting to monitor", GuestError),
        ("internal error: Process exited prior to exec: libvirt: error", GuestError),
        ("internal error: Child process (LC_ALL=C qemu -name guest=demo -S) unexpected exit status 1", GuestError),
        ("internal error: Child process (qemu-img snapshot -a s a) unexpected exit status 1: no", LibvirtError),
    ],
)
def test_the_end_of_a_qemu_has_many_words(said: str, named: type[Exception]) -> None:
    error = _explained(LibvirtError("revert demo to a", said=said, code=1, domain=10))
    assert type(error) is named
    assert said in (error.quoted or "")
    assert error.next_step


def test_a_disk_that_fills_up_in_the_middle(short: Path) -> None:
    with small_disk(short / "small", "1m"):
        done = run_python(
            """
            import shutil
            from support.faulty import faulty
            small = Path(sys.argv[1]) / "small"
            with vs.Lab(Path(sys.argv[1]) / "l") as lab:
                guest = lab.guest("demo", backing=lab.base("RootBase"))
                guest.snapshot("a", kind="external-disk", disks={"vda": small / "x.qcow2"}).run(progress=False)
                before, names = guest.xml(), sorted(os.listdir(small))
                plan = guest.revert("a")
                filler = small / "filler"

                def perform_and_fill(step, perform):
                    undo = perform(step)
                    filler.write_bytes(b"x" * shutil.disk_usage(small).free)
                    return undo

                try:
                    faulty(plan, "TakeSnapshot", perform_and_fill).run(progress=False)
                except errors.NoSpaceError as error:
                    print("NoSpaceError", bool(error.reason), bool(error.next_step))
                print(sorted(set(os.listdir(small)) - set(names)), guest.xml() == before, guest.snapshots().names)
                try:
                    plan.run(progress=False)
                except errors.PlanRefusedError as error:
                    print([c.name for c in error.concerns])
                filler.unlink()
                print(plan.run(progress=False).as_predicted, guest.unfinished())
                lab.destroy()
            """,
            short,
        )
    assert done.stdout.splitlines() == [
        "NoSpaceError True True",
        "['filler'] True ('a',)",
        "['no-space']",
        "True ()",
    ], done.stderr


@pytest.mark.parametrize(
    ("kind", "after", "keep"),
    [
        ("external-disk", "CreateOverlay", True),
        ("external-disk", "TakeDefinition", True),
        ("external-disk", "DiscardOverlays", False),
        ("internal-disk", "TakeSnapshot", True),
        ("internal-disk", "RevertInside", True),
    ],
)
def test_killed_in_the_middle_and_the_next_read_finishes_it(short: Path, kind: str, after: str, keep: bool) -> None:
    killed = run_python(
        """
        from support.content import region
        from support.faulty import faulty, killed
        from support.images import write
        lab = vs.Lab(sys.argv[1])
        guest = lab.guest("demo", backing=lab.base("RootBase"))
        kind, after, keep = sys.argv[2:]
        write(Path(guest.chain().top), "write -q -P 1 128k 64k")
        print(region(guest.chain().top), flush=True)
        guest.snapshot("a", kind=kind).run(progress=False)
        write(Path(guest.chain().top), "write -q -P 2 128k 64k")
        print(region(guest.chain().top), flush=True)
        plan = guest.revert("a", keep_current=keep == "True")
        faulty(plan, after, killed).run(progress=False)
        """,
        short / "l",
        kind,
        after,
        keep,
        env={"VMSNAP_ACCEL": "tcg"},
    )
    assert killed.returncode == -9, killed.stderr
    then, later = killed.stdout.splitlines()
    finished = run_python(
        """
        from support.content import region
        with vs.Lab(sys.argv[1]) as lab:
            guest = lab.guest("demo")
            [plan] = guest.unfinished()
            print("a revert to snapshot a is running or was interrupted" in guest.snapshots().to_text())
            print(plan.title, plan.refused)
            print(plan.run(progress=False).differences)
            print(region(guest.chain().top))
            print(guest.unfinished(), {row.status for row in guest.snapshots()}, guest.snapshots().current.name)
            if "kept1" in guest.snapshots():
                print(guest.revert("kept1", keep_current=False).run(progress=False).differences)
                print(region(guest.chain().top))
            print(lab.destroy())
        """,
        short / "l",
        env={"VMSNAP_ACCEL": "tcg"},
    )
    kept = ["()", later] if keep else []
    assert finished.stdout.splitlines() == [
        "True",
        "revert demo to a False",
        "()",
        then,
        "() {'ok'} a",
        *kept,
        "()",
    ], finished.stderr
