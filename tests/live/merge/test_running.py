"""Merges in the chain of a guest: by block jobs of a QEMU paused at its start, and by qemu-img while it is off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.content import content, content_or_refusal
from support.images import MIB, handout_chain, write
from support.labs import run_python, start_paused
from support.small_disk import small_disk

from vmsnap_nb.errors import (
    GuestError,
    InvalidRequestError,
    LibvirtError,
    NotFoundError,
    PlanRefusedError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.system.libvirt import block_jobs

pytestmark = pytest.mark.guest


class Running:
    """A guest with the handout's chain below its own overlay, Active; and what that reads."""

    def __init__(self, lab: Lab, folder: Path, name: str) -> None:
        self.folder = folder
        handout_chain(folder)
        for path in folder.iterdir():
            path.chmod(0o644)
        self.guest = lab.guest(
            name, backing=folder / "Snap-4.qcow2", boot="disk", overlay=f"{name}-Active", protect=False
        )
        self.active = Path(self.guest.chain().top)
        write(self.active, "write -q -P 77 3M 1M")
        self.content = content(self.active)

    def start(self) -> Guest:
        """Start it paused, so that nothing in it runs."""
        start_paused(self.guest)
        return self.guest

    @property
    def names(self) -> list[str]:
        return [image.name for image in self.guest.chain()]

    def reads(self) -> str:
        """What the guest's disk holds when its QEMU has ended."""
        self.guest.destroy()
        return content(self.guest.chain().top)

    @property
    def path(self) -> Callable[[str], str]:
        return lambda name: str(self.folder / f"{name}.qcow2")


_COUNT = iter(range(1000))


@pytest.fixture
def one(lab: Lab, short: Path) -> Iterator[Running]:
    running = Running(lab, short, f"merge{next(_COUNT)}")
    yield running
    running.guest.destroy()
    running.guest.undefine()
    running.active.unlink(missing_ok=True)


def test_commit_and_pull_of_a_running_guest(one: Running) -> None:
    guest = one.start()
    plan = guest.commit(top="Snap-3", base="Snap-1")
    assert plan.way.startswith("live, with a QEMU block job")
    assert any("virsh" in line and "blockcommit" in line for line in plan.commands)
    assert plan.bytes_to_copy
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    assert one.names == ["RootBase", "Snap-1", "Snap-4", one.active.stem]
    assert guest.host.survey(one.folder).status(one.path("Snap-2")) == "invalid"
    assert content_or_refusal(one.path("Snap-3")).startswith("refused")
    # A part of the chain, then all of it.
    report = guest.pull(base="Snap-1").run(progress=False)
    assert report.as_predicted, report.differences
    assert one.names == ["RootBase", "Snap-1", one.active.stem]
    report = guest.pull().run(progress=False)
    assert report.as_predicted, report.differences
    assert one.names == [one.active.stem]
    assert one.reads() == one.content


def test_active_commit_with_and_without_pivot(one: Running) -> None:
    guest = one.start()
    kept = guest.commit(base="Snap-4", keep_active=True)
    report = kept.run(progress=False)
    assert report.as_predicted, report.differences
    assert one.names[-2:] == ["Snap-4", one.active.stem]
    assert kept.invalid == ()
    plan = guest.commit(remove=True)
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    assert guest.chain().top == one.path("Snap-4")
    assert not one.active.exists()
    assert one.reads() == one.content
    start_paused(guest)  # the stored record has the new disk, too


def test_a_guest_that_is_off_is_merged_by_qemu_img(one: Running) -> None:
    plan = one.guest.commit(top="Snap-2", base="RootBase", verify=True)
    assert plan.way.startswith("offline")
    assert plan.run(progress=False).as_predicted
    assert one.guest.pull(into="Snap-4", base="RootBase").run(progress=False).as_predicted
    report = one.guest.commit(verify=True).run(progress=False)
    assert report.as_predicted, report.differences
    assert one.names == ["RootBase", "Snap-4"]
    assert one.reads() == one.content
    one.start()


def invalid(one: Running) -> list[str]:
    """What a cleanup would remove, but for orphans that other tests have left beside the active image."""
    found: list[str] = []
    with suppress(InvalidRequestError):  # there are none at all
        found += one.guest.cleanup().unlinks
    return [path for path in found if path.startswith(f"{one.folder}/")]


