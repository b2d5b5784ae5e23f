"""The mark of images that are not valid any more: nobody opens them, or builds on them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support.commands import run
from support.content import content
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import (
    ImageError,
)
from vmsnap_nb.system.qcow2.mark import INVALID_NAME, mark_invalid, marked, write_header

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    "options", [{}, {"compat": "0.10"}, {"cluster_size": 512}, {"extended_l2": "on", "cluster_size": "2M"}]
)
def test_nobody_opens_or_builds_on_what_is_invalid(folder: Path, options: dict[str, object]) -> None:
    create(folder / "base", size=MIB)
    top = create(folder / "top", "base", **options)  # type: ignore[arg-type]
    write(top, "write -q -P 2 0 64k")
    was = content(top)
    assert vs.scan(folder).commit("top").run(progress=False).as_predicted
    for argv in (
        ["info", "top"],
        ["create", "-f", "qcow2", "-F", "qcow2", "-b", "top", "new"],
        ["check", "-r", "all", "top"],
    ):
        done = run("qemu-img", *argv, cwd=folder, check=False)
        assert done.returncode != 0
        assert "Unsupported qcow2 feature" in done.stderr
        assert INVALID_NAME in done.stderr
    forest = vs.scan(folder)
    assert forest[str(top)].status == "invalid"
    assert forest.overlay("new", "top").refused
    # The way back, by hand: nothing but the header was changed.
    with top.open("r+b") as file:
        file.seek(72)
        file.write(b"\0")
    assert content(top) == was
    assert run("qemu-img", "check", str(top)).returncode == 0


def test_the_mark_is_put_once_and_taken_back(folder: Path) -> None:
    create(folder / "base", size=MIB)
    path = create(folder / "x", "base")
    old = path.read_bytes()
    head = mark_invalid(str(path))
    assert head is not None
    assert mark_invalid(str(path)) is None
    assert path.read_bytes()[65536:] == old[65536:]
    write_header(str(path), head, "take it back")
    assert path.read_bytes() == old
    plain = folder / "plain"
    plain.write_bytes(b"no image" * 100)
    with pytest.raises(ImageError, match="not a version 3 qcow2 image"):
        mark_invalid(str(plain))
    with pytest.raises(ValueError, match="version 3"):
        marked(bytes(512))
    assert marked(marked(old[:65536])) == marked(old[:65536])
    length = int.from_bytes(old[100:104])
    cut = old[:length] + struct.pack(">II", 1, 1 << 31) + old[length + 8 : 65536]
    assert marked(cut)[73:] == cut[73:], "extensions that make no sense are left as they are"
    long = create(folder / "long", "./" * 170 + "base", cluster_size=512).read_bytes()[:512]
    assert marked(long)[73:] == long[73:], "where there is no room for a name, only the bit is set"
    assert marked(long)[72] == 0x80
