"""Entries of the journal that somebody else may have planted: plans name them, and do nothing on their strength."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from pathlib import Path

import pytest
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.live.journal import begun, write_entry
from vmsnap_nb.plans.journal import MergeEntry, text_of

pytestmark = pytest.mark.system


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    create(folder / "base.qcow2", size=1 << 20)
    create(folder / "top.qcow2", "base.qcow2")
    create(folder / "leaf.qcow2", "top.qcow2")
    return folder


def planted(folder: Path, *, phase: str = "copied") -> Path:
    entry = MergeEntry(
        base=str(folder / "base.qcow2"),
        top=str(folder / "top.qcow2"),
        merged=(str(folder / "top.qcow2"),),
        phase=phase,  # type: ignore[arg-type]
        remove=True,
    )
    path = Path(entry.path)
    path.write_text(text_of(entry))
    return path


def test_a_fifo_in_the_folder_makes_nothing_wait(chain: Path) -> None:
    note = chain / ".vmsnap-merge-0000000000000000.json"
    os.mkfifo(note)
    forest = vs.scan(chain)
    assert forest.unfinished() == ()
    plans = [
        forest.commit("top"),
        forest.pull("top"),
        forest.remove("top"),
        forest.shorten("leaf", keep=1, top_may_go=True),
        forest.overlay("new.qcow2", backing="leaf"),
    ]
    for plan in plans:
        assert not plan.refused
        [concern] = [one for one in plan.concerns if one.name == "untrusted-note"]
        assert concern.level == "note"
        assert str(note) in concern.what


def test_what_an_own_entry_says_that_cannot_be_read_is_unknown(chain: Path) -> None:
    note = planted(chain, phase="copying")
    busy = os.open(note, os.O_RDWR)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(busy, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # to open it fails from here on
        forest = vs.scan(chain)
        for plan in (forest.commit("top"), forest.pull("top"), forest.overlay("new.qcow2", backing="leaf")):
            [concern] = [one for one in plan.concerns if one.level == "refuse"]
            assert concern.name == "active-job"
            assert f"cannot read the journal entry {note}" in concern.what
            with pytest.raises(PlanRefusedError):
                plan.run(progress=False)
    finally:
        os.close(busy)
        signal.signal(signal.SIGIO, before)
    assert len(vs.scan(chain).unfinished()) == 1


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_an_interrupted_merge_is_not_forgotten_when_its_folder_is_moved(chain: Path, how: str) -> None:
    top = str(chain / "top.qcow2")
    entry = MergeEntry(base=str(chain / "base.qcow2"), top=top, merged=(top,))
    write_entry(begun(entry))
    moved = chain.with_name("moved")
    if how == "moved":
        chain.rename(moved)
    else:
        shutil.copytree(chain, moved)
    forest = vs.scan(moved)
    assert forest.unfinished() == ()
    for plan in (forest.commit("top"), forest.pull("top"), forest.overlay("new.qcow2", backing="base")):
        [concern] = [one for one in plan.concerns if one.level == "refuse"]
        assert (concern.name, concern.waivable) == ("active-job", True)
        assert f"an interrupted operation on images in {chain}" in concern.what
        assert f"vmsnap_nb.scan({str(chain)!r}).unfinished()" in concern.remedy
    if how == "moved":
        chain.symlink_to(moved)
    [plan] = vs.scan(chain).unfinished()
    assert plan.run(progress=False).as_predicted
    if how == "copied":
        os.unlink(moved / os.path.basename(entry.path))
    assert not vs.scan(moved).overlay("new.qcow2", backing="base").refused


@pytest.mark.parametrize("owner", [12345, None])
def test_nothing_is_done_on_the_strength_of_somebody_elses_file(chain: Path, owner: int | None) -> None:
    note = planted(chain)
    if owner is not None:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(note, owner, owner)
    else:
        note.chmod(0o622)
    assert vs.scan(chain).unfinished() == ()
    plan = vs.scan(chain).commit("top")
    assert not plan.refused
    assert str(note) in "".join(concern.what for concern in plan.concerns if concern.name == "untrusted-note")


def test_entries_count_only_where_the_user_has_named_the_folder(chain: Path, tmp_path: Path) -> None:
    planted(chain)
    mine = tmp_path / "mine"
    mine.mkdir()
    create(mine / "disk.qcow2", chain / "leaf.qcow2")
    assert len(vs.scan(mine, follow=True)) == 4
    assert vs.scan(mine, follow=True).unfinished() == ()
    assert len(vs.scan(mine, chain).unfinished()) == 1
