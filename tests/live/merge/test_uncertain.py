"""References of other images that only QEMU could follow: what may be meant is neither changed nor a leftover."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.commands import qemu_img, run
from support.content import content
from support.images import MIB, create, write
from support.refusals import refused

import vmsnap_nb as vs

pytestmark = pytest.mark.system


def node(name: object) -> dict[str, object]:
    return {"driver": "qcow2", "file": {"driver": "file", "filename": str(name)}}


def written(folder: Path, how: str) -> str:
    base, middle = folder / "base.qcow2", folder / "middle.qcow2"
    if how == "file":
        return "file:base.qcow2"
    if how == "test driver":
        return f"blkdebug::{base}"
    if how == "process":
        return "/proc/self/cwd/base.qcow2"
    create(middle, size=MIB)
    nodes = {
        "relative": node("base.qcow2"),
        "escaped": node("base.qcow2"),
        "below": {**node(middle), "backing": node(base)},
        "filter": {"driver": "qcow2", "file": {"driver": "blkdebug", "image": node(base)["file"]}},
    }
    text = json.dumps(nodes[how])
    return "json:" + (text.replace("base", "b\\u0061se") if how == "escaped" else text)


@pytest.mark.parametrize("how", ["file", "test driver", "process", "relative", "escaped", "below", "filter"])
def test_what_another_image_may_be_based_on_is_not_changed(folder: Path, how: str) -> None:
    base = create(folder / "base.qcow2", size=MIB)
    write(base, "write -q -P 1 0 1M")
    top = create(folder / "top.qcow2", "base.qcow2")
    write(top, "write -q -P 2 0 64k")
    other = folder / "other.qcow2"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", written(folder, how), other, "1M")
    plan = vs.scan(folder).commit("top")
    assert refused(plan) == {"unknown-image"}
    assert str(base) not in [one.path for one in vs.scan(folder).leftovers()]

    def read() -> str:
        run("qemu-img", "convert", "-O", "raw", str(other), "read", cwd=folder)
        return content(folder / "read", "raw")

    was = read()
    assert plan.run(progress=False, waive="unknown-image").as_predicted
    assert read() != was  # it was meant indeed
    os.unlink(other)
    write(create(folder / "new.qcow2", "base.qcow2"), "write -q -P 3 0 64k")
    assert not vs.scan(folder).commit("new").refused


def test_nor_is_what_another_image_may_have_its_data_in(folder: Path) -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "one", "1M", cwd=folder)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 1M", "one", cwd=folder)
    write(create(folder / "top.qcow2", "data", backing_format="raw"), "write -q -P 2 0 64k")
    assert refused(vs.scan(folder).commit("top")) == {"unknown-image"}


def test_a_network_address_or_another_name_is_none_of_them(folder: Path) -> None:
    create(folder / "base.qcow2", size=MIB)
    write(create(folder / "top.qcow2", "base.qcow2"), "write -q -P 2 0 64k")
    for number, name in enumerate(("nbd://host/base.qcow2", "file:elsewhere.qcow2", "json:" + json.dumps(node("x")))):
        other = folder / f"other{number}.qcow2"
        qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", name, other, "1M")
    assert not vs.scan(folder).commit("top").refused
