"""What nobody reads of made-up images, against a count of each cluster by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forests import UNIT, forest, image

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.file_space import FileSpace, Stored
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.model.space import ImageSpace, Readers, Space, memory_of, space_of

UNITS = 8
"""Clusters of each disk, at most."""


def file_space(path: str, units: int, has: frozenset[int], inside: dict[str, int] | None = None) -> FileSpace:
    numbers = sorted(number for number in has if number < units)
    extents = tuple(Extent(number * UNIT, UNIT) for number in numbers)
    stored = tuple(Stored(number * UNIT, UNIT, UNIT) for number in numbers)
    held = {frozenset({name}): size for name, size in (inside or {}).items()}
    return FileSpace(LayerMap(path, units * UNIT, extents), stored, held)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Forest, dict[str, FileSpace]]:
    """A tree of images of several sizes, of which external snapshots hold some."""
    images, files, records = [], {}, []
    for number in range(draw(st.integers(1, 7))):
        below = draw(st.sampled_from([None, *range(number)])) if number else None
        units = draw(st.integers(1, UNITS))
        one = image(f"{number}", None if below is None else f"{below}", virtual_size=units * UNIT)
        images.append(one)
        files[one.path] = file_space(one.path, units, draw(st.frozensets(st.integers(0, UNITS - 1))))
        for held in range(draw(st.integers(0, 2)) if draw(st.booleans()) else 0):
            disk = SnapshotDisk("vda", "external", one.path)
            records.append(SnapshotRecord("demo", f"{number}.{held}", disks=(disk,)))
    return forest(*images).edited(records=records), files


def seen(tree: Forest, files: dict[str, FileSpace], without: str = "") -> dict[str, set[int]]:
    """Return the clusters of each image that a leaf or a snapshot reads, found one by one."""
    held = {disk.source for record in tree.records if record.name != without for disk in record.disks}
    found: dict[str, set[int]] = {path: set() for path in tree.images}
    for top in tree.images:
        if tree.known_children(top) and top not in held:
            continue
        for unit in range(UNITS):
            for layer in tree.known_lineage(top):
                if unit * UNIT >= (tree[layer].virtual_size or 0):
                    break
                if any(part.start == unit * UNIT for part in files[layer].stored):
                    found[layer].add(unit)
                    break
    return found


@given(worlds())
def test_what_is_hidden_is_what_no_cluster_of_any_reader_leads_to(world: tuple[Forest, dict[str, FileSpace]]) -> None:
    tree, files = world
    read = seen(tree, files)
    hidden = {row.path: row.hidden for row in space_of(tree, files, {}, {})}
    assert hidden == {path: (len(files[path].stored) - len(read[path])) * UNIT for path in tree.images}


@given(worlds())
def test_what_one_snapshot_alone_reads_is_the_difference_without_it(
    world: tuple[Forest, dict[str, FileSpace]],
) -> None:
    tree, files = world
    readers, read = Readers(tree, files), seen(tree, files)
    for record in tree.records:
        fewer = seen(tree, files, without=record.name)
        assert readers.only_of(record) == sum(len(read[path] - fewer[path]) for path in read) * UNIT


CHAIN = forest(image("base", virtual_size=4 * UNIT), image("top", "base", virtual_size=4 * UNIT))
FILES = {path: file_space(path, 4, frozenset({0, 1})) for path in CHAIN.images}


def rows(tree: Forest, files: dict[str, FileSpace] = FILES, **links: int) -> dict[str, ImageSpace]:
    found = space_of(tree, files, {f"/i/{name}": number for name, number in links.items()}, {})
    return {row.name: row for row in found}


def test_what_was_not_read_hides_nothing_that_is_known() -> None:
    base_only = {"/i/base": FILES["/i/base"]}
    assert (rows(CHAIN)["base"].hidden, rows(CHAIN)["top"].hidden) == (2 * UNIT, 0)
    assert (rows(CHAIN, base_only)["base"].hidden, rows(CHAIN, base_only)["top"].hidden) == (None, None)
    unknown = CHAIN.edited(put=[replace(CHAIN["/i/top"], virtual_size=None)])
    assert rows(unknown)["base"].hidden is None
    broken = CHAIN.edited(put=[replace(CHAIN["/i/top"], status="corrupt")])
    assert rows(broken)["base"].hidden is None


def test_what_was_merged_reads_nothing_and_saved_memory_reads_all() -> None:
    merged = CHAIN.edited(put=[replace(CHAIN["/i/top"], status="invalid")])
    assert (rows(merged)["base"].hidden, rows(merged)["top"].hidden) == (0, 2 * UNIT)
    assert rows(merged)["top"].reclaim == "forest.cleanup()"
    needed = CHAIN.edited(needs=[Need("saved memory", "/i/base", "demo", "/i/demo.mem")])
    assert rows(needed)["base"].hidden == 0
    recorded = CHAIN.edited(records=[SnapshotRecord("demo", "a", disks=(SnapshotDisk("vda", "internal", "/i/base"),))])
    assert rows(recorded)["base"].hidden == 2 * UNIT


def test_a_file_frees_what_no_other_name_and_no_other_file_keeps() -> None:
    assert [rows(CHAIN, base=number)["base"].exclusive for number in (1, 2)] == [1 << 20, 0]
    assert rows(CHAIN)["base"].exclusive is None
    device = CHAIN.edited(put=[replace(CHAIN["/i/base"], device=True)])
    assert rows(device, base=1)["base"].exclusive is None
    for shared, free in ((1 << 19, 1 << 19), (1 << 30, 0), (None, None)):
        (row, _) = space_of(CHAIN, FILES, {"/i/base": 1}, {}, {"/i/base": shared})
        assert row.exclusive == free


def test_one_file_of_several_names_is_one_row() -> None:
    twice = CHAIN.edited(put=[replace(CHAIN["/i/base"], identity=(1, 1)), image("link", identity=(1, 1))])
    assert set(rows(twice)) == {"base", "top"}


def test_saved_memory_belongs_to_an_image_of_its_disks_and_is_counted_once() -> None:
    record = SnapshotRecord(
        "demo", "a", memory="external", memory_file="/i/a.mem", disks=(SnapshotDisk("vda", "external", "/i/base"),)
    )
    needs = [Need("saved memory", "/i/top", "demo", "/i/a.mem"), Need("saved memory", "/i/top", "demo", "/i/b.mem")]
    tree = CHAIN.edited(records=[record], needs=[*needs, Need("firmware", "/i/top", "demo", "/i/x.fd")])
    stale = tree.edited(stale_memory=[Need("saved memory", "/i/base", "demo", "/i/c.mem")])
    assert memory_of(stale) == {"/i/a.mem": "/i/base", "/i/b.mem": "/i/top", "/i/c.mem": "/i/base"}
    elsewhere = replace(record, disks=(SnapshotDisk("vda", "external", "/far/base"),))
    assert memory_of(CHAIN.edited(records=[elsewhere, replace(record, memory_file=None)])) == {}
    space = space_of(stale, FILES, {}, {"/i/a.mem": 5, "/i/b.mem": 7, "/i/c.mem": 11})
    assert {row.name: row.memory_files for row in space} == {"base": 16, "top": 7}
    assert space.total("memory_files") == 23
    assert {row.name: row.reclaim for row in space}["base"] == "forest.cleanup()"


def test_a_snapshot_of_which_something_is_not_known_has_no_size() -> None:
    def only(*disks: SnapshotDisk, files: dict[str, FileSpace] = FILES) -> int | None:
        return Readers(CHAIN, files).only_of(SnapshotRecord("demo", "a", disks=disks))

    base = SnapshotDisk("vda", "external", "/i/base")
    assert only(replace(base, source="/i/never")) is None
    assert only(base, files={"/i/top": FILES["/i/top"]}) is None
    assert only(SnapshotDisk("vda", "internal", "/i/never")) is None
    assert only(SnapshotDisk("vda", "internal", "/i/base")) == 0
    assert only(SnapshotDisk("vda", "no", "/i/never"), replace(base, source=None)) == 0


# -- the call that frees most ----------------------------------------------------------------------------


def inside(size: int) -> tuple[Forest, dict[str, FileSpace]]:
    """The chain, in whose base two internal snapshots are; `large` takes so many bytes."""
    both = (InternalSnapshot("1", "small"), InternalSnapshot("2", "large"))
    files = {**FILES, "/i/base": file_space("/i/base", 4, frozenset({0, 1}), {"1": 1, "2": size})}
    return CHAIN.edited(put=[replace(CHAIN["/i/base"], snapshots=both)]), files


def test_the_largest_internal_snapshot_is_deleted_if_it_frees_more_than_a_merge() -> None:
    tree, files = inside(9 * UNIT)
    assert rows(tree, files)["base"].reclaim == "qemu-img snapshot -d large /i/base"
    used = tree.edited(uses=[Use("web", "vda", "/i/base")])
    assert rows(used, files)["base"].reclaim == "host.guest('web').delete_snapshot('large')"
    for disk, guest in ((SnapshotDisk("vda", "internal", "/i/base"), "'db'"), (SnapshotDisk("vda", "no"), "'web'")):
        known = used.edited(records=[SnapshotRecord("db", "large", disks=(disk,))])
        assert rows(known, files)["base"].reclaim == f"host.guest({guest}).delete_snapshot('large')"
    less, files = inside(UNIT)
    assert rows(less, files)["base"].reclaim == "forest.commit('top', 'base', remove=True)"
    assert [one.exclusive for one in rows(less, files)["base"].snapshots] == [1, UNIT]


def test_a_merge_is_only_named_where_one_overlay_reads_what_is_hidden() -> None:
    assert rows(CHAIN)["top"].reclaim is None
    of_guest = CHAIN.edited(uses=[Use("web", "vda", "/i/top")])
    assert rows(of_guest)["base"].reclaim == "host.guest('web').commit(top='top', base='base', remove=True)"
    two = CHAIN.edited(uses=[Use("web", "vda", "/i/top"), Use("db", "vda", "/i/top")])
    assert rows(two)["base"].reclaim is None
    kept = CHAIN.edited(needs=[Need("firmware", "/i/top", "web")])
    assert rows(kept)["base"].reclaim is None
    other = CHAIN.edited(put=[image("/j/top")])
    assert rows(other)["base"].reclaim == "forest.commit('/i/top', 'base', remove=True)"
    beside = CHAIN.edited(put=[image("side", "base", virtual_size=4 * UNIT)])
    files = {**FILES, "/i/side": FILES["/i/top"]}
    assert rows(beside, files)["base"].hidden == 2 * UNIT
    assert rows(beside, files)["base"].reclaim is None
    gone = beside.edited(put=[replace(beside["/i/side"], status="invalid")])
    assert rows(gone, files)["base"].reclaim == "forest.commit('top', 'base', remove=True)"


def test_sums_count_what_is_known() -> None:
    space = Space(
        (ImageSpace("/a", "a", allocated=2048, hidden=None), ImageSpace("/b", "b", allocated=1024, hidden=1024))
    )
    assert (len(space), space.total("allocated"), space.total("hidden"), space.total("internal")) == (2, 3072, 1024, 0)
    assert repr(space) == "<Space of 2 images: 3 KiB allocated, 1 KiB hidden>"
    with pytest.raises(InvalidRequestError, match="memory_files"):
        space.total("path")
