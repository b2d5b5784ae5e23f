"""A guest that somebody starts while its chain is merged, as it was off."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.content import content
from support.faulty import faulty
from support.images import write
from support.labs import start_paused

from vmsnap_nb.errors import InUseError, StalePlanError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest

DISK = "/machine/peripheral/virtio-disk0/virtio-backend"


@pytest.fixture
def guest(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Guest:
    guest = lab.guest(f"started-{abs(hash(request.node.name)) % 10**6}", backing=base, boot="disk")
    for number, name in enumerate("ab", start=1):
        assert guest.snapshot(name, kind="external-disk").run(progress=False).as_predicted
        write(Path(guest.chain().top), f"write -q -P {number} {number * 40}M 1M")
    return guest


def then(act: Any, step: Any, perform: Action) -> Undo:
    """Perform a step; then somebody else does something."""
    undo = perform(step)
    act()
    return undo


@pytest.mark.parametrize("what", ["starts", "writes", "writes and ends"])
def test_what_a_guest_writes_that_virsh_has_started_is_kept(guest: Guest, what: str) -> None:
    """When all is copied, but the guest has not yet got the base as its disk."""
    import libvirt_qemu

    def start() -> None:
        start_paused(guest)
        if what != "starts":
            libvirt_qemu.qemuMonitorCommand(guest.handle.domain, f'qemu-io -d {DISK} "write -P 99 700M 64k"', 1)
        if what == "writes and ends":
            guest.destroy()

    top = guest.chain().top
    plan = guest.commit(base=f"{guest.name}.a", remove=True)
    with pytest.raises(StalePlanError, match=r"written to after|was started in the meantime"):
        faulty(plan, "CommitLayers", partial(then, start)).run(progress=False)
    assert guest.chain().top == top
    guest.destroy()
    before = content(top)
    [again] = guest.unfinished()
    assert again.run(progress=False).as_predicted
    assert content(guest.chain().top) == before
    assert len(guest.chain()) == 3


@pytest.mark.parametrize("kind", ["MarkInvalid", "RemoveFile"])
def test_an_image_to_which_a_guest_writes_is_neither_marked_nor_removed(guest: Guest, kind: str) -> None:
    """Whatever libvirt says by then."""
    top = guest.chain().top
    [step] = [one for one in guest.commit(base=f"{guest.name}.a", remove=True).steps if type(one).__name__ == kind]
    start_paused(guest)
    was = Path(top).read_bytes()
    with pytest.raises(StalePlanError, match="was started in the meantime"):
        guest.commit(base=f"{guest.name}.a").place.actions[type(step)](step)
    assert Path(top).read_bytes() == was
    guest.destroy()


def test_it_is_not_started_by_this_package(guest: Guest) -> None:
    said = []

    def start() -> None:
        with pytest.raises(InUseError) as error:
            guest.start(wait=False)
        said.append(str(error.value.why))

    plan = guest.commit(base=f"{guest.name}.a", remove=True)
    before = content(guest.chain().top)
    assert faulty(plan, "CommitLayers", partial(then, start)).run(progress=False).as_predicted
    assert said
    assert "another plan" in said[0]
    assert content(guest.chain().top) == before
    guest.start(wait=False)
    guest.destroy()
