"""Deletions that are cut short: by a signal, between steps, on a full disk."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from support.labs import run_python
from support.paused import Paused
from support.small_disk import small_disk

from vmsnap_nb.errors import GuestError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.job import Job
from vmsnap_nb.system.libvirt.block_jobs import start_commit

pytestmark = pytest.mark.guest


def slowly(start: Callable[..., None], *args: object, **options: object) -> None:
    start(*args, **{**options, "bandwidth": 8 << 20})


def test_its_qemu_is_killed_in_the_middle(paused: Paused, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    paused.take("a")
    paused.take("b", size="160M")
    paused.take("c", size="160M")
    before = paused.reads()
    paused.start()
    qemu = int(next((lab.root / "run").rglob(f"{paused.guest.name}.pid")).read_text())
    # So that it is in the middle for a while. From libvirt 11 it is its own deletion, for whose end others wait.
    monkeypatch.setattr("vmsnap_nb.live.guest_actions.merge.start_commit", partial(slowly, start_commit))
    job = paused.guest.delete_snapshot("b").start()
    while job.progress.done == 0 and job.running:
        time.sleep(0.001)
    os.kill(qemu, signal.SIGKILL)
    with pytest.raises(VmsnapError) as said:
        job.wait(60)
    assert isinstance(said.value, GuestError) or said.value.next_step
    deadline = time.monotonic() + 10
    while paused.guest.running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert paused.reads() == before
    assert paused.statuses == {"a": "ok", "b": "ok", "c": "ok"}
    paused.delete("b")  # what was half done is done, the guest being off
    assert paused.guest.unfinished() == ()
    assert paused.reads() == before


def kill_as_it_stands_on_the_base(paused: Paused, lab: Lab, job: Job) -> None:
    """Kill QEMU when the top's header names the base already: the base's last tables are not written then.

    A busy machine may be too late for that: then all must be well, too.
    """
    qemu = int(next((lab.root / "run").rglob(f"{paused.guest.name}.pid")).read_text())
    with open(paused.guest.chain().top, "rb") as file:
        was = os.pread(file.fileno(), 2048, 0)
        while job.running and os.pread(file.fileno(), 2048, 0) == was:
            pass
    os.kill(qemu, signal.SIGKILL)
    with suppress(VmsnapError):
        job.wait(60)


@pytest.fixture
def three(paused: Paused) -> str:
    """Take three snapshots; gives what the disk holds then."""
    paused.take("a")
    paused.take("b", "c", size="40M")
    before = paused.reads()
    paused.start()
    return before


def test_its_qemu_is_killed_at_the_very_end(paused: Paused, three: str, lab: Lab) -> None:
    kill_as_it_stands_on_the_base(paused, lab, paused.guest.delete_snapshot("b").start())
    assert paused.reads() == three
    paused.finish()
    assert paused.reads() == three
    if "b" in paused.statuses:
        paused.delete("b")
    assert paused.reads() == three


@pytest.mark.parametrize("verb", ["commit", "delete"])
def test_both_are_killed_at_the_very_end(
    paused: Paused, three: str, lab: Lab, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    for module in ("merge", "delete"):  # as if this process was no more
        monkeypatch.setattr(f"vmsnap_nb.live.guest_actions.{module}.put_back", lambda *_: None)
    guest = paused.guest
    commit = partial(guest.commit, top=f"{guest.name}.b", base=f"{guest.name}.a")
    plan = commit() if verb == "commit" else guest.delete_snapshot("b")
    kill_as_it_stands_on_the_base(paused, lab, plan.start())
    guest.destroy()
    paused.finish()
    assert paused.reads() == three
    assert guest.concerns() == ()
    if "b" in paused.statuses:
        paused.delete("b")
    assert paused.reads() == three


LAYERS = """
    from support.content import content
    from support.images import write
    def made(lab):
        guest = lab.guest("demo", backing=lab.base("RootBase"), boot="disk")
        for number, name in enumerate("abc", start=1):
            guest.snapshot(name, kind="external-disk").run(progress=False)
            write(Path(guest.chain().top), f"write -q -P {number} {number * 40}M {20 if name == 'c' else 30}M")
        return guest
