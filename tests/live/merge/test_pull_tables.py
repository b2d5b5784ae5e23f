"""After a live merge all of it is on the disk, not half of it in QEMU's memory: whoever dies, nothing is lost."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import content
from support.images import handout_chain, write
from support.refusals import refused

from vmsnap_nb.errors import InUseError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest_actions import merge
from vmsnap_nb.live.journal import begun, write_entry
from vmsnap_nb.plans.journal import PullEntry, text_of
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.guest


class Pulled:
    """A guest, off, on an image that has data of its own and stands on a chain with more."""

    def __init__(self, lab: Lab, folder: Path, name: str) -> None:
        handout_chain(folder)
        self.lab = lab
        self.guest = lab.guest(name, backing=folder / "Snap-4.qcow2", boot="disk", protect=False)
        self.active = Path(self.guest.chain().top)
        # Now it has a table for all of the disk: QEMU adds to that in memory.
        write(self.active, "write -q -P 77 3M 1M")
        self.content = content(self.active)
        image = self.guest.chain()[-1]
        assert image.backing is not None
        self.entry = PullEntry(image=str(self.active), written=image.backing.written, format=image.backing.format)

    def start(self, *, paused: bool = True) -> None:
        self.guest.handle.domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED if paused else 0)

    def pull_unfinished(self) -> None:
        """What a process leaves behind that is killed while QEMU copies."""
        write_entry(begun(self.entry))
        self.guest.handle.domain.blockRebase("vda", None, 0, 0)
        deadline = time.monotonic() + 30
        while self.guest.handle.domain.blockJobInfo("vda") and time.monotonic() < deadline:
            time.sleep(0.02)

    def kill(self) -> None:
        pid_file = next((self.lab.root / "run").rglob(f"{self.guest.name}.pid"))
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.guest.running and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def journaled(self) -> bool:
        return os.path.exists(self.entry.path)


@pytest.fixture(autouse=True)
def gone(lab: Lab) -> Iterator[None]:
    """Guests and images of these tests go with them: other tests of the lab look for images that were merged away."""
    yield
    for guest in lab.guests():
        if guest.name.startswith("tables-"):
            guest.power.destroy()
            guest.undefine()
    for path in lab.root.glob("images/tables-*"):
        path.unlink()


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "running"])
def test_killed_right_after_a_pull_it_holds_all(lab: Lab, short: Path, paused: bool) -> None:
    it = Pulled(lab, short, f"tables-{paused}")
    it.start(paused=paused)
    state = it.guest.state
    assert it.guest.pull().run(progress=False).as_predicted
    assert it.guest.state == state
    it.kill()
    assert [image.name for image in it.guest.chain()] == [f"tables-{paused}"]
    assert content(it.active) == it.content
    assert not it.journaled
    assert it.guest.unfinished() == ()


@pytest.mark.parametrize("ends", [{"top": "Snap-3", "base": "Snap-1"}, {"base": "Snap-2"}], ids=["between", "pivot"])
def test_killed_right_after_a_commit_it_holds_all(lab: Lab, short: Path, ends: dict[str, str]) -> None:
    it = Pulled(lab, short, f"tables-{len(ends)}-commit")
    write(short / f"{ends['base']}.qcow2", "write -q -P 99 1M 64k")
    it.content = content(it.active)
    it.start()
    assert it.guest.commit(**ends).run(progress=False).as_predicted
    it.kill()
    assert content(it.guest.chain().top) == it.content


def test_killed_before_the_tables_are_written(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-lost")
    it.start()
    it.pull_unfinished()
    it.kill()
    assert len(it.guest.chain()) == 1
    if it.guest.host.connection.getVersion() < 8_000_000:  # so it is with QEMU 7.2, and not with 10.0
        # This is what the entry is for: the header says that it stands alone, and most of the data is not there.
        assert content(it.active) != it.content
    with pytest.raises(InUseError, match="may be incomplete") as refused:
        it.guest.start(wait=False)
    assert "guest.unfinished()[0].run()" in str(refused.value)

    [plan] = it.guest.unfinished()
    assert [step.action for step in plan.steps] == ["repoint", "finish"]
    shown = plan.to_text()
    assert "finish the pull into tables-lost" in shown
    assert plan.run(progress=False).as_predicted
    assert content(it.active) == it.content
    assert len(it.guest.chain()) == 6
    assert not it.journaled
    assert it.guest.concerns() == ()


def test_what_another_program_has_based_on_the_image_waits_for_its_end_too(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-above")
    it.start()
    it.pull_unfinished()
    it.kill()
    overlay = it.active.with_name("tables-above.s.qcow2")
    disks = f"<disks><disk name='vda'><source file='{overlay}'/></disk></disks>"
    flags = library().VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | library().VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    it.guest.handle.domain.snapshotCreateXML(f"<domainsnapshot><name>s</name>{disks}</domainsnapshot>", flags)
    assert Path(it.guest.chain().top) == overlay
    assert refused(it.guest.snapshot("t", kind="external-disk")) == {"active-job"}
    with pytest.raises(InUseError, match="may be incomplete"):
        it.guest.start(wait=False)
    unneeded = {one.path for one in it.guest.host.leftovers()}
    assert unneeded.isdisjoint(str(short / f"{name}.qcow2") for name in ("Snap-4", "Snap-1", "RootBase"))

    [plan] = it.guest.unfinished()
    assert plan.run(progress=False).as_predicted
    assert content(overlay) == it.content
    assert it.guest.unfinished() == it.guest.concerns() == ()


def test_qemu_went_on_alone(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-alone")
    it.start()
    it.pull_unfinished()
    [plan] = it.guest.unfinished()
    assert [step.action for step in plan.steps] == ["pull live"]
    assert plan.run(progress=False).as_predicted
    assert not it.journaled
    it.kill()
    assert content(it.active) == it.content


def test_the_job_goes_on(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-going")
    it.start()
    write_entry(begun(it.entry))
    it.guest.handle.domain.blockRebase("vda", None, 1 << 18, library().VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES)
    [plan] = it.guest.unfinished()
    assert plan.title == "pull RootBase … Snap-4 (5 layers) into tables-going"
    assert plan.concerns == ()
    job = plan.start()
    while not job.progress.text.startswith("pull") and job.running:
        job.watch(0.05)
    it.guest.handle.domain.blockJobSetSpeed("vda", 0)
    assert job.wait(60).as_predicted
    assert not it.journaled
    it.kill()
    assert content(it.active) == it.content


def test_qemu_is_killed_while_we_wait(lab: Lab, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment between the header and the tables: what was there before is there again at once."""
    it = Pulled(lab, short, "tables-moment")
    it.start()
    really = merge.write_out

    def killed_first(domain: object, *, tried: str) -> None:
        it.kill()
        really(domain, tried=tried)

    monkeypatch.setattr(merge, "write_out", killed_first)
    with pytest.raises(Exception, match=r"not running"):
        it.guest.pull().run(progress=False)
    assert content(it.active) == it.content
    assert len(it.guest.chain()) == 6
    assert not it.journaled


