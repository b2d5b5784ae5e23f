"""What images take: what is foreseen is what deletions and removals really free, by the blocks of the file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.commands import qemu_img
from support.images import KIB, MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.live.space import read_space
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord

pytestmark = pytest.mark.system

FEW = 16 * KIB
"""What QEMU's tables of snapshots and of reference counts may take more or less."""


def blocks(path: Path) -> int:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # file systems give blocks when they write
    return path.stat().st_blocks * 512


def exclusive(path: Path) -> dict[str, int]:
    frame = vs.scan(path.parent).space().internal_frame()
    mine = frame.loc[[str(path)]] if str(path) in frame.index else frame.iloc[:0]
    return dict(zip(mine["snapshot"], map(int, mine["exclusive"]), strict=True))


# -- internal snapshots -----------------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"cluster_size": 4096},
    {"compat": "0.10"},
    {"extended_l2": "on", "cluster_size": 131072},
    {"compression_type": "zstd"},
    {"preallocation": "metadata"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options) or "plain")
@pytest.mark.parametrize("order", [("one", "two", "three"), ("three", "one", "two")], ids=" ".join)
def test_each_deletion_frees_what_was_foreseen(
    tmp_path: Path, options: dict[str, object], order: tuple[str, ...]
) -> None:
    path = create(tmp_path / "disk.qcow2", size=64 * MIB, **options)
    packed = () if options.get("preallocation") else ("write -c -P 9 40M 1M",)
    write(path, "write -P 1 0 6M", *packed)
    qemu_img("snapshot", "-c", "one", path)
    write(path, "write -P 2 0 3M", "write -P 3 20M 1M")
    qemu_img("snapshot", "-c", "two", path)
    write(path, "write -P 4 1M 3M", "write -z 20M 1M")
    qemu_img("snapshot", "-c", "three", path)
    write(path, "write -P 5 0 2M", "discard 40M 512k")
    held = vs.scan(tmp_path).space()
    before = blocks(path)
    for name in order:
        foreseen, size = exclusive(path)[name], blocks(path)
        qemu_img("snapshot", "-d", name, path)
        assert size - blocks(path) == pytest.approx(foreseen, abs=FEW)
    assert before - blocks(path) == pytest.approx(held.total("internal"), abs=FEW)
    assert exclusive(path) == {}


def test_what_two_snapshots_share_belongs_to_none(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2", size=64 * MIB)
    write(path, "write -P 1 0 4M")
    qemu_img("snapshot", "-c", "one", path)
    qemu_img("snapshot", "-c", "two", path)
    write(path, "write -P 2 0 4M")
    found = exclusive(path)
    assert max(found.values()) < 256 * KIB
    (image,) = vs.scan(tmp_path).space()
    assert image.internal is not None
    assert image.internal > 4 * MIB
    before = blocks(path)
    for name in found:
        qemu_img("snapshot", "-d", name, path)
    assert before - blocks(path) == pytest.approx(image.internal, abs=FEW)


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "compress", "zero", "snapshot", "delete"]), st.integers(0, 31)),
    min_size=4,
    max_size=14,
)