"""


def _python(code: str, *arguments: object) -> list[str]:
    done = run_python(textwrap.dedent(LAYERS) + textwrap.dedent(code), *arguments)
    assert done.returncode in (0, -9), done.stderr
    return done.stdout.splitlines()


AFTERWARDS = """
    with vs.Lab(sys.argv[1]) as lab:
        guest, deleted = lab.guest("demo"), sys.argv[3]
        if sys.argv[2] == "live":
            deadline = time.monotonic() + 60
            while guest.running and guest.handle.domain.blockJobInfo("vda") and time.monotonic() < deadline:
                time.sleep(0.05)
        # Either it is done, or something says that it is not.
        said = {s.name: s.status for s in guest.snapshots()}
        print(bool(guest.unfinished()) or deleted in said or set(said.values()) == {"ok"})
        for plan in guest.unfinished():
            for _ in range(50):
                try:
                    print(plan.run(progress=False).as_predicted)
                    break
                except errors.PlanRefusedError as error:
                    refused = error
                    time.sleep(0.2)
                    plan = guest.unfinished()[0]
            else:  # QEMU may keep open what libvirt had no time to make it close; with its end it is free
                print(refused, file=sys.stderr)
                guest.destroy()
                print(guest.unfinished()[0].run(progress=False).as_predicted)
        if deleted in guest.snapshots():
            print(guest.delete_snapshot(deleted).run(progress=False).as_predicted)
        if guest.running:
            guest.destroy()
        print(sorted((s.name, s.status) for s in guest.snapshots()), len(guest.chain()), guest.unfinished())
        print(sorted(path.name for path in lab.root.glob("images/.vmsnap*")))
        print(content(guest.chain().top))
        lab.destroy()
"""


@pytest.mark.parametrize("moment", ["copying", "later"])
def test_killed_while_qemu_goes_on(short: Path, moment: str) -> None:
    lab = short / "l"
    [before] = _python("lab = vs.Lab(sys.argv[1], keep=True); print(content(made(lab).chain().top))", lab)
    _python(
        """
        from support.labs import start_paused
        lab = vs.Lab(sys.argv[1], keep=True)
        guest = lab.guest("demo")
        start_paused(guest)
        job = guest.delete_snapshot("b").start()
        while job.running and not guest.handle.domain.blockJobInfo("vda"):
            time.sleep(0.001)
        if sys.argv[2] == "later":
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        lab,
        moment,
    )
    said, *finished, state, entries, after = _python(AFTERWARDS, lab, "live", "b")
    assert said == "True"
    assert set(finished) <= {"True"}
    assert state == "[('a', 'ok'), ('c', 'ok')] 4 ()"
    assert entries == "[]"
    assert after == before


@pytest.mark.parametrize(
    ("moment", "deleted"),
    [("commit", "b"), ("commit", "c"), ("rebase -q -u", "b"), ("rm", "b"), ("define", "b")],
)
def test_killed_between_the_steps_of_a_guest_that_is_off(short: Path, moment: str, deleted: str) -> None:
    """The process ends right after one of the steps: a snapshot is then half deleted.

    Where it was the last one, the guest has not yet got the image below as its disk.
    """
    lab = short / "l"
    [before] = _python("lab = vs.Lab(sys.argv[1], keep=True); print(content(made(lab).chain().top))", lab)
    _python(
        """
        from support.faulty import faulty, killed
        from vmsnap_nb.plans.merge.steps import CommitLayers, RemoveFile, Repoint
        from vmsnap_nb.plans.snapshot.steps import MoveRecord
        lab = vs.Lab(sys.argv[1], keep=True)
        plan = lab.guest("demo").delete_snapshot(sys.argv[3])
        kind = {"commit": CommitLayers, "rebase -q -u": Repoint, "rm": RemoveFile, "define": MoveRecord}[sys.argv[2]]
        faulty(plan, kind, killed).run(progress=False)
        """,
        lab,
        moment,
        deleted,
    )
    said, *finished, state, entries, after = _python(AFTERWARDS, lab, "off", deleted)
    assert said == "True"
    assert finished
    assert set(finished) == {"True"}
    left = [(name, "ok") for name in "abc" if name != deleted]
    assert state == f"{left} 4 ()"
    assert entries == "[]"
    assert after == before


PAIR = """
    from support.guests import attach
    lab = vs.Lab(sys.argv[1], keep=True)
    guest = lab.guest("demo", backing=lab.base("RootBase"), boot="disk")
    attach(guest, ("vdb", lab.root / "images" / "data.qcow2", "qcow2", "disk"))
    for number, name in enumerate("abc", start=1):
        guest.snapshot(name, kind="external-disk").run(progress=False)
        for disk in guest.domain().disks:
            write(Path(disk.source), f"write -q -P {number} {number * 64}k 64k")
    for disk in guest.domain().disks:
        print(content(guest.snapshots()["c"].record.held_disks[disk.target == "vdb"].source), content(disk.source))
"""