def test_nothing_had_happened(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-nothing")
    write_entry(begun(it.entry))
    [plan] = it.guest.unfinished()
    assert [step.action for step in plan.steps] == ["finish"]
    assert plan.run(progress=False).as_predicted
    assert not it.journaled


def test_the_old_backing_file_has_gone(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-gone")
    write_entry(PullEntry(image=str(it.active), written=str(short / "Gone.qcow2"), format="qcow2"))
    [plan] = it.guest.unfinished()
    assert refused(plan) == {"missing-base"}
    assert it.entry.path in plan.concerns[0].remedy
    os.unlink(it.entry.path)


def test_another_image_of_that_name_is_not_based_on_the_old_one(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-restored")
    write_entry(begun(it.entry))
    shutil.copyfile(it.active, short / "copy")
    os.replace(short / "copy", it.active)
    [plan] = it.guest.unfinished()
    assert refused(plan) == {"disk-changed"}
    os.unlink(it.entry.path)


def test_an_entry_about_another_image_leads_nowhere(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-other")
    about_another = PullEntry(image=str(it.active.parent / "Other.qcow2"), written="base.qcow2", format="qcow2")
    write_entry(about_another)
    elsewhere = it.active.parent / ".vmsnap-pull-0000000000000000.json"
    elsewhere.write_text(text_of(it.entry))
    Path(it.entry.path).write_text("{")
    try:
        assert it.guest.unfinished() == ()
    finally:
        for path in (about_another.path, elsewhere, it.entry.path):
            os.unlink(path)


def test_the_commands_write_the_tables_too(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-by-hand")
    it.start(paused=False)
    assert [line.split()[3] for line in it.guest.pull().commands] == ["blockpull", "suspend", "resume"]
    it.guest.handle.domain.suspend()
    lines = it.guest.pull().commands
    assert [line.split()[3] for line in lines] == ["blockpull", "qemu-monitor-command"]
    assert shlex.split(lines[1])[-1] == '{"execute": "stop"}'
