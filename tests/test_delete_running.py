"""Snapshots of guests that run, deleted; and what happens when that is cut short."""

from __future__ import annotations

import os
import signal
import textwrap
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from kinds import record
from labs import run_python
from merging import content, create, write
from small_disk import small_disk

from vmsnap_nb.errors import GuestError, PlanRefusedError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.job import Job
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt_block_jobs import start_commit
from vmsnap_nb.system.libvirt_library import library

pytestmark = pytest.mark.guest


class Paused:
    """A guest that is paused at its start, so that its disk changes only by what is done here."""

    def __init__(self, lab: Lab, base: Image, name: str) -> None:
        self.guest = lab.guest(name, backing=base, boot="disk")
        self.images = Path(self.guest.chain().top).parent
        self.layers = 0
        self.write()
        self.start()

    def start(self) -> None:
        self.guest._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)

    @property
    def names(self) -> list[str]:
        return [image.name.removeprefix(f"{self.guest.name}.") for image in self.guest.chain()]

    @property
    def statuses(self) -> dict[str, str]:
        return {row.name: row.status for row in self.guest.snapshots()}

    def write(self, size: str = "1M") -> None:
        self.layers += 1
        write(Path(self.guest.chain().top), f"write -q -P {self.layers} {20 + self.layers * 3}M {size}")

    def take(self, *names: str, kind: str = "external-disk", size: str = "1M") -> None:
        """Take snapshots; the guest is off for a moment after each, since something must be written."""
        for name in names:
            assert self.guest.snapshot(name, kind=kind).run(progress=False).as_predicted  # type: ignore[arg-type]
            self.guest.destroy()
            self.write(size)
            self.start()

    def delete(self, name: str, **options: object) -> LivePlan:
        plan = self.guest.delete_snapshot(name, **options)  # type: ignore[arg-type]
        report = plan.run(progress=False)
        assert report.as_predicted, report.differences
        assert set(self.statuses.values()) <= {"ok"}
        assert not any(os.path.lexists(path) for path in plan.unlinks)
        assert list(self.images.glob(".vmsnap*")) == []
        return plan

    def finish(self) -> None:
        """Do all that was cut short: what is taken back, is merged again then."""
        for _ in range(2):
            for plan in self.guest.unfinished():
                assert plan.run(progress=False).as_predicted
        assert self.guest.unfinished() == ()

    def reads(self) -> str:
        """What its disk holds, once it has ended."""
        self.guest.destroy()
        return content(self.guest.chain().top)

    def end(self) -> None:
        self.guest.destroy()
        for row in self.guest.snapshots().records:
            found = self.guest._domain.snapshotLookupByName(row.name)
            found.delete(library().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        self.guest.undefine()
        for path in self.images.glob(f"{self.guest.name}*"):
            path.unlink()


@pytest.fixture
def paused(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Iterator[Paused]:
    one = Paused(lab, base, f"rm{abs(hash(request.node.nodeid)) % 10**6}")
    yield one
    one.end()


def test_the_middle_the_first_and_the_current(paused: Paused) -> None:
    paused.take("a", "b")
    paused.take("c", size="64k")
    before = paused.reads()
    paused.start()
    plan = paused.delete("b")
    assert [way.what[:2] for way in plan.alternatives if way.chosen] == ["do"]
    by_libvirt = [step.action for step in plan.steps] == ["delete snapshot"]
    assert by_libvirt == (library().getVersion() >= 11_000_000)
    assert by_libvirt or any("blockcommit" in line for line in plan.commands)
    assert "a running guest writes to" in next(way for way in plan.alternatives if not way.chosen).refused
    assert paused.names == ["RootBase", paused.guest.name, "a", "c"]
    current = paused.delete("c")
    assert by_libvirt or "pivot" in current.way
    assert paused.names == ["RootBase", paused.guest.name, "a"]
    assert paused.guest.snapshots().current.name == "a"  # type: ignore[union-attr]
    assert paused.reads() == before
    paused.start()  # the stored record has the right disk, too
    paused.delete("a")
    assert len(paused.guest.snapshots()) == 0
    assert paused.reads() == before
    record("external-disk", "running", "delete", "works" if by_libvirt else "works, by our steps")


def test_up_into_the_image_that_it_writes_to(paused: Paused) -> None:
    paused.take("a", size="64k")
    paused.take("b", size="4M")
    before = paused.reads()
    paused.start()
    plan = paused.delete("b")
    assert [way.what[:2] for way in plan.alternatives if way.chosen] == ["up"]
    assert any("blockpull" in line for line in plan.commands)
    assert paused.names == ["RootBase", paused.guest.name, "b"]
    assert paused.reads() == before


def test_with_children_by_one_job(paused: Paused) -> None:
    paused.take("a", "b", "c", "d", size="256k")
    before = paused.reads()
    paused.start()
    plan = paused.delete("b", children="only")
    assert sum(step.action.endswith("live") for step in plan.steps) == 1
    assert paused.statuses == {"a": "ok", "b": "ok"}
    assert len(paused.names) == 4
    paused.delete("a", children="also")
    assert paused.statuses == {}
    assert paused.reads() == before


def test_those_with_memory(paused: Paused) -> None:
    paused.guest.snapshot("a", kind="external-checkpoint").run(progress=False)
    memory = paused.guest.snapshots()["a"].record.memory_file
    assert memory is not None
    # After its memory was written QEMU lets nothing be written until it goes on.
    with pytest.raises(GuestError, match="resume it"):
        paused.guest.snapshot("again", kind="external-checkpoint").run(progress=False)
    assert paused.statuses == {"a": "ok"}
    paused.guest._domain.resume()
    plan = paused.delete("a")
    assert memory in plan.unlinks
    by_libvirt = "delete snapshot" in [step.action for step in plan.steps]
    record("external-checkpoint", "running", "delete", "works" if by_libvirt else "works, by our steps")
    paused.guest.snapshot("b", kind="external-checkpoint").run(progress=False)
    paused.guest.destroy()
    assert paused.statuses == {"b": "ok"}
    record("external-checkpoint", "off", "list")
    paused.delete("b")
    record("external-checkpoint", "off", "delete", "works, by our steps")
    paused.start()
    for name in "cde":
        paused.guest.snapshot(name, kind="internal-checkpoint").run(progress=False)
    plan = paused.delete("d")
    assert plan.commands == (
        f"virsh -c '{paused.guest.host.uri}' snapshot-delete --domain {paused.guest.name} --snapshotname d",
    )
    assert paused.guest.snapshots()["e"].record.parent == "c"
    record("internal-checkpoint", "running", "delete")
    paused.guest.destroy()
    assert paused.statuses == {"c": "ok", "e": "ok"}
    record("internal-checkpoint", "off", "list")
    paused.delete("e")
    record("internal-checkpoint", "off", "delete", "works, by our steps")
    paused.guest.snapshot("f", kind="internal-disk").run(progress=False)
    paused.start()
    assert paused.statuses["f"] == "ok"
    record("internal-disk", "running", "list")
    paused.delete("f")
    record("internal-disk", "running", "delete")
    assert [inside.name for inside in paused.guest.chain()[-1].snapshots] == ["c"]


def test_an_internal_one_below_waits_until_it_is_off(paused: Paused) -> None:
    """libvirt 9.0 would only forget the record: QEMU looks into the images that it writes to, and into no other."""
    paused.guest.snapshot("a", kind="internal-checkpoint").run(progress=False)
    paused.take("b", size="64k")
    with pytest.raises(PlanRefusedError, match=r"shut \w+ down first"):
        paused.guest.delete_snapshot("a").run(progress=False)
    assert paused.statuses == {"a": "ok", "b": "ok"}
    paused.guest.destroy()
    paused.delete("a")
    paused.start()
    paused.delete("b")


def test_a_branch_that_it_does_not_have_open(paused: Paused) -> None:
    paused.take("a", "b", size="256k")
    paused.guest.destroy()
    left = paused.guest.chain().top
    [a] = paused.guest.snapshots()["a"].record.disks
    other = create(paused.images / f"{paused.guest.name}.x.qcow2", a.source)
    root = ET.fromstring(paused.guest.xml().replace(left, str(other)))
    for disk in root.iterfind("devices/disk"):
        for below in disk.findall("backingStore"):  # what libvirt has found out below the old one
            disk.remove(below)
    paused.guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))
    paused.write()
    before, beside = content(other), content(left)
    paused.start()
    plan = paused.delete("a")  # its image is below both
    assert plan.writes == (a.file,)
    assert any("qemu-img rebase" in line for line in plan.commands)
    assert content(left) == beside
    paused.delete("b")
    assert not os.path.lexists(left)
    assert paused.reads() == before


