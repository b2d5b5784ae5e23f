"""An internal snapshot that was interrupted in a guest's image: the image is checked, and repaired on a copy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from support.content import content
from support.guests import discard
from support.images import MIB, create, write
from support.labs import start_paused

import vmsnap_nb as vs
from vmsnap_nb.errors import CommandError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.internal_snapshots import changing_inside
from vmsnap_nb.live.journal import read_entries
from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.plans.journal import InsideEntry
from vmsnap_nb.system.qemu import qemu_img

pytestmark = pytest.mark.system


@pytest.fixture
def guest(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guest]:
    base = create(tmp_path / "Base.qcow2", size=16 * MIB)
    one = lab.guest(f"harm{abs(hash(request.node.nodeid)) % 10**6}", backing=base, boot="disk", protect=False)
    write(Path(one.chain().top), "write -q -P 7 1M 1M")
    one.snapshot("first", kind="internal-disk").run(progress=False)
    yield one
    discard(one)


def uncount(path: str) -> None:
    """Write into an image that none of its clusters is in use."""
    with open(path, "r+b") as file:
        file.seek(48)
        file.seek(int.from_bytes(file.read(8)))
        block = int.from_bytes(file.read(8))
        file.seek(block)
        file.write(bytes(64))


def fails(path: str, error: Exception, *, harm: bool) -> Any:
    def call(*_: object, **__: object) -> None:
        if harm:
            uncount(path)
        raise error

    return call


def refusals(guest: Guest) -> list[str]:
    return [concern.name for concern in guest.concerns() if concern.level == "refuse"]


def check_image(path: str) -> ImageCheck:
    return vs.chain(path)[path].check()


@pytest.mark.parametrize("verb", ["snapshot", "delete_snapshot"])
@pytest.mark.parametrize("harm", [True, False])
def test_an_image_is_repaired_after_an_error(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, verb: str, harm: bool
) -> None:
    path, tool = guest.chain().top, qemu_img.run
    before = content(path), content(path, snapshot="first")
    plan = guest.snapshot("second", kind="internal-disk") if verb == "snapshot" else guest.delete_snapshot("first")
    failing = fails(path, CommandError("remove", said="I/O error"), harm=harm)
    with monkeypatch.context() as patched:
        patched.setattr(
            libvirt.virDomain, "snapshotCreateXML", fails(path, libvirt.libvirtError("I/O error"), harm=harm)
        )
        if verb == "delete_snapshot":
            patched.setattr(qemu_img, "run", lambda argv, **how: (tool if "-r" in argv else failing)(argv, **how))
        with pytest.raises(VmsnapError) as said:
            plan.run(progress=False)
    notes = " ".join(getattr(said.value, "__notes__", ()))
    assert (f"{path} was damaged by the interruption and has been repaired" in notes) is harm
    assert (content(path), content(path, snapshot="first")) == before
    assert check_image(path).result == "ok"
    assert guest.unfinished() == ()
    assert not refusals(guest)


def interrupted(path: str, *, harm: bool = True) -> InsideEntry:
    """Leave what a process that is killed in the middle of a snapshot leaves."""
    with contextlib.suppress(KeyboardInterrupt), changing_inside([path], "second", "create"):
        if harm:
            uncount(path)
        raise KeyboardInterrupt
    [entry] = read_entries([str(Path(path).parent)], InsideEntry)
    return entry


@pytest.mark.parametrize("harm", [True, False])
def test_an_image_is_repaired_by_unfinished(guest: Guest, harm: bool) -> None:
    path = guest.chain().top
    before = content(path), content(path, snapshot="first")
    mode = Path(path).stat().st_mode
    interrupted(path, harm=harm)
    assert refusals(guest) == ["active-job"]
    [plan] = guest.unfinished()
    [alone] = vs.scan(Path(path).parent).unfinished()
    assert alone.steps == plan.steps
    assert bool(plan.space_needed) is harm
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    assert (content(path), content(path, snapshot="first")) == before
    assert check_image(path).result == "ok"
    assert Path(path).stat().st_mode == mode
    assert guest.unfinished() == ()
    assert not refusals(guest)


def test_the_next_snapshot_waits_for_the_repair(guest: Guest) -> None:
    path = guest.chain().top
    interrupted(path)
    with pytest.raises(VmsnapError, match="was interrupted, and the image may be damaged"):
        guest.snapshot("third", kind="internal-disk").run(progress=False)
    guest.unfinished()[0].run(progress=False)
    assert guest.snapshot("third", kind="internal-disk").run(progress=False).as_predicted


def test_a_file_that_is_not_the_one_or_has_other_names_is_left_as_it_is(guest: Guest, tmp_path: Path) -> None:
    path = Path(guest.chain().top)
    entry = interrupted(str(path))
    damaged = path.read_bytes()
    (path.parent / "hard.qcow2").hardlink_to(path)
    with pytest.raises(VmsnapError, match="has other names"):
        guest.unfinished()[0].run(progress=False)
    assert path.read_bytes() == damaged
    (path.parent / "hard.qcow2").unlink()
    copy = tmp_path / "copy"
    copy.write_bytes(damaged)
    copy.replace(path)
    [plan] = guest.unfinished()
    assert [c.name for c in plan.concerns if c.level == "refuse"] == ["disk-changed"]
    Path(entry.path).unlink()
    assert path.read_bytes() == damaged


def test_a_running_guest_takes_snapshots_and_is_checked_when_it_is_off(guest: Guest) -> None:
    interrupted(guest.chain().top, harm=False)
    start_paused(guest)
    assert guest.snapshot("third", kind="internal-checkpoint").run(progress=False).as_predicted
    [plan] = guest.unfinished()
    assert [concern.name for concern in plan.concerns if concern.level == "refuse"] == ["in-use"]
    guest.destroy()
    assert guest.unfinished()[0].run(progress=False).as_predicted
    assert guest.unfinished() == ()
