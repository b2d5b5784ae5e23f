"""A merge that ends a checkpoint takes its memory with it, or names the file that is of no use any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.guests import discard

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """Return a guest that is off, with a checkpoint in files."""
    guest = lab.guest("memory", backing=base, boot="disk").start(wait=False)
    guest.snapshot("cp", kind="external-checkpoint").run(progress=False)
    guest.destroy()
    yield guest
    discard(guest)


def memory(guest: Guest) -> Path:
    path = guest.snapshots()["cp"].record.memory_file
    assert path is not None
    return Path(path)


def remarks(plan: LivePlan) -> list[str]:
    return [concern.what for concern in plan.concerns if concern.name == "memory-lost"]


@pytest.mark.parametrize("verb", ["commit", "pull", "shorten"])
def test_with_removal_it_goes_with_the_layers(guest: Guest, verb: str) -> None:
    path = memory(guest)
    plan = {
        "commit": lambda: guest.commit(top="memory.cp", base="memory", remove=True),
        "pull": lambda: guest.pull(base="RootBase", remove=True),
        "shorten": lambda: guest.shorten(keep=["RootBase"], remove=True),
    }[verb]()
    assert str(path) in plan.unlinks
    assert any(f"the memory of snapshot cp in {path}" in what and "is removed" in what for what in remarks(plan))
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    assert not path.exists()
    assert "cp" not in guest.snapshots().names


def test_without_removal_the_report_cleans_it_up(guest: Guest) -> None:
    path = memory(guest)
    plan = guest.commit(top="memory.cp", base="memory")
    assert any("cannot be restored after this merge" in what for what in remarks(plan))
    report = plan.run(progress=False)
    assert path.exists()
    cleanup = report.cleanup()
    assert {str(path), str(path.with_name("memory.cp.qcow2"))} == set(cleanup.unlinks)
    assert cleanup.run(progress=False).as_predicted
    assert not path.exists()


def test_what_a_pull_leaves_below_keeps_its_memory(guest: Guest, lab: Lab) -> None:
    path = memory(guest)
    plan = guest.pull(base="RootBase")
    assert any("is kept without a snapshot record" in what for what in remarks(plan))
    plan.run(progress=False)
    assert path.exists()
    assert "memory of memory in memory.cp.mem" in lab.survey().to_frame().set_index("image").loc["memory", "needed_by"]


def test_memory_with_which_nothing_can_go_on_is_found_later(guest: Guest, lab: Lab) -> None:
    path = memory(guest)
    guest.commit(top="memory.cp", base="memory", remove=True).run(progress=False)
    # As an older version, or virsh, leaves it: no record, and its disk was written to since.
    path.write_bytes(b"LibvirtQemudSave" + b"\2\0\0\0" + (200).to_bytes(4, "little") + bytes(68) + xml_of(guest))
    old = path.stat().st_mtime - 3600
    os.utime(path, (old, old))
    forest = lab.survey()
    assert [need.name for need in forest.stale_memory] == [str(path)]
    assert "memory.cp.mem" in forest.tree(str(path.with_name("memory.qcow2"))).to_text()
    own = path.with_name("memory-own.save")
    os.link(path, own)
    removed = guest.cleanup().unlinks  # perhaps also what other tests left in this lab
    assert str(path) in removed
    assert str(own) not in removed, "what has another name is somebody's own file"
    of_lab = lab.survey().cleanup().unlinks  # with what other tests have left in it
    assert [one for one in of_lab if Path(one).name.startswith("memory")] == [str(path)]
    assert guest.cleanup().run(progress=False).as_predicted
    assert not path.exists()
    with pytest.raises(InvalidRequestError):
        guest.cleanup()
    own.unlink()


def xml_of(guest: Guest) -> bytes:
    disk = guest.chain()["memory"].path
    return (
        f"<domain><name>{guest.name}</name><devices><disk type='file'><source file='{disk}'/><target dev='vda'/></disk>"
        "</devices></domain>\0"
    ).encode()
