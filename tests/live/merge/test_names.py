"""Images that have several names: by links, bind mounts and ``..``; offline and in the chain of a running guest."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import qemu_img
from support.content import content
from support.defined import chain, define, file_disk
from support.images import create, write
from support.labs import start_paused

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host

pytestmark = pytest.mark.guest


# -- links among the images ----------------------------------------------------------------------------------------


@pytest.fixture
def opennebula(tmp_path: Path, host: Host) -> Guest:
    """A guest as OpenNebula lays out its images: relative names in a folder with a link to itself."""
    inner = tmp_path / "disk.0.snap"
    inner.mkdir()
    (inner / "disk.0.snap").symlink_to(".")
    create(tmp_path / "img.qcow2", size="16M")
    write(tmp_path / "img.qcow2", "write -q -P 1 0 1M")
    chain(inner, ["../img.qcow2", "disk.0.snap/0", "disk.0.snap/1"], names="{}")
    (tmp_path / "disk.0").symlink_to(inner / "2")
    return define(host, "one", file_disk(tmp_path / "disk.0"))


def test_merges_among_links_to_the_folder_itself(opennebula: Guest, tmp_path: Path) -> None:
    top = tmp_path / "disk.0"
    was = content(top)
    assert len(opennebula.chain()) == 4
    forest = vs.scan(tmp_path)
    assert len(forest.duplicates) <= 3
    report = forest.commit(str(tmp_path / "disk.0.snap" / "1"), str(tmp_path / "disk.0.snap" / "0")).run(progress=False)
    assert report.as_predicted, report.differences
    assert content(top) == was
    report = opennebula.pull(base=tmp_path / "img.qcow2").run(progress=False)
    assert report.as_predicted, report.differences
    assert content(top) == was
    start_paused(opennebula)
    assert opennebula.snapshot("s1", kind="external-disk").run(progress=False).as_predicted
    report = opennebula.delete_snapshot("s1").run(progress=False)
    assert report.as_predicted, report.differences
    opennebula.destroy()
    assert content(opennebula.chain().top) == was


def test_a_loop_by_way_of_links_is_a_loop(opennebula: Guest, tmp_path: Path) -> None:
    top = tmp_path / "disk.0.snap" / "2"
    qemu_img("rebase", "-u", "-F", "qcow2", "-b", "disk.0.snap/2", top)
    forest = vs.scan(tmp_path)
    assert forest.loops
    assert forest.status(str(top)) == "loop"
    assert len(forest) < 8
    assert len(opennebula.chain()) == 1
    assert "loop" in {concern.name for concern in opennebula.concerns()}
    with pytest.raises(ImageError, match="is based on itself"):
        opennebula.start(wait=False)
    plan = opennebula.snapshot("s", kind="external-disk")
    assert "loop" in {concern.name for concern in plan.concerns}


# -- names with ``..`` ---------------------------------------------------------------------------------------------


@pytest.fixture
def dotted(tmp_path: Path) -> list[Path]:
    """A chain over two folders, whose headers lead from one to the other by ``..``."""
    (tmp_path / "fs1").mkdir(), (tmp_path / "fs2").mkdir()
    base, one = chain(tmp_path / "fs1", [None, "../fs1/l0.qcow2"])
    (top,) = chain(tmp_path / "fs2", ["../fs1/l1.qcow2"], names="top{}.qcow2")
    (leaf,) = chain(tmp_path / "fs2", ["../fs2/../fs2/top0.qcow2"], names="leaf{}.qcow2")
    return [base, one, top, leaf]


def reads(guest: Guest) -> str:
    if guest.state != "shut off":
        guest.destroy()
    return content(guest.chain().top)


@pytest.mark.parametrize("top", [None, "l1", "top0"])
@pytest.mark.parametrize("base", ["l0", "l1"])
@pytest.mark.parametrize("running", [False, True])
def test_commits_by_names_with_dots(
    host: Host, tmp_path: Path, dotted: list[Path], top: str | None, base: str, running: bool
) -> None:
    if top == base:
        return
    guest = define(host, "dots", file_disk(dotted[-1]))
    was = reads(guest)
    if running:
        start_paused(guest)
    report = guest.commit(top=top, base=base).run(progress=False)
    assert report.as_predicted, report.differences
    assert guest.unfinished() == ()
    if top is None:
        assert len(guest.chain()) == (1 if base == "l0" else 2)
        if running:  # the names that QEMU has now go on to be those of the same images
            assert guest.snapshot("s", kind="external-disk").run(progress=False).as_predicted
            report = guest.delete_snapshot("s").run(progress=False)
            assert report.as_predicted, report.differences
    assert reads(guest) == was


@pytest.mark.parametrize("base", [None, "l0", "l1"])
@pytest.mark.parametrize("running", [False, True])
def test_pulls_by_names_with_dots(
    host: Host, tmp_path: Path, dotted: list[Path], base: str | None, running: bool
) -> None:
    guest = define(host, "dots", file_disk(dotted[-1]))
    was = reads(guest)
    if running:
        start_paused(guest)
    report = guest.pull(base=base).run(progress=False)
    assert report.as_predicted, report.differences
    assert guest.unfinished() == ()
    assert reads(guest) == was


def test_a_guest_whose_definition_has_dots(host: Host, tmp_path: Path, dotted: list[Path]) -> None:
    guest = define(host, "dots", file_disk(f"{tmp_path}/fs1/../fs2/leaf0.qcow2"))
    was = reads(guest)
    assert len(vs.scan(tmp_path).duplicates) == 0
    start_paused(guest)
    assert guest.snapshot("s", kind="external-disk").run(progress=False).as_predicted
    report = guest.delete_snapshot("s").run(progress=False)
    assert report.as_predicted, report.differences
    assert guest.commit(top="l1", base="l0").run(progress=False).as_predicted
    assert reads(guest) == was
    report = guest.commit(base="l0").run(progress=False)
    assert report.as_predicted, report.differences
    assert reads(guest) == was
