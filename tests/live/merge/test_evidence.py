"""Nothing is marked, removed or repointed on the strength of a note alone: the images are compared first."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import pytest
from support.content import content
from support.defined import define, file_disk
from support.faulty import faulty
from support.images import create, write
from support.refusals import refused

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, PlanRefusedError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live import image_actions, reading
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.journal import begun, read_entries, write_entry
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.merge.steps import MarkInvalid, Repoint, SetSource
from vmsnap_nb.system.qcow2 import mark

pytestmark = pytest.mark.system


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """The chain base <- top <- leaf, each with data of its own."""
    folder = tmp_path / "images"
    folder.mkdir()
    create(folder / "base.qcow2", size=8 << 20)
    create(folder / "top.qcow2", "base.qcow2")
    create(folder / "leaf.qcow2", "top.qcow2")
    for number, name in enumerate(("base", "top", "leaf"), start=1):
        write(folder / f"{name}.qcow2", f"write -q -P {number} {number}M 2M")
    return folder


def ends(_: object, perform: object) -> NoReturn:
    """Take the place of a step before which a merge is cut short."""
    raise VmsnapError("the machine", said="has ended")


def cut_short(folder: Path, before: type = MarkInvalid) -> str:
    """Commit top into base, up to a step; return what the leaf reads."""
    was = content(folder / "leaf.qcow2")
    plan = vs.scan(folder).commit("top", "base", remove=True)
    with pytest.raises(VmsnapError, match="the machine"):
        faulty(plan, before, ends).run(progress=False)
    return was


def test_what_was_cut_short_is_compared_and_finished(chain: Path) -> None:
    was = cut_short(chain)
    [entry] = read_entries([str(chain)], MergeEntry)
    assert entry.phase == "copied"
    assert {Path(fact.path).name for fact in entry.files} == {"base.qcow2", "top.qcow2"}
    [plan] = vs.scan(chain).unfinished()
    assert not plan.refused
    [who] = [concern.what for concern in plan.concerns if "was started by" in concern.what]
    assert f"uid {os.geteuid()}, process {os.getpid()}" in who
    assert plan.run(progress=False).as_predicted
    assert content(chain / "leaf.qcow2") == was
    assert not (chain / "top.qcow2").exists()


@pytest.mark.parametrize("copy", ["new files", "same files"])
def test_a_note_that_is_older_than_a_restore_removes_nothing(chain: Path, tmp_path: Path, copy: str) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(chain, backup)
    was = cut_short(chain)
    for path in backup.iterdir():
        if copy == "new files":
            (chain / path.name).unlink()
        shutil.copyfile(path, chain / path.name)
    assert content(chain / "leaf.qcow2") == was
    [plan] = vs.scan(chain).unfinished()
    assert refused(plan) == {"disk-changed"}
    assert not any(step.action == "commit" for step in plan.steps)
    said = " ".join(concern.what for concern in plan.concerns if concern.level == "refuse")
    assert said.count("UTC") >= 2, "both times"
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    assert content(chain / "leaf.qcow2") == was
    assert (chain / "top.qcow2").exists()


def test_one_that_copies_again_wants_the_same_files(chain: Path, tmp_path: Path) -> None:
    top = str(chain / "top.qcow2")
    entry = MergeEntry(base=str(chain / "base.qcow2"), top=top, merged=(top,), remove=True)
    write_entry(begun(entry))
    [plan] = vs.scan(chain).unfinished()
    assert not plan.refused
    shutil.copyfile(top, tmp_path / "copy")
    os.replace(tmp_path / "copy", top)
    was = content(chain / "leaf.qcow2")
    [plan] = vs.scan(chain).unfinished()
    assert refused(plan) == {"disk-changed"}
    assert "waive this if these are copies of them" in plan.concerns[0].remedy
    assert plan.run(progress=False, waive="disk-changed").as_predicted
    assert content(chain / "leaf.qcow2") == was


@pytest.mark.parametrize("phase", ["copying", "ready", "pivoting", "copied"])
def test_a_note_without_the_files_is_of_an_older_version_and_unknown(chain: Path, phase: str) -> None:
    top = str(chain / "top.qcow2")
    entry = MergeEntry(base=str(chain / "base.qcow2"), top=top, merged=(top,), phase=phase)  # type: ignore[arg-type]
    write_entry(entry)
    [plan] = vs.scan(chain).unfinished()
    assert refused(plan) >= {"disk-changed"}


def test_what_cannot_be_read_now_is_a_refusal_and_no_error(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(chain)

    def locked(_: object, paths: Iterable[str]) -> dict[str, object]:
        if list(paths):
            raise ImageError("map top", said='Failed to get "consistent read" lock')
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_maps", locked)
        [plan] = vs.scan(chain).unfinished()
        assert refused(plan) == {"in-use"}
        assert plan.steps == ()
        assert "consistent read" in plan.concerns[0].what
    [plan] = vs.scan(chain).unfinished()
    assert plan.run(progress=False).as_predicted


@pytest.mark.guest
def test_a_merge_of_a_guest_is_left_to_that_guest(host: Host, chain: Path) -> None:
    guest, top = define(host, "evidence", file_disk(chain / "leaf.qcow2")), chain / "leaf.qcow2"
    was = content(top)
    plan = guest.commit(base=chain / "top.qcow2", remove=True)
    with pytest.raises(VmsnapError, match="the machine"):
        faulty(plan, SetSource, ends).run(progress=False)
    [entry] = read_entries([str(chain)], MergeEntry)
    assert (entry.guest, entry.uuid) == (guest.name, guest.uuid)
    [plan] = vs.scan(chain).unfinished()
    [concern] = [one for one in plan.concerns if one.level == "refuse"]
    assert concern.name == "other-image"
    assert f"host.guest({guest.name!r}).unfinished()" in concern.remedy
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    assert content(top) == was
    [plan] = guest.unfinished()
    assert plan.run(progress=False).as_predicted
    assert not top.exists()
    assert content(guest.chain().top) == was
    assert vs.scan(chain).unfinished() == ()


@pytest.mark.guest
def test_a_merge_of_a_guest_is_left_to_it_by_another_guest_on_the_same_base(host: Host, chain: Path) -> None:
    create(chain / "other.qcow2", "top.qcow2")
    leaf, other = chain / "leaf.qcow2", chain / "other.qcow2"
    guest, stranger = define(host, "own", file_disk(leaf)), define(host, "stranger", file_disk(other))
    was = content(leaf), content(other)
    plan = guest.commit(top="top", base="base", remove=True)
    with pytest.raises(VmsnapError, match="the machine") as failed:
        faulty(plan, MarkInvalid, ends).run(progress=False)
    call = f"host.guest({guest.name!r}).unfinished()"
    assert any(call in note for note in failed.value.__notes__)
    [theirs] = stranger.unfinished()
    [concern] = [one for one in theirs.concerns if one.level == "refuse"]
    assert (concern.name, concern.holders, concern.waivable) == ("other-image", (guest.name,), True)
    assert call in concern.remedy
    assert any(call in one.remedy for one in stranger.pull().concerns if one.level == "refuse")
    with pytest.raises(PlanRefusedError):
        theirs.run(progress=False)
    [plan] = guest.unfinished()
    assert plan.run(progress=False).as_predicted
    assert (content(leaf), content(other)) == was
    assert stranger.unfinished() == ()


@pytest.mark.guest
@pytest.mark.parametrize("step", [SetSource, MarkInvalid])
def test_a_merge_is_finished_by_its_guest_that_names_the_top_by_a_link_now(host: Host, chain: Path, step: type) -> None:
    top, link = chain / "leaf.qcow2", chain / "link.qcow2"
    link.symlink_to(top.name)
    guest = define(host, f"link-{step.__name__}", file_disk(top))
    was = content(top)
    plan = guest.commit(base=chain / "top.qcow2", remove=True)
    with pytest.raises(VmsnapError, match="the machine"):
        faulty(plan, step, ends).run(progress=False)
    domain = guest.handle.domain
    domain.connect().defineXML(domain.XMLDesc(2).replace(str(top), str(link)))
    [plan] = guest.unfinished()
    assert plan.run(progress=False).as_predicted
    assert content(guest.chain().top) == was
    assert vs.scan(chain).unfinished() == ()


@pytest.mark.guest
@pytest.mark.parametrize("change", ["renamed", "defined again"])
def test_a_merge_is_finished_by_its_guest_under_another_name_or_uuid(host: Host, chain: Path, change: str) -> None:
    leaf = chain / "leaf.qcow2"
    guest = define(host, f"was-{change[:2]}", file_disk(leaf))
    was = content(leaf)
    plan = guest.commit(base=chain / "top.qcow2", remove=True)
    with pytest.raises(VmsnapError, match="the machine"):
        faulty(plan, SetSource, ends).run(progress=False)
    domain, uuid = guest.handle.domain, guest.uuid
    if change == "renamed":
        domain.rename(f"{guest.name}-now")
        guest = host.guest(f"{guest.name}-now")
        [concern] = [one for one in guest.commit(base=chain / "top.qcow2").concerns if one.name == "active-job"]
        assert concern.remedy == "finish it first with guest.unfinished()[0].run()"
        waived: tuple[str, ...] = ()
    else:
        xml = guest.handle.definition()
        domain.undefine()
        host.connection.defineXML(xml.replace(uuid, str(UUID(int=UUID(uuid).int ^ 1))))
        guest = host.guest(guest.name)
        [plan] = guest.unfinished()
        [concern] = [one for one in plan.concerns if one.level == "refuse"]
        assert (concern.name, concern.waivable) == ("other-image", True)
        assert f"waive this if {guest.name} was only redefined, and now has the UUID {guest.uuid}" in concern.remedy
        assert "host.guest" not in concern.remedy
        waived = ("other-image",)
    [plan] = vs.scan(chain).unfinished()
    [concern] = [one for one in plan.concerns if one.level == "refuse"]
    assert "if that guest has another name or UUID now, use unfinished() of the guest that has" in concern.remedy
    [plan] = guest.unfinished()
    assert plan.run(progress=False, waive=waived).as_predicted
    assert content(guest.chain().top) == was
    assert guest.unfinished() == ()


def test_a_merge_of_a_guest_that_is_gone_is_finished_by_waiving_it(chain: Path) -> None:
    top = str(chain / "top.qcow2")
    entry = MergeEntry(base=str(chain / "base.qcow2"), top=top, merged=(top,), remove=True, guest="gone", uuid="0c0c")
    write_entry(begun(entry))
    was = content(chain / "leaf.qcow2")
    plan = vs.scan(chain).unfinished()[0]
    assert refused(plan) == {"other-image"}
    with pytest.raises(VmsnapError, match="the machine"):
        faulty(plan, MarkInvalid, ends).run(progress=False, waive="other-image")
    [again] = read_entries([str(chain)], MergeEntry)
    assert (again.phase, again.guest) == ("copied", "gone"), "whose it was is still known"
    [plan] = vs.scan(chain).unfinished()
    assert plan.run(progress=False, waive="other-image").as_predicted
    assert content(chain / "leaf.qcow2") == was


def test_a_base_that_is_longer_is_compared_as_far_as_the_top_goes(tmp_path: Path) -> None:
    create(tmp_path / "base.qcow2", size=8 << 20)
    write(tmp_path / "base.qcow2", "write -q -P 1 6M 1M")
    create(tmp_path / "top.qcow2", "base.qcow2", size=4 << 20)
    write(tmp_path / "top.qcow2", "write -q -P 2 1M 1M")
    plan = vs.scan(tmp_path).commit("top", "base")
    with pytest.raises(VmsnapError, match="the machine"):
        faulty(plan, MarkInvalid, ends).run(progress=False)
    [rest] = vs.scan(tmp_path).unfinished()
    assert not rest.refused, rest.concerns
    assert rest.run(progress=False).as_predicted


@pytest.mark.parametrize("phase", ["ready", "pivoting"])
def test_after_ready_nothing_is_copied_from_the_top_again(chain: Path, phase: str) -> None:
    top, base = str(chain / "top.qcow2"), str(chain / "base.qcow2")
    (chain / "leaf.qcow2").unlink()
    entry = MergeEntry(base=base, top=top, merged=(top,), active=True, phase=phase)  # type: ignore[arg-type]
    write_entry(begun(entry))
    was = content(Path(base)), content(Path(top))
    [plan] = vs.scan(chain).unfinished()
    assert refused(plan) == {"disk-changed"}
    assert plan.steps == ()
    assert plan.concerns[0].what.count("UTC") == 2
    assert (content(Path(base)), content(Path(top))) == was
    shutil.copyfile(top, chain / "other")
    os.system(f"qemu-img commit -q -d {top}")
    write_entry(begun(entry))
    [plan] = vs.scan(chain).unfinished()
    assert refused(plan) == {"other-image"}, "they read alike, and a guest may have the top as its disk still"
    assert "commit" not in [step.action for step in plan.steps]
    assert plan.run(waive="other-image", progress=False).as_predicted


def test_a_merge_that_goes_on_or_was_cut_short_is_nothing_to_build_on(chain: Path) -> None:
    cut_short(chain, before=Repoint)
    forest = vs.scan(chain)
    for name in ("base", "top"):
        plan = forest.overlay("new.qcow2", backing=name)
        assert refused(plan) == {"active-job"}
        with pytest.raises(PlanRefusedError, match="mixture"):
            plan.run(progress=False)
    assert refused(forest.overlay("new.qcow2", backing="leaf")) == set()
    [plan] = forest.unfinished()
    plan.run(progress=False)
    assert refused(vs.scan(chain).overlay("new.qcow2", backing="base")) == set()


def spoil_refcounts(path: Path) -> None:
    """Let all clusters after the first four count as not in use, as a failed flush does."""
    with open(path, "r+b") as file:
        head = file.read(104)
        table = int.from_bytes(head[48:56])
        file.seek(table)
        block = int.from_bytes(file.read(8))
        file.seek(block + 8)
        file.write(bytes(2 * 64))


def test_a_damaged_base_is_not_written_to_again(chain: Path) -> None:
    was = content(chain / "leaf.qcow2")
    top = str(chain / "top.qcow2")
    spoil_refcounts(chain / "base.qcow2")
    write_entry(begun(MergeEntry(base=str(chain / "base.qcow2"), top=top, merged=(top,), remove=True)))
    before = (chain / "base.qcow2").read_bytes()
    [plan] = vs.scan(chain).unfinished()
    assert refused(plan) == {"damaged-image"}
    assert "qemu-img check -r all" in plan.concerns[0].remedy
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    assert (chain / "base.qcow2").read_bytes() == before
    assert content(chain / "leaf.qcow2") == was


def test_what_a_failed_commit_has_damaged_is_said(chain: Path) -> None:
    plan = vs.scan(chain).commit("top", "base")
    run = image_actions._run

    def fails(argv: tuple[str, ...], tried: str) -> None:
        spoil_refcounts(chain / "base.qcow2")
        raise VmsnapError(tried, said="Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_actions, "_run", fails)
        with pytest.raises(VmsnapError, match="Input/output") as raised:
            plan.run(progress=False)
    assert run is image_actions._run
    assert any("is damaged" in note and "check -r all" in note for note in raised.value.__notes__)
    assert refused(vs.scan(chain).unfinished()[0]) == {"damaged-image"}


# -- a guest -------------------------------------------------------------------------------------------------


@pytest.mark.guest
def test_a_mark_that_may_not_be_on_the_disk_is_taken_off(
    lab: Lab, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = lab.guest("markfsync", backing=base, boot="disk")
    guest.snapshot("x", kind="external-disk", metadata=False).run(progress=False)
    top = guest.chain().top
    write(Path(top), "write -q -P 5 1M 1M")
    was = content(Path(top))
    real, left = os.fsync, [1]

    def fails_once(fd: int) -> None:
        if left[0] and os.readlink(f"/proc/self/fd/{fd}") == top:
            left[0] = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    plan = guest.commit()
    with monkeypatch.context() as patch:
        patch.setattr(mark.os, "fsync", fails_once)
        with pytest.raises(VmsnapError):
            plan.run(progress=False)
    assert not left[0]
    disk = guest.domain().uses[0].path
    assert lab.survey().status(disk) == "ok"
    assert content(Path(disk)) == was
    [rest] = guest.unfinished()
    assert rest.run(progress=False).as_predicted
    assert content(Path(guest.domain().uses[0].path)) == was
    guest.destroy()
    guest.undefine()


@pytest.mark.guest
def test_a_marked_disk_of_a_guest_has_a_plan(lab: Lab, base: Image) -> None:
    guest = lab.guest("marked", backing=base, boot="disk")
    guest.snapshot("x", kind="external-disk", metadata=False).run(progress=False)
    top = guest.chain().top
    below = lab.survey().parent(top)
    assert below is not None
    write(Path(top), "write -q -P 5 1M 1M")
    was = content(Path(top))
    os.system(f"qemu-img commit -q -d {top}")
    write_entry(begun(MergeEntry(base=below, top=top, merged=(top,), phase="copied")))
    mark.mark_invalid(top)
    [plan] = guest.unfinished()
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False).as_predicted
    assert guest.domain().uses[0].path == below
    assert content(Path(below)) == was
    guest.destroy()
    guest.undefine()