def test_an_active_job_stands_in_the_way(paused: Paused) -> None:
    paused.take("a", size="64k")
    plan = paused.guest.delete_snapshot("a")
    paused.guest._domain.blockPull("vda", 1)  # 1 MiB/s
    try:
        for late in (plan, paused.guest.delete_snapshot("a")):
            with pytest.raises(PlanRefusedError, match="active-job"):
                late.run(progress=False)
        paused.guest.delete_snapshot("a", metadata_only=True)
    finally:
        paused.guest._domain.blockJobAbort("vda")
    paused.delete("a")


def slowly(start: Callable[..., None], *args: object, **options: object) -> None:
    start(*args, **{**options, "bandwidth": 32 << 20})


def test_its_qemu_is_killed_in_the_middle(paused: Paused, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    paused.take("a")
    paused.take("b", size="160M")
    paused.take("c", size="160M")
    before = paused.reads()
    paused.start()
    qemu = int(next((lab.root / "run").rglob(f"{paused.guest.name}.pid")).read_text())
    # So that it is in the middle for a while. From libvirt 11 it is its own deletion, for whose end others wait.
    monkeypatch.setattr("vmsnap_nb.live.merge_live.start_commit", partial(slowly, start_commit))
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
    paused.take("b", "c", size="160M")
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
    for module in ("merge_live", "delete"):  # as if this process was no more
        monkeypatch.setattr(f"vmsnap_nb.live.{module}.put_back", lambda *_: None)
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


def test_the_guest_itself_sees_its_files_all_the_time(lab: Lab, base: Image) -> None:
    guest = lab.guest("eyes", backing=base).start()
    guest.execute(
        "(while :; do n=$((n+1)); echo $n > /run/new; mv /run/new /run/beats; sleep 0.1; done) & echo $! > /run/heart"
    ).check()
    depth = len(guest.chain())
    for name in ("one", "two", "three"):
        guest.execute(f"echo {name} > /deleted-{name}; head -c 400000 /dev/urandom > /blob-{name}").check()
        guest.snapshot(f"eyes-{name}", kind="external-disk").run(progress=False)
    sums = guest.execute("cat /deleted-*; sha1sum /blob-*").stdout
    beats = int(guest.execute("cat /run/beats").stdout)
    assert guest.delete_snapshot("eyes-two").run(progress=False).as_predicted
    assert guest.delete_snapshot("eyes-three").run(progress=False).as_predicted
    assert guest.delete_snapshot("eyes-one").run(progress=False).as_predicted
    assert len(guest.chain()) == depth
    assert guest.execute("cat /deleted-*; sha1sum /blob-*").stdout == sums
    assert int(guest.execute("cat /run/beats; kill $(cat /run/heart)").stdout) > beats
    assert guest.snapshots().names == ()
    guest.destroy()
    guest.undefine()


# -- cut short -------------------------------------------------------------------------------------------


LAYERS = """
    from merging import content, write
    def made(lab):
        guest = lab.guest("demo", backing=lab.base("RootBase"), boot="disk")
        for number, name in enumerate("abc", start=1):
            guest.snapshot(name, kind="external-disk").run(progress=False)
            write(Path(guest.chain().top), f"write -q -P {number} {number * 40}M {20 if name == 'c' else 30}M")
        return guest
"""


def _python(code: str, *arguments: object) -> list[str]:
    before = f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    done = run_python(before + textwrap.dedent(LAYERS) + textwrap.dedent(code), *arguments)
    assert done.returncode in (0, -9), done.stderr
    return done.stdout.splitlines()


AFTERWARDS = """
    with vs.Lab(sys.argv[1]) as lab:
        guest, deleted = lab.guest("demo"), sys.argv[3]
        if sys.argv[2] == "live":
            deadline = time.monotonic() + 60
            while guest.running and guest._domain.blockJobInfo("vda") and time.monotonic() < deadline:
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
        from vmsnap_nb.system.libvirt_library import library
        lab = vs.Lab(sys.argv[1], keep=True)
        guest = lab.guest("demo")
        guest._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)
        job = guest.delete_snapshot("b").start()
        while job.running and not guest._domain.blockJobInfo("vda"):
            time.sleep(0.001)
        if sys.argv[2] == "later":
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        lab,
        moment,
    )
    said, *finished, state, notes, after = _python(AFTERWARDS, lab, "live", "b")
    assert said == "True"
    assert set(finished) <= {"True"}
    assert state == "[('a', 'ok'), ('c', 'ok')] 4 ()"
    assert notes == "[]"
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
        from vmsnap_nb.plans.merge_steps import CommitLayers, MarkInvalid, PullLayers, RemoveFile, Repoint
        from vmsnap_nb.plans.snapshot_steps import ForgetRecord, MoveRecord
        lab = vs.Lab(sys.argv[1], keep=True)
        plan = lab.guest("demo").delete_snapshot(sys.argv[3])
        kind = {"commit": CommitLayers, "rebase -q -u": Repoint, "rm": RemoveFile, "define": MoveRecord}[sys.argv[2]]
        action = plan.world.actions[kind]

        def last(step):
            action(step)
            os.kill(os.getpid(), signal.SIGKILL)

        plan.world.actions[kind] = last
        plan.run(progress=False)
        """,
        lab,
        moment,
        deleted,
    )
    said, *finished, state, notes, after = _python(AFTERWARDS, lab, "off", deleted)
    assert said == "True"
    assert finished
    assert set(finished) == {"True"}
    left = [(name, "ok") for name in "abc" if name != deleted]
    assert state == f"{left} 4 ()"
    assert notes == "[]"
    assert after == before


def test_a_full_disk_in_the_middle(short: Path) -> None:
    with small_disk(short / "small", "40m"):
        done = _python(
            """
            import shutil
            from merging import create
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
