"""After a live merge all of it is on the disk, not half of it in QEMU's memory: whoever dies, nothing is lost."""

from __future__ import annotations

import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from merging import content, handout_chain, write

from vmsnap_nb.errors import InUseError, InvalidRequestError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.merge_live import unfinished_pulls
from vmsnap_nb.live.notes import write_note
from vmsnap_nb.plans.pull_note import PullNote
from vmsnap_nb.system.libvirt_library import library

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
        self.note = PullNote(str(self.active), image.backing.written, image.backing.format)

    def start(self, *, paused: bool = True) -> None:
        self.guest._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED if paused else 0)

    def pull_unfinished(self) -> None:
        """What a process leaves behind that is killed while QEMU copies."""
        write_note(self.note)
        self.guest._domain.blockRebase("vda", None, 0, 0)
        deadline = time.monotonic() + 30
        while self.guest._domain.blockJobInfo("vda") and time.monotonic() < deadline:
            time.sleep(0.02)

    def kill(self) -> None:
        pid_file = next((self.lab.root / "run").rglob(f"{self.guest.name}.pid"))
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.guest.running and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def noted(self) -> bool:
        return os.path.exists(self.note.path)


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
    assert not it.noted
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
        # This is what the note is for: the header says that it stands alone, and most of the data is not there.
        assert content(it.active) != it.content
    with pytest.raises(InUseError, match=r"not all of it may be there") as refused:
        it.guest.start(wait=False)
    assert "guest.unfinished()[0].run()" in str(refused.value)

    [plan] = it.guest.unfinished()
    assert [step.action for step in plan.steps] == ["repoint", "finish"]
    shown = plan.to_text()
    assert "finish the pull into tables-lost" in shown
    assert plan.run(progress=False).as_predicted
    assert content(it.active) == it.content
    assert len(it.guest.chain()) == 6
    assert not it.noted
    assert it.guest.concerns() == ()


def test_qemu_went_on_alone(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-alone")
    it.start()
    it.pull_unfinished()
    [plan] = it.guest.unfinished()
    assert [step.action for step in plan.steps] == ["pull live"]
    assert plan.run(progress=False).as_predicted
    assert not it.noted
    it.kill()
    assert content(it.active) == it.content


def test_the_job_goes_on(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-going")
    it.start()
    write_note(it.note)
    it.guest._domain.blockRebase("vda", None, 1 << 18, library().VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES)
    [plan] = it.guest.unfinished()
    assert plan.title == "pull RootBase … Snap-4 (5 layers) into tables-going"
    assert plan.concerns == ()
    job = plan.start()
    while not job.progress.text.startswith("pull") and job.running:
        job.watch(0.05)
    it.guest._domain.blockJobSetSpeed("vda", 0)
    assert job.wait(60).as_predicted
    assert not it.noted
    it.kill()
    assert content(it.active) == it.content


def test_qemu_is_killed_while_we_wait(lab: Lab, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment between the header and the tables: what was there before is there again at once."""
    from vmsnap_nb.live import merge_live

    it = Pulled(lab, short, "tables-moment")
    it.start()
    really = merge_live.write_out

    def killed_first(domain: object, *, tried: str) -> None:
        it.kill()
        really(domain, tried=tried)

    monkeypatch.setattr(merge_live, "write_out", killed_first)
    with pytest.raises(Exception, match=r"not running"):
        it.guest.pull().run(progress=False)
    assert content(it.active) == it.content
    assert len(it.guest.chain()) == 6
    assert not it.noted


def test_nothing_had_happened(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-nothing")
    write_note(it.note)
    [plan] = it.guest.unfinished()
    assert [step.action for step in plan.steps] == ["finish"]
    assert plan.run(progress=False).as_predicted
    assert not it.noted


def test_the_old_backing_file_has_gone(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-gone")
    write_note(PullNote(str(it.active), str(short / "Gone.qcow2"), "qcow2"))
    with pytest.raises(InvalidRequestError, match="bring it back"):
        it.guest.unfinished()
    os.unlink(it.note.path)


def test_a_note_about_another_image_leads_nowhere(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-other")
    about_another = PullNote(str(it.active.parent / "Other.qcow2"), "base.qcow2", "qcow2")
    write_note(about_another)
    elsewhere = it.active.parent / ".vmsnap-pull-0000000000000000.json"
    elsewhere.write_text(it.note.to_json())
    Path(it.note.path).write_text("{")
    try:
        assert unfinished_pulls(it.guest.domain()) == ()
    finally:
        for path in (about_another.path, elsewhere, it.note.path):
            os.unlink(path)


def test_the_commands_write_the_tables_too(lab: Lab, short: Path) -> None:
    it = Pulled(lab, short, "tables-by-hand")
    it.start(paused=False)
    assert [line.split()[3] for line in it.guest.pull().commands] == ["blockpull", "suspend", "resume"]
    it.guest._domain.suspend()
    lines = it.guest.pull().commands
    assert [line.split()[3] for line in lines] == ["blockpull", "qemu-monitor-command"]
    assert shlex.split(lines[1])[-1] == '{"execute": "stop"}'
