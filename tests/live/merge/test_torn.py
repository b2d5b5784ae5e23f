"""Commits that ended when an overlay stood on the base already, and not all of that was written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import run
from support.content import content
from support.guests import discard
from support.images import create, write
from support.labs import start_paused
from support.refusals import refused

import vmsnap_nb as vs
from vmsnap_nb.errors import InUseError, PlanRefusedError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.journal import begun, write_entry
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.journal import MergeEntry


class Torn:
    """The chain base <- a <- b <- c, whose b was being committed into a when QEMU ended: c stands on a."""

    def __init__(self, a: Path, b: Path, c: Path, *, whole: bool) -> None:
        self.b, self.c = b, c
        self.holds = content(c)
        if whole:  # all was written: only this process had ended
            run("qemu-img", "commit", "-q", "-d", str(b))
        run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(a), str(c))
        self.entry = MergeEntry(base=str(a), top=str(b), merged=(str(b),), children=(str(c),), remove=True)
        write_entry(begun(self.entry))


# -- images ------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    made = [create(tmp_path / "a.qcow2", size=16 << 20)]
    for number, name in enumerate("bc", start=1):
        made.append(create(tmp_path / f"{name}.qcow2", made[-1]))
        write(made[-1], f"write -q -P {number} {number}M 2M")
    return made


@pytest.mark.system
def test_images_stand_on_what_was_merged_again(chain: list[Path], tmp_path: Path) -> None:
    torn = Torn(*chain, whole=False)
    assert content(torn.c) != torn.holds
    [plan] = vs.scan(tmp_path).unfinished()
    assert plan.title == "undo the merge of b into a"
    assert "may lack data of b" in plan.concerns[0].what
    assert plan.steps[0].what == f"its backing file becomes {torn.b} again; {torn.b} was only read"
    assert plan.run(progress=False).as_predicted
    assert content(torn.c) == torn.holds
    [plan] = vs.scan(tmp_path).unfinished()
    assert plan.title == "commit b into a", "since a part of it may be there already"
    assert plan.run(progress=False).as_predicted
    assert content(torn.c) == torn.holds
    assert vs.scan(tmp_path).unfinished() == ()


@pytest.mark.system
def test_not_on_another_image_of_that_name(chain: list[Path], tmp_path: Path) -> None:
    torn = Torn(*chain, whole=False)
    torn.b.unlink()
    create(torn.b, chain[0])
    os.utime(torn.b, ns=(0, os.stat(torn.entry.path).st_mtime_ns + 1))
    [plan] = vs.scan(tmp_path).unfinished()
    assert refused(plan) == {"disk-changed"}
    with pytest.raises(PlanRefusedError, match="may not be the image that was merged"):
        plan.run(progress=False)
    torn.b.unlink()
    [plan] = vs.scan(tmp_path).unfinished()
    assert refused(plan) == {"missing-base"}


# -- a guest -----------------------------------------------------------------------------------------------


@contextmanager
def torn_guest(lab: Lab, base: Image, *, whole: bool) -> Iterator[tuple[Guest, Torn]]:
    guest = lab.guest("torn", backing=base, boot="disk")
    tops = [guest.chain().top]
    for number, name in enumerate("bcd", start=1):
        assert guest.snapshot(name, kind="external-disk").run(progress=False).as_predicted
        tops.append(guest.chain().top)
        write(Path(tops[-1]), f"write -q -P {number} {number * 40}M 2M")
    torn = Torn(*map(Path, tops[:3]), whole=whole)
    try:
        yield guest, torn
    finally:
        Path(torn.entry.path).unlink(missing_ok=True)  # after it was taken back the merge is still to be made
        discard(guest)


@pytest.mark.guest
def test_a_guest_does_not_start_before_it_is_taken_back(lab: Lab, base: Image) -> None:
    with torn_guest(lab, base, whole=False) as (guest, torn):
        with pytest.raises(InUseError, match="may be incomplete") as said:
            guest.start()
        assert (said.value.next_step or "").startswith("undo it first: guest.unfinished()[0].run()")
        assert refused(guest.revert("d")) == {"active-job"}
        assert guest.snapshot("inside", kind="internal-disk").run(progress=False).as_predicted
        assert "active-job" in refused(guest.revert("inside"))
        assert guest.delete_snapshot("inside").run(progress=False).as_predicted
        assert refused(guest.revert("c")) == {"state-lost"}, "its overlay is on another image until it is taken back"
        # What is asked for again must not go on from the wrong chain.
        assert "active-job" in refused(guest.delete_snapshot("b"))
        [plan] = guest.unfinished()
        assert plan.title == f"undo the merge of {torn.b.stem} into torn"
        assert plan.run(progress=False).as_predicted
        assert content(torn.c) == torn.holds
        assert guest.concerns() == ()
        assert refused(guest.revert("b")) == {"active-job"}, "a part of b may be in it"
        assert guest.delete_snapshot("b").run(progress=False).as_predicted
        assert content(torn.c) == torn.holds
        assert guest.unfinished() == ()


@pytest.mark.guest
def test_one_that_was_started_all_the_same_loses_nothing_more(lab: Lab, base: Image) -> None:
    with torn_guest(lab, base, whole=False) as (guest, torn):
        start_paused(guest)
        [plan] = guest.unfinished()
        assert refused(plan) == {"in-use"}
        assert "may lack data of" in "".join(concern.what for concern in plan.concerns)
        assert "active-job" in refused(guest.delete_snapshot("b"))
        guest.destroy()
        [plan] = guest.unfinished()
        assert plan.run(progress=False).as_predicted
        assert content(torn.c) == torn.holds


@pytest.mark.guest
def test_one_that_goes_on_with_all_data_in_the_base_is_finished(lab: Lab, base: Image) -> None:
    with torn_guest(lab, base, whole=True) as (guest, torn):
        start_paused(guest)
        [plan] = guest.unfinished()
        assert plan.title == f"finish the merge of {torn.b.stem} into torn"
        assert plan.run(progress=False).as_predicted
        assert not torn.b.exists()
        assert {row.name: row.status for row in guest.snapshots()} == {"c": "ok", "d": "ok"}
        guest.destroy()
        assert content(torn.c) == torn.holds
