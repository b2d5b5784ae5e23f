"""A thousand real images of every kind: what is read of them is what `qemu-img info` says."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.commands import qemu_img
from support.images import MIB, Tree, create, luks, make_forest
from support.oracle import in_our_words, in_the_same_words, local

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.survey import Survey

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # making the forest takes 20 s, on a busy machine longer


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = make_forest(tmp_path_factory.mktemp("forest"))
    os.sync()  # file systems give blocks when they write: what a file takes changes until then
    return tree


@pytest.fixture(scope="module")
def forest(tree: Tree) -> Forest:
    return Survey((str(tree.folder),)).read()


@pytest.fixture(scope="module")
def answers(forest: Forest) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(forest.images, pool.map(info, forest), strict=True))


def info(image: Image) -> dict[str, Any]:
    # Without -f for all but raw ones: the format is what QEMU finds by itself.
    force = ["-f", "raw"] if image.format == "raw" else []
    answer: dict[str, Any] = json.loads(qemu_img("info", "--output=json", "-U", *force, image.path))
    data = image.data_file
    if data is not None and data.path is not None and answer["actual-size"] != image.allocated:
        answer["actual-size"] -= os.stat(data.path).st_blocks * 512  # QEMU 8.2 counts the data file, too
    return answer


def is_cut(forest: Forest, image: Image) -> bool:
    """Return whether an overlay is smaller than the image below it, which its problem then says."""
    parent = forest.parent(image.path)
    return parent is not None and (image.virtual_size or 0) < (forest[parent].virtual_size or 0)


def test_every_field_of_every_image(tree: Tree, forest: Forest, answers: dict[str, dict[str, Any]]) -> None:
    assert set(forest.images) == set(map(str, tree.paths))
    for path, answer in answers.items():
        assert in_the_same_words(forest[path]) == in_our_words(answer)
        status = os.stat(path)
        image = forest[path]
        assert (image.identity, image.file_size, image.mtime_ns) == (
            (status.st_dev, status.st_ino),
            status.st_size,
            status.st_mtime_ns,
        )
        assert (image.status, bool(image.problem)) == ("ok", is_cut(forest, image))


def test_the_forest_has_everything_in_it(tree: Tree, answers: dict[str, dict[str, Any]]) -> None:
    assert len(answers) == 1000
    words = [in_our_words(answer) for answer in answers.values()]
    seen = {(key, value) for word in words for key, value in word.items() if isinstance(value, str | int | None)}
    assert seen >= {
        ("format", "raw"),
        ("format", "qcow2"),
        ("compat", "0.10"),
        ("compat", "1.1"),
        ("extended_l2", True),
        ("lazy_refcounts", True),
        ("compression", "zstd"),
        ("encryption", "luks"),
        ("encryption", "aes"),
        ("data_file_raw", True),
        ("cluster_size", 512),
        ("refcount_bits", 64),
    }
    assert sum(bool(word["snapshots"]) for word in words) > 30
    assert sum(bool(word["bitmaps"]) for word in words) > 15
    assert sum(word["data_file"] is not None for word in words) > 10
    assert max(tree.depth(path) for path in tree.leaves) == 50
    assert sum(word["backing"] is None for word in words) == 20


def test_every_image_stands_on_the_one_it_was_made_on(tree: Tree, forest: Forest) -> None:
    for path in tree.paths:
        parent = tree.parent.get(path)
        assert forest.parent(str(path)) == (parent and str(parent))
        assert forest.depth(str(path)) == tree.depth(path)
    assert set(forest.leaves) == set(map(str, tree.leaves))
    assert forest.loops == forest.missing == forest.duplicates == ()


def test_chains_are_those_of_qemu_img(tree: Tree, forest: Forest) -> None:
    deepest = sorted(tree.leaves, key=tree.depth)[-1]
    plain = [leaf for leaf in tree.leaves if "json" not in str(forest[str(leaf)].backing)][:20]
    for leaf in (deepest, *plain):
        chain = json.loads(qemu_img("info", "--output=json", "--backing-chain", leaf))
        theirs = [local(answer["filename"]) for answer in chain]
        assert list(forest.lineage(str(leaf))) == theirs


# -- other formats ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign formats")
    for format in ("vmdk", "vdi", "vhdx", "qed", "vpc", "parallels", "qcow"):
        create(folder / f"disk.{format}", size=5 * MIB, format=format)
        create(folder / f"over.{format}.qcow2", f"disk.{format}", size=5 * MIB, backing_format=format)
    create(folder / "split.vmdk", size="3G", format="vmdk", subformat="twoGbMaxExtentSparse")
    create(folder / "flat.vmdk", size=5 * MIB, format="vmdk", subformat="monolithicFlat")
    create(folder / "over.vmdk", "disk.vmdk", size=5 * MIB, backing_format="vmdk", format="vmdk")
    create(folder / "over.qed", "disk.qed", size=5 * MIB, backing_format="qed", format="qed")
    create(folder / "fixed.vpc", size=5 * MIB, format="vpc", subformat="fixed")
    create(folder / "over.fixed.qcow2", "fixed.vpc", size=5 * MIB, backing_format="vpc")
    luks("luks", folder / "disk.luks", MIB)
    return folder


def test_other_formats_are_read_as_qemu_img_reads_them(foreign: Path) -> None:
    forest = Survey((str(foreign),)).read()
    parts = {"split-s001.vmdk", "split-s002.vmdk", "flat-flat.vmdk"}
    assert {os.path.basename(path) for path in forest.images} == {p.name for p in foreign.iterdir()} - parts
    for image in forest:
        assert (image.status, bool(image.problem)) == ("ok", is_cut(forest, image)), image
        force = ["-f", "vpc"] if image.name == "fixed.vpc" else []
        theirs = in_our_words(json.loads(qemu_img("info", "--output=json", *force, image.path)))
        assert in_the_same_words(image) == theirs
    assert forest.depth(str(foreign / "over.fixed.qcow2")) == 2
    again = Survey((str(foreign),))
    assert again.read().images == again.read().images == forest.images
