"""What plans say that becomes free is what their runs free, by the blocks of the file system."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import qemu_img
from support.content import content
from support.defined import define, file_disk
from support.images import KIB, MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.plan import LivePlan

pytestmark = pytest.mark.system

FEW = 128 * KIB
"""Clusters of tables that may be more or fewer in each file that is written to."""


def chain(folder: Path, base: str = "qcow2", seed: int = 1) -> LiveForest:
    """Base and four overlays that cover each other by chance."""
    dice = random.Random(seed)
    below = create(folder / f"Base.{'img' if base == 'raw' else base}", format=base, size=64 * MIB)
    write(below, *(f"write -P 1 {dice.randrange(60)}M 1M" for _ in range(9)), format=base)
    for number in range(1, 5):
        path = create(folder / f"Snap-{number}.qcow2", below, backing_format=base if number == 1 else "qcow2")
        write(path, *(f"write -P {number} {dice.randrange(230) * 256}k 768k" for _ in range(8)))
        below = path
    return vs.scan(folder)


def check(plan: LivePlan, *, few: int = FEW) -> vs.Freed:
    report = plan.run(progress=False)
    assert report.as_predicted
    frees = report.frees
    assert frees.foreseen
    assert set(frees.found) == set(frees.foreseen)
    for path, size in frees.foreseen.items():
        assert frees.found[path] == pytest.approx(size, abs=few), path
    assert frees.total is not None
    return frees


@pytest.mark.parametrize(
    "plan",
    [
        lambda forest: forest.commit("Snap-4", "Snap-2", remove=True),
        lambda forest: forest.commit("Snap-4", "Base", remove=True),
        lambda forest: forest.pull("Snap-4", "Snap-1", remove=True),
        lambda forest: forest.pull("Snap-4", remove=True),
        lambda forest: forest.remove("Snap-2", method=1),
        lambda forest: forest.remove("Snap-2", method=2),
        lambda forest: forest.shorten("Snap-4", keep=2, remove=True),
    ],
    ids=["commit", "commit-all", "pull", "pull-all", "remove-down", "remove-up", "shorten"],
)
@pytest.mark.parametrize("base", ["qcow2", "raw"])
def test_merges_free_what_was_foreseen(tmp_path: Path, plan: Callable[[LiveForest], LivePlan], base: str) -> None:
    frees = check(plan(chain(tmp_path, base)))
    assert frees.total != 0
    assert len(frees.to_frame()) == len(frees)
    assert frees.to_frame()["freed"].notna().all()


def test_what_stays_frees_nothing_until_it_goes(tmp_path: Path) -> None:
    plan = chain(tmp_path).commit("Snap-4", "Snap-1")
    assert (plan.frees.total or 0) < 0  # the base grows
    assert "frees" in repr(plan.frees).lower()
    report = plan.run(progress=False)
    assert report.frees.found_total == pytest.approx(plan.frees.total, abs=FEW)
    cleanup = report.cleanup()
    assert (check(cleanup).found_total or 0) > 2 * MIB


def test_a_base_with_internal_snapshots_grows_by_what_these_keep(tmp_path: Path) -> None:
    base = create(tmp_path / "Base.qcow2")
    write(base, "write -P 1 0 6M")
    qemu_img("snapshot", "-c", "kept", base)
    write(base, "write -P 2 0 2M")  # this part of the base is its own again
    write(create(tmp_path / "Top.qcow2", base), "write -P 3 0 4M")
    plan = vs.scan(tmp_path).commit("Top", "Base", remove=True)
    frees = check(plan)
    assert frees.found[str(base)] == pytest.approx(-2 * MIB, abs=FEW)


def test_compressed_data_grows_when_it_is_merged(tmp_path: Path) -> None:
    base = create(tmp_path / "Base.qcow2")
    top = create(tmp_path / "Top.qcow2", base)
    write(top, "write -c -P 3 0 4M")
    assert (check(vs.scan(tmp_path).commit("Top", "Base", remove=True)).found_total or 0) < -3 * MIB


def test_a_hard_link_keeps_what_is_removed(tmp_path: Path) -> None:
    forest = chain(tmp_path)
    (tmp_path / "Link.qcow2").hardlink_to(tmp_path / "Snap-3.qcow2")
    plan = forest.commit("Snap-3", "Snap-2", remove=True)
    assert plan.frees[str(tmp_path / "Snap-3.qcow2")] == 0


def test_a_hard_link_of_what_is_removed_stays_with_what_it_is_based_on(tmp_path: Path) -> None:
    forest = chain(tmp_path)
    link = tmp_path / "Link.qcow2"
    link.hardlink_to(tmp_path / "Snap-3.qcow2")
    (tmp_path / "Other.qcow2").symlink_to("Snap-3.qcow2")
    was = content(link)
    report = forest.shorten("Snap-4", keep=1, remove=True).run(progress=False)
    assert report.as_predicted, report.differences
    snap = str(tmp_path / "Snap-3.qcow2")
    assert (report.frees[snap], report.frees.found[snap]) == (0, 0)
    assert content(link) == was
    assert not (tmp_path / "Snap-3.qcow2").exists()


def test_leftovers_and_memory_have_a_size_too(tmp_path: Path) -> None:
    chain(tmp_path)
    left = tmp_path / f".{'0' * 32}.partial"
    left.write_bytes(bytes(MIB))
    plan = vs.scan(tmp_path).cleanup()
    assert plan.frees[str(left)] == MIB
    assert check(plan).found[str(left)] == MIB


# -- snapshots of guests ----------------------------------------------------------------------------------------


def test_deleted_snapshots_of_a_guest(host: Host, tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2")
    guest = define(host, "frees", file_disk(path))
    write(path, "write -P 1 0 4M")
    for number, name in enumerate(("one", "two", "three"), 2):
        guest.snapshot(name, kind="internal-disk").run(progress=False)
        write(path, f"write -P {number} {number - 2}M 2M")
    assert (check(guest.delete_snapshot("two"), few=16 * KIB).total or 0) > 512 * KIB
    assert (check(guest.delete_snapshot("one", children="also"), few=16 * KIB).total or 0) > 3 * MIB
    for name in ("four", "five"):
        guest.snapshot(name, kind="external-disk").run(progress=False)
        write(Path(guest.chain().top), "write -P 9 1M 3M")
    assert (check(guest.delete_snapshot("five")).total or 0) > 2 * MIB


def test_a_list_of_snapshots_says_what_each_frees(host: Host, tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2")
    guest = define(host, "listed", file_disk(path))
    write(path, "write -P 1 0 4M")
    guest.snapshot("inside", kind="internal-disk").run(progress=False)
    write(path, "write -P 2 0 2M")
    guest.snapshot("outside", kind="external-disk").run(progress=False)
    write(Path(guest.chain().top), "write -P 9 1M 3M")
    listed = guest.snapshots()
    frame = listed.to_frame()
    assert list(frame.index) == ["inside", "outside"]
    assert frame["exclusive"].tolist() == [pytest.approx(2 * MIB, abs=FEW), pytest.approx(MIB, abs=FEW)]
    assert frame["freed_if_deleted"].tolist() == [guest.delete_snapshot(name).frees.total for name in frame.index]
    every = host.snapshots().to_frame().loc[guest.name].set_index("name")
    assert every[["exclusive", "freed_if_deleted"]].equals(frame[["exclusive", "freed_if_deleted"]])
    assert (check(guest.delete_snapshot("inside"), few=16 * KIB).found_total) == pytest.approx(2 * MIB, abs=FEW)
    assert guest.snapshots().to_frame()["exclusive"].tolist() == [pytest.approx(3 * MIB, abs=FEW)]
    (tmp_path / "disk.qcow2").rename(tmp_path / "moved.qcow2")
    assert guest.snapshots().to_frame()["exclusive"].isna().all()