def test_what_merges_have_left_behind_is_removed_by_report_guest_or_host(one: Running) -> None:
    guest = one.start()
    report = guest.commit(top="Snap-4", base="Snap-3").run(progress=False)
    assert invalid(one) == [one.path("Snap-4")]
    assert report.cleanup().run(progress=False).as_predicted
    assert invalid(one) == []
    guest.commit(top="Snap-3", base="Snap-2").run(progress=False)
    assert guest.cleanup().run(progress=False).as_predicted
    assert guest.commit(top="Snap-2").run(remove=True, progress=False).as_predicted
    assert not os.path.exists(one.path("Snap-2"))
    assert guest.commit(top="Snap-1").run(progress=False).as_predicted
    spare = guest.host.survey(one.folder).cleanup()
    assert one.path("Snap-1") in spare.unlinks  # and what other tests have left on this host
    assert spare.run(progress=False).as_predicted
    assert guest.unfinished() == ()
    with pytest.raises(InvalidRequestError, match="while its guest writes to it"):
        guest.pull().run(verify=True)
    assert one.reads() == one.content


def test_a_cancel_at_any_moment_leaves_the_old_chain(one: Running) -> None:
    guest = one.start()
    names = one.names
    for verb in ("commit", "pull"):
        plan = _slow(guest, verb)
        job = plan.start()
        deadline = time.monotonic() + 20
        while job.progress.done == 0 and time.monotonic() < deadline:
            job.watch(0.05)
        assert job.progress.unit == "bytes"
        assert 0 < job.progress.done < job.progress.total
        with pytest.raises(PlanRefusedError, match="active-job"):
            guest.commit(top="Snap-4").run(progress=False)  # two on one disk at once
        job.cancel()
        assert job.wait(60).cancelled
        assert one.names == names
        for rest in guest.unfinished():
            # A commit leaves an entry, and so the plan that finishes it.
            assert rest.run(progress=False).as_predicted
            names = one.names
        assert guest.unfinished() == ()
    assert one.names == ["RootBase", "Snap-4", one.active.stem]
    assert one.reads() == one.content


def test_shorten_takes_the_way_with_the_fewest_bytes(one: Running) -> None:
    guest = one.start()
    with pytest.raises(InvalidRequestError, match="6 images"):
        guest.shorten(keep=6)
    with pytest.raises(InvalidRequestError, match="only into the active layer of a running guest"):
        guest.shorten(keep="Snap-1")
    with pytest.raises(InvalidRequestError, match="verify cannot compare"):
        guest.shorten(keep=2, verify=True)
    plan = guest.shorten(keep=3, remove=True)
    chosen, *others = plan.alternatives
    assert chosen.chosen
    assert chosen.size == plan.bytes_to_copy
    assert others
    assert all(way.refused or (way.size or 0) >= (chosen.size or 0) for way in others)
    assert plan.run(progress=False).as_predicted
    assert len(one.names) == 3
    guest.destroy()
    off = guest.shorten(keep=["RootBase"])
    assert off.run(progress=False).as_predicted
    assert one.names == ["RootBase", one.active.stem]
    assert one.reads() == one.content


def test_shorten_takes_several_jobs_where_that_copies_less(one: Running) -> None:
    for name, place in (("Snap-2", "10M"), ("Snap-4", "13M")):
        write(Path(one.path(name)), f"write -q -P 22 {place} 3M")
    was = content(one.active)
    guest = one.start()
    plan = guest.shorten(keep=4)
    assert [step.action for step in plan.steps if step.size] == ["commit live", "commit live"]
    assert (plan.bytes_to_copy or 0) < 3 * MIB
    assert plan.run(remove=True, progress=False).as_predicted
    assert one.names == ["RootBase", "Snap-2", "Snap-4", one.active.stem]
    assert guest.unfinished() == ()
    kept = guest.shorten(keep=["RootBase", "Snap-2"])
    assert [step.action for step in kept.steps if step.size] == ["pull live"]
    assert kept.run(progress=False).as_predicted
    assert one.names == ["RootBase", "Snap-2", one.active.stem]
    assert one.reads() == was


def test_a_merge_that_takes_longer_than_its_time_limit_is_undone(one: Running) -> None:
    guest = one.start()
    names = one.names
    with pytest.raises(GuestError, match=r"did not finish within 0\.3 s"):
        guest.commit(base="RootBase", bandwidth=MIB, timeout=0.3).run(progress=False)
    assert one.names == names
    assert one.reads() == one.content


