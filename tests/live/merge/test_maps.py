"""Checksums and block maps of real images, against what qemu-img says of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from support.commands import run
from support.images import MIB, create, handout_chain, write

import vmsnap_nb as vs
from vmsnap_nb.errors import (
    ImageError,
)
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.blockmap import LayerMap
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.maps import MapReader
from vmsnap_nb.system.qemu.content import content_digest

pytestmark = pytest.mark.system


def test_the_checksum_does_not_see_layers(folder: Path) -> None:
    whole = create(folder / "whole", size=66 * MIB)
    write(whole, "write -q -P 1 0 1M", "write -q -P 2 65M 1M", "write -q -z 2M 1M", "write -q -P 0 3M 1M")
    base = create(folder / "base", size=66 * MIB, cluster_size=512)
    write(base, "write -q -P 1 0 512k", "write -q -P 9 4M 1M")
    top = create(folder / "top, with comma", base)
    write(top, "write -q -P 1 512k 512k", "write -q -P 2 65M 1M", "write -q -z 4M 1M")
    raw = folder / "raw"
    run("qemu-img", "convert", "-O", "raw", str(whole), str(raw))
    digests = {content_digest(str(whole), "qcow2"), content_digest(str(top), "qcow2"), content_digest(str(raw), "raw")}
    assert len(digests) == 1
    write(top, "write -q -P 3 66060288 1")
    assert content_digest(str(top), "qcow2") not in digests
    assert content_digest(str(top), "qcow2", 63 * MIB) == content_digest(str(raw), "raw", 63 * MIB)


def test_the_map_agrees_with_qemu_img_on_every_byte(folder: Path) -> None:
    paths = handout_chain(folder)
    write(paths[2], "discard -q 3M 1M")
    blocks = vs.scan(folder).blockmap("Snap-4")
    answer = json.loads(run("qemu-img", "map", "--output=json", str(paths[-1])).stdout)
    for entry in answer:
        if entry["present"]:
            for place in (entry["start"], entry["start"] + entry["length"] - 1):
                assert blocks.owner(place) == len(paths) - 1 - entry["depth"]
    seen = sum(e["length"] for e in answer if e["present"] and e["data"])
    assert sum(own for own, _ in blocks.totals) == seen
    # What is hidden in Snap-1 appears when the chain ends there.
    below = vs.scan(folder).blockmap("Snap-1")
    assert below.totals[1] == (below.layers[1].data, 0)
    assert blocks.totals[1][1] > 0


def test_the_map_tells_what_a_pattern_was_written_to(folder: Path) -> None:
    paths = handout_chain(folder)
    for run_ in vs.scan(folder).blockmap("Snap-4").visible:
        pattern = 0 if run_.kind == "zero" else run_.layer or 100
        done = run(
            "qemu-io", "-r", "-f", "qcow2", "-c", f"read -q -P {pattern} {run_.start} {run_.length}", str(paths[-1])
        )
        assert "verification failed" not in done.stdout, run_


@pytest.mark.parametrize("name", ["a, b=c", "虚拟机", os.fsdecode(b"no text \xff"), 'quote"\\'])
def test_the_map_of_images_of_any_name(folder: Path, name: str) -> None:
    path = create(folder / name, size=MIB)
    write(path, "write -q -P 1 64k 64k")
    forest = vs.scan(folder)
    assert [(run_.start, run_.length) for run_ in forest.blockmap(str(path)).runs] == [(65536, 65536)]
    write(path, "write -q -P 1 256k 64k")
    assert len(forest.refresh().blockmap(str(path)).runs) == 2, "it was mapped again"


def test_what_cannot_be_mapped_is_said(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    paths[0].unlink()
    with pytest.raises(ImageError, match="the file does not exist"):
        vs.scan(folder).blockmap("Snap-2")
    plan = vs.scan(folder).commit("Snap-2", "Snap-1")
    assert plan.bytes_to_copy is not None, "what takes part can be mapped; the plan is refused for its chain"
    assert plan.refused


def test_a_plan_of_a_missing_image_has_no_bytes(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    paths[1].unlink()
    plan = vs.scan(folder).commit("Snap-2", "Snap-1")
    assert plan.bytes_to_copy is None
    assert isinstance(plan.after[str(paths[1])], Image)


@pytest.mark.parametrize(
    ("verb", "maps"),
    [
        (lambda forest: forest.commit("Snap-3", "Snap-2"), {"Snap-2", "Snap-3"}),
        (lambda forest: forest.pull("Snap-4", "Snap-2"), {"Snap-3", "Snap-4"}),
        (lambda forest: forest.remove("Snap-3"), {"Snap-2", "Snap-3", "Snap-4"}),
    ],
)
def test_only_layers_that_are_copied_between_are_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[LiveForest], LivePlan], maps: set[str]
) -> None:
    handout_chain(tmp_path)
    asked: set[str] = set()
    read = MapReader.read

    def noted(self: MapReader, images: Iterable[Image]) -> dict[str, LayerMap]:
        images = list(images)
        asked.update(image.name for image in images)
        return read(self, images)

    monkeypatch.setattr(MapReader, "read", noted)
    assert verb(vs.scan(tmp_path)).bytes_to_copy
    assert asked == maps