@pytest.mark.parametrize("moment", ["Repoint", "MarkInvalid"])
def test_with_two_disks_the_snapshot_above_stays(short: Path, moment: str) -> None:
    lab = short / "l"
    before = _python(PAIR, lab)
    _python(
        """
        from support.faulty import faulty, killed
        lab = vs.Lab(sys.argv[1], keep=True)
        done = []
        def second(step, perform):  # the first disk is done with it already
            done.append(step)
            return perform(step) if len(done) == 1 else killed(step, perform)
        faulty(lab.guest("demo").delete_snapshot("b"), sys.argv[2], second).run(progress=False)
        """,
        lab,
        moment,
    )
    *finished, state, first, second = _python(
        """
        with vs.Lab(sys.argv[1]) as lab:
            guest = lab.guest("demo")
            while left := guest.unfinished():
                print(left[0].run(progress=False).as_predicted)
            if "b" in guest.snapshots():
                print(guest.delete_snapshot("b").run(progress=False).as_predicted)
            print({s.name: s.status for s in guest.snapshots()})
            held = {disk.target: disk.source for disk in guest.snapshots()["c"].record.held_disks}
            for disk in guest.domain().disks:
                print(content(held[disk.target]), content(disk.source))
            lab.destroy()
        """,
        lab,
    )
    assert set(finished) == {"True"}
    assert state == "{'a': 'ok', 'c': 'ok'}"
    assert [first, second] == before


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("moment", ["CommitLayers", "Repoint"])
def test_with_two_disks_the_deletion_can_be_completed(short: Path, moment: str, detached: bool) -> None:
    """The process ends when one disk's part is merged: the record says so, and leads to the rest.

    That disk may be detached before the merge is finished.
    """
    lab = short / "l"
    before = _python(PAIR, lab)
    _python(
        """
        from support.faulty import faulty, killed
        lab = vs.Lab(sys.argv[1], keep=True)
        faulty(lab.guest("demo").delete_snapshot("b"), sys.argv[2], killed).run(progress=False)
        """,
        lab,
        moment,
    )
    finished, half, chains, done, first, second = _python(
        """
        import xml.etree.ElementTree as ET
        with vs.Lab(sys.argv[1]) as lab:
            guest = lab.guest("demo")
            domain = guest.handle.domain
            [disk] = ET.fromstring(domain.XMLDesc(2)).findall("devices/disk/target[@dev='vdb']/..")
            if sys.argv[2] == "True":
                domain.detachDeviceFlags(ET.tostring(disk, encoding="unicode"), 2)
            [plan] = guest.unfinished()
            [lost] = (concern for concern in plan.concerns if concern.name == "state-lost")
            print(plan.run(progress=False).as_predicted, guest.unfinished(), lost.remedy)
            print({s.name: s.status for s in guest.snapshots()})
            if sys.argv[2] == "True":
                domain.attachDeviceFlags(ET.tostring(disk, encoding="unicode"), 2)
            again = guest.delete_snapshot("b").run(progress=False).as_predicted
            print([len(guest.chain(target)) for target in ("vda", "vdb")])
            print(again, {s.name: s.status for s in guest.snapshots()})
            held = {disk.target: disk.source for disk in guest.snapshots()["c"].record.held_disks}
            for disk in guest.domain().disks:
                print(content(held[disk.target]), content(disk.source))
            lab.destroy()
        """,
        lab,
        detached,
    )
    assert finished == "True () to delete it completely, run guest.delete_snapshot('b')"
    assert half == "{'a': 'ok', 'b': 'missing-file', 'c': 'ok'}"
    assert chains == "[4, 3]"
    assert done == "True {'a': 'ok', 'c': 'ok'}"
    assert [first, second] == before


def test_a_full_disk_in_the_middle(short: Path) -> None:
    with small_disk(short / "small", "40m"):
        done = _python(
            """
            import shutil
            from support.images import create
            small = Path(sys.argv[1]) / "small"
            base = create(small / "Base.qcow2", size=256 << 20)
            with vs.Lab(Path(sys.argv[1]) / "l") as lab:
                guest = lab.guest("demo", backing=base, boot="disk", protect=False)
                for number, name in enumerate("ab", start=1):
                    disks = {"vda": small / f"{name}.qcow2"}
                    guest.snapshot(name, kind="external-disk", disks=disks).run(progress=False)
                    write(Path(guest.chain().top), f"write -q -P {number} {number * 20}M 10M")
                before = content(guest.chain().top)
                plan = guest.delete_snapshot("b")
                filler = small / "filler"
                filler.write_bytes(b"x" * shutil.disk_usage(small).free)
                try:
                    plan.run(progress=False)
                except errors.PlanRefusedError as error:
                    print(sorted({c.name for c in error.concerns}))
                try:
                    guest.delete_snapshot("b").run(waive="no-space", progress=False)
                except errors.NoSpaceError as error:
                    print("NoSpaceError", bool(error.next_step))
                print(content(guest.chain().top) == before, {s.name: s.status for s in guest.snapshots()})
                filler.unlink()
                for left in guest.unfinished():
                    left.run(progress=False)
                if "b" in guest.snapshots():
                    print(guest.delete_snapshot("b").run(progress=False).as_predicted)
                print(content(guest.chain().top) == before, {s.name: s.status for s in guest.snapshots()})
                lab.destroy()
            """,
            short,
        )
    assert done == [
        "['no-space']",
        "NoSpaceError True",
        "True {'a': 'ok', 'b': 'ok'}",
        "True",
        "True {'a': 'ok'}",
    ]