@given(STEPS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_deletions_after_any_history(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    path = create(tmp_path_factory.mktemp("any") / "disk.qcow2", size=16 * MIB)
    names: list[str] = []
    written: set[int] = set()
    for number, (what, place) in enumerate(steps):
        if what == "snapshot":
            qemu_img("snapshot", "-c", f"s{number}", path)
            names.append(f"s{number}")
        elif what == "delete" and names:
            _deleted_as_foreseen(path, names.pop(place % len(names)))
        elif what == "compress" and place not in written:  # QEMU compresses only what is nowhere yet
            write(path, f"write -c -P {number + 1} {place * 256}k 128k")
            written.add(place)
        elif what in ("write", "zero"):
            write(path, f"write {'-z' if what == 'zero' else f'-P {number + 1}'} {place * 256}k 128k")
            written.add(place)
    for name in names:
        _deleted_as_foreseen(path, name)


def _deleted_as_foreseen(path: Path, name: str) -> None:
    foreseen, size = exclusive(path)[name], blocks(path)
    qemu_img("snapshot", "-d", name, path)
    assert size - blocks(path) == pytest.approx(foreseen, abs=FEW)


# -- images -----------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Base, Middle and Top: Middle covers 2 of 4 MiB of the base, and Top 1 MiB of those of Middle."""
    base = create(tmp_path / "Base.qcow2")
    write(base, "write -P 1 0 4M")
    middle = create(tmp_path / "Middle.qcow2", base)
    write(middle, "write -P 2 0 2M")
    top = create(tmp_path / "Top.qcow2", middle)
    write(top, "write -P 3 1M 1M")
    return tmp_path


def test_hidden_is_what_no_top_reads(chain: Path) -> None:
    frame = vs.scan(chain).space().to_frame().set_index("image")
    assert frame["hidden"].to_dict() == {"Base": 2 * MIB, "Middle": MIB, "Top": 0}
    assert frame["exclusive"].equals(frame["allocated"])
    assert frame.loc["Middle", "reclaim"] == "forest.commit('Top', 'Middle', remove=True)"


def test_another_reader_hides_less(chain: Path) -> None:
    create(chain / "Other.qcow2", chain / "Base.qcow2")
    frame = vs.scan(chain).space().to_frame().set_index("image")
    assert frame.loc["Base", "hidden"] == 0
    assert frame.loc["Middle", "hidden"] == MIB
    assert frame["reclaim"].isna()["Base"]


def test_an_internal_snapshot_of_an_overlay_reads_what_is_below(chain: Path) -> None:
    middle = create(chain / "Late.qcow2", chain / "Base.qcow2")
    qemu_img("snapshot", "-c", "empty", middle)  # it reads all of the base
    write(middle, "write -P 4 0 4M")
    assert vs.scan(chain).space().to_frame().set_index("image").loc["Base", "hidden"] == 0


def test_a_record_reads_its_image(chain: Path) -> None:
    forest = vs.scan(chain)
    disk = SnapshotDisk("vda", "external", forest.find("Middle"), forest.find("Top"))
    record = SnapshotRecord("demo", "monday", disks=(disk,))
    with_record = {image.name: image.hidden for image in read_space(forest.edited(records=(record,)))}
    assert with_record == {"Base": 2 * MIB, "Middle": 0, "Top": 0}


def test_saved_memory_counts_with_its_image(chain: Path) -> None:
    for name, size in (("a.mem", MIB), ("b.save", 2 * MIB)):
        (chain / name).write_bytes(b"m" * size)
    forest, [base, mid, _] = vs.scan(chain), sorted(map(str, chain.glob("*.qcow2")))
    disks = (SnapshotDisk("vda", "external", base, mid),)
    record = SnapshotRecord("demo", "s", disks=disks, memory="external", memory_file=str(chain / "a.mem"))
    need = Need("saved memory", mid, "demo", str(chain / "b.save"))
    frame = read_space(forest.edited(records=[record], needs=[need])).to_frame()
    assert frame["memory_files"].to_dict() == {base: MIB, mid: 2 * MIB} | dict.fromkeys(
        set(frame.index) - {base, mid}, 0
    )


def test_a_compressed_layer_hides_what_it_takes(tmp_path: Path) -> None:
    base = create(tmp_path / "Base.qcow2")
    write(base, "write -c -P 1 0 4M")
    write(create(tmp_path / "Top.qcow2", base), "write -P 2 0 4M")
    (found,) = (image for image in vs.scan(tmp_path).space() if image.name == "Base")
    assert found.hidden is not None
    assert 0 < found.hidden < 256 * KIB


def test_a_hard_link_keeps_the_file(chain: Path) -> None:
    os.link(chain / "Top.qcow2", chain / "Link.qcow2")
    space = vs.scan(chain).space()
    assert len(space) == 3
    assert [image.exclusive for image in space if image.path.endswith(("Top.qcow2", "Link.qcow2"))] == [0]


def test_what_cannot_be_read_is_not_known(chain: Path) -> None:
    (chain / "Top.qcow2").write_bytes((chain / "Top.qcow2").read_bytes()[: 200 * KIB])  # its tables are cut off
    frame = vs.scan(chain).space().to_frame().set_index("image")
    assert frame.loc["Middle":"Top", ["hidden", "internal"]].isna().any(axis=None)  # type: ignore[misc]
    assert frame["hidden"].isna()["Base"]


def test_an_empty_folder_has_no_rows(tmp_path: Path) -> None:
    space = vs.scan(tmp_path).space()
    assert space.to_frame().empty
    assert f"<{space.to_text()}>" == repr(space)
    assert "0 images" in space._repr_mimebundle_()["text/html"]


def test_text_and_html(tmp_path: Path) -> None:
    write(create(tmp_path / "快照<x>.qcow2"), "write -P 1 0 1M")
    space = vs.scan(tmp_path).space()
    head, row = space.to_text().splitlines()
    assert head.split() == ["path", "image", "allocated", "exclusive", "hidden", "internal", "memory", "files"]
    assert row.split()[:2] == ["快照<x>.qcow2", "快照<x>"]
    html = space._repr_mimebundle_()["text/html"]
    assert "快照&lt;x&gt;" in html
    assert "hidden" not in html  # nor anything else of which there is nothing
    assert "0 B" not in html
    assert space._repr_mimebundle_()["text/plain"] == space.to_text()
