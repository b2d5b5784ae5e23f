"""Images whose data is in several files: each of them is needed, and what a header names so hides no overlay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.content import content
from support.images import MIB, create, write
from support.refusals import refused

import vmsnap_nb as vs

pytestmark = pytest.mark.system

DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicFlat"

RW 2048 FLAT "{name}" 0
"""


def flat(folder: Path) -> Path:
    image = create(folder / "x.vmdk", format="vmdk", size=MIB, subformat="monolithicFlat")
    write(image, "write -q -P 1 0 1M", format="vmdk")
    return image


@pytest.mark.parametrize("name", ["x-flat.vmdk", "link", "hard"])
def test_the_extent_of_an_image_is_not_changed(folder: Path, name: str) -> None:
    image = flat(folder)
    extent = folder / "x-flat.vmdk"
    if name == "link":
        (folder / name).symlink_to(extent)
    elif name == "hard":
        os.link(extent, folder / name)
    one = create(folder / "one.qcow2", folder / name, backing_format="raw")
    write(one, "write -q -P 2 0 64k")
    two = create(folder / "two.qcow2", image, backing_format="vmdk")
    was = content(two)
    plan = vs.scan(folder).commit("one")
    assert "state-lost" in refused(plan)
    assert any(need.name == str(image) for need in plan.before.needed_by(folder / name))
    assert plan.run(progress=False, waive=tuple(refused(plan)))
    assert content(two) != was, "it was needed indeed"


@pytest.mark.parametrize("where", ["absolute", "below", "file:", "missing"])
def test_an_extent_that_is_not_opened_is_not_changed(folder: Path, where: str) -> None:
    (folder / "sub").mkdir()
    extent = folder / "sub" / "data"
    extent.write_bytes(b"\1" * MIB)
    names = {"absolute": str(extent), "below": "sub/data", "file:": f"file:{extent}", "missing": str(extent)}
    text = DESCRIPTOR.format(name=names[where])
    if where == "missing":
        text += 'RW 2048 FLAT "gone" 0\n'
    (folder / "x.vmdk").write_text(text)
    one = create(folder / "one.qcow2", extent, backing_format="raw")
    write(one, "write -q -P 2 0 64k")
    assert "state-lost" in refused(vs.scan(folder).commit("one"))


def test_an_image_that_was_not_opened_may_be_based_on_what_changes(folder: Path) -> None:
    base = create(folder / "base.vmdk", format="vmdk", size=MIB)
    text = DESCRIPTOR.format(name="/elsewhere/data").replace("parentCID=ffffffff", "parentCID=1")
    (folder / "x.vmdk").write_text(text + f'parentFileNameHint="{base}"\n')
    create(folder / "low.qcow2", size=MIB)
    write(create(folder / "top.qcow2", "low.qcow2"), "write -q -P 2 0 64k")
    assert refused(vs.scan(folder).commit("top")) == {"unknown-image"}


def test_no_header_hides_an_overlay(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=MIB)
    write(base, "write -q -P 1 0 1M")
    other = create(folder / "other.qcow2", "base.qcow2")
    write(create(folder / "top.qcow2", "base.qcow2"), "write -q -P 2 0 64k")
    (folder / "x.vmdk").write_text(DESCRIPTOR.format(name="other.qcow2"))
    forest = vs.scan(folder)
    assert str(other) in forest.images
    assert refused(forest.commit("top")) == {"shared-base"}
