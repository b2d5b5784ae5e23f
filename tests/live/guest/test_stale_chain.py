"""A guest that starts after merges while it was off: libvirt may have written down the chain that it had before."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import run
from support.content import content
from support.guests import discard
from support.images import write
from support.labs import start_paused
from support.refusals import refused

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.snapshot import Kind
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """A guest with three snapshots that were taken while it was running, off now."""
    guest = lab.guest("written-down", backing=base, boot="disk")
    start_paused(guest)
    for name in "abc":
        assert guest.snapshot(name, kind="external-disk").run(progress=False).as_predicted
    guest.destroy()
    for number, layer in enumerate(guest.chain()[-3:], start=1):
        write(Path(layer.path), f"write -q -P {number} {number * 40}M 1M")
    yield guest
    discard(guest)


def listed(guest: Guest) -> int:
    """How many layers libvirt's definition for the next start lists."""
    xml = guest.handle.domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE)
    return len(ET.fromstring(xml).findall(".//disk//backingStore/source"))


def test_a_list_that_is_right_stays(guest: Guest) -> None:
    guest.start(wait=False)
    assert listed(guest) == 3


@pytest.mark.parametrize("verb", ["delete", "commit", "remove", "pull", "images"])
def test_it_starts_on_the_chain_as_it_is(guest: Guest, lab: Lab, verb: str) -> None:
    assert listed(guest) == 3
    name, folder = guest.name, Path(guest.chain().top).parent
    reads = content(guest.chain().top)
    top, below = f"{name}.b", f"{name}.a"
    if verb == "images":
        # Plans of images alone are refused where records need them; whoever uses QEMU's commands is not stopped.
        assert refused(lab.survey(folder).commit(top, below)) == {"state-lost"}
        run("qemu-img", "commit", "-q", "-d", str(folder / f"{top}.qcow2"))
        run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(folder / f"{below}.qcow2"), guest.chain().top)
    else:
        plan = {
            "delete": lambda: guest.delete_snapshot("b"),
            "pull": lambda: guest.pull(base=below),
        }.get(verb, lambda: guest.commit(top=top, base=below))()
        assert plan.run(progress=False, **({"remove": True} if verb in ("remove", "pull") else {})).as_predicted
    inactive = guest.handle.domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE)
    assert ("written-down.b" in inactive) == (verb == "images"), "who knows the images alone cannot put it right"
    guest.start(wait=False)
    assert [layer.name for layer in guest.chain()][-2:] == [below, f"{name}.c"]
    assert "written-down.b" not in guest.xml()
    guest.destroy()
    assert content(guest.chain().top) == reads


@pytest.mark.parametrize("kind", ["external-disk", "internal-disk"])
def test_snapshots_that_are_taken_then_are_gone_back_to(guest: Guest, kind: Kind) -> None:
    assert guest.delete_snapshot("b").run(progress=False).as_predicted
    reads = content(guest.chain().top)
    assert guest.snapshot("x", kind=kind).run(progress=False).as_predicted
    write(Path(guest.chain().top), "write -q -P 99 300M 1M")
    assert guest.revert("x", to="paused", keep_current=False).run(progress=False).as_predicted
    guest.destroy()
    assert content(guest.chain().top) == reads
    assert guest.revert("c", to="paused").run(progress=False).as_predicted


def test_the_list_of_an_internal_snapshot_of_before_is_put_right_as_well(guest: Guest) -> None:
    start_paused(guest)
    assert guest.snapshot("inside", kind="internal-checkpoint").run(progress=False).as_predicted
    assert guest.delete_snapshot("b").run(progress=False).as_predicted
    assert guest.revert("inside", keep_current=False).run(progress=False).as_predicted
    assert guest.state == "paused"
    assert guest.snapshots().current == guest.snapshots()["inside"]