def test_what_is_refused_says_what_there_is(one: Running, lab: Lab) -> None:
    guest = one.start()
    with pytest.raises(PlanRefusedError, match="not-supported"):
        guest.pull(into="Snap-3").run(progress=False)
    with pytest.raises(InvalidRequestError, match="is not below"):
        guest.commit(top="Snap-1", base="Snap-3")
    with pytest.raises(NotFoundError, match="Available: RootBase, Snap-1"):
        guest.commit(top="Snap-9")
    with pytest.raises(InvalidRequestError, match="while its guest writes to it"):
        guest.commit(verify=True)
    with pytest.raises(InvalidRequestError, match="keep_active"):
        guest.commit(top="Snap-2", keep_active=True)
    with pytest.raises(InvalidRequestError, match="bandwidth must be a whole number of bytes per second, 0 or more"):
        guest.pull(bandwidth=-1)
    # Somebody else stands on the base: an overlay, here that of a guest which is off.
    other = lab.guest("standing", backing=one.folder / "Snap-1.qcow2", boot="disk", overlay="standing", protect=False)
    try:
        refused = guest.commit(top="Snap-3", base="Snap-1")
        shared = next(c for c in refused.concerns if c.level == "refuse")
        assert (shared.name, shared.holders) == ("shared-base", ("standing",))
        with pytest.raises(PlanRefusedError, match="shared-base"):
            refused.run(progress=False)
        assert guest.commit(top="Snap-4", base="Snap-3").concerns
        start_paused(other)
        held = guest.commit(top="Snap-3", base="Snap-1")
        assert {c.name for c in held.concerns if c.level == "refuse"} == {"shared-base", "in-use"}
    finally:
        top = other.chain().top
        other.destroy()
        other.undefine()
        os.unlink(top)
    # A layer that was removed by hand since, and a chain that has changed.
    plan = guest.commit(top="Snap-3", base="Snap-1")
    os.rename(one.path("Snap-2"), one.path("Snap-2") + ".away")
    with pytest.raises(StalePlanError):
        plan.run(progress=False)
    os.rename(one.path("Snap-2") + ".away", one.path("Snap-2"))
    stale = guest.pull(base="RootBase")
    assert guest.commit(top="Snap-3", base="Snap-1").run(progress=False).as_predicted
    with pytest.raises(StalePlanError):
        stale.run(progress=False)
    assert one.reads() == one.content


def test_the_guest_ends_and_the_job_is_ended_by_somebody_else(one: Running) -> None:
    guest = one.start()
    for verb in ("pull", "commit"):
        job = _slow(guest, verb).start()
        _wait_for_job(guest)
        guest.handle.domain.blockJobAbort("vda")
        with pytest.raises(LibvirtError, match="another program ended"):
            job.wait(60)
        job = _slow(guest, verb).start()
        _wait_for_job(guest)
        guest.destroy()
        with pytest.raises(VmsnapError):
            job.wait(60)
        assert content(one.active) == one.content
        one.start()
    assert guest.unfinished()[0].run(progress=False).as_predicted
    assert one.reads() == one.content


def test_an_event_of_libvirt_that_does_not_arrive(one: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_jobs.BlockJob, "_hear", lambda *_: None)
    monkeypatch.setattr(block_jobs, "_PATIENCE", 0.3)
    guest = one.start()
    assert guest.commit(remove=True).run(progress=False).as_predicted
    assert guest.commit(top="Snap-3", base="Snap-1").run(progress=False).as_predicted
    assert guest.pull(base="RootBase").run(progress=False).as_predicted
    assert one.names == ["RootBase", "Snap-4"]
    job = guest.pull(bandwidth=MIB // 8).start()
    _wait_for_job(guest)
    guest.handle.domain.blockJobAbort("vda")
    with pytest.raises(LibvirtError, match="ended before it was complete"):
        job.wait(60)
    assert one.names == ["RootBase", "Snap-4"]
    assert one.reads() == one.content


def _slow(guest: Guest, verb: str) -> LivePlan:
    if verb == "commit":
        return guest.commit(top="Snap-3", base="RootBase", bandwidth=MIB // 8)
    return guest.pull(base="RootBase", bandwidth=MIB // 8)


def _wait_for_job(guest: Guest) -> None:
    deadline = time.monotonic() + 20
    while not guest.handle.domain.blockJobInfo("vda"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_full_disk_in_the_middle(short: Path) -> None:
    with small_disk(short / "small", "24m"):
        done = run_python(
            """
            from support.content import content
            from support.images import MIB, create, write
            from support.labs import start_paused
            folder, small = Path(sys.argv[1]), Path(sys.argv[1]) / "small"
            base = create(small / "base.qcow2", size=64 * MIB)
            top = create(folder / "top.qcow2", base)
            write(top, "write -q -P 5 0 40M")
            with vs.Lab(folder / "l") as lab:
                guest = lab.guest("demo", backing=top, boot="disk", protect=False)
                before, names = content(guest.chain().top), [image.name for image in guest.chain()]
                start_paused(guest)
                plan = guest.commit(top="top", base="base")
                print([c.name for c in plan.concerns if c.level == "refuse"])
                try:
                    plan.run(waive="no-space", progress=False)
                except errors.NoSpaceError as error:
                    print("NoSpaceError", bool(error.next_step))
                print([image.name for image in guest.chain()] == names, len(guest.unfinished()))
                guest.destroy()
                print(content(guest.chain().top) == before)
            """,
            short,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['no-space']", "NoSpaceError True", "True 1", "True"]
