"""A guest that cannot start while it reverts, nor go back: what was kept stays, and the error names it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from support.labs import start_paused

from vmsnap_nb.errors import GuestError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.guest_actions import revert
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest


def refuse(guest: object, tried: str, begin: Callable[[], object]) -> None:
    raise GuestError(tried, said="the hook says no")


@pytest.mark.parametrize("kind", ["external-checkpoint", "internal-checkpoint"])
def test_what_was_kept_stays_with_its_memory(lab: Lab, base: Image, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    guest = lab.guest(f"noway{kind[0]}", backing=base)
    start_paused(guest)
    guest.snapshot("a", kind=kind).run(progress=False)  # type: ignore[arg-type]
    guest.handle.domain.resume()  # QEMU writes the memory of one moment only once
    guest.handle.domain.suspend()
    before = set(guest.snapshots().names)
    plan = guest.revert("a")
    with monkeypatch.context() as patch:
        patch.setattr(revert, "_begun", refuse)
        patch.setattr(revert, "_revert", lambda guest, step, name, flags, tried: refuse(guest, tried, lambda: None))
        with pytest.raises(VmsnapError, match="the hook says no") as raised:
            plan.run(progress=False)
    [kept] = set(guest.snapshots().names) - before
    record = guest.snapshots()[kept]
    assert record.status == "ok"
    notes = "\n".join(raised.value.__notes__)
    assert f"guest.revert('{kept}')" in notes
    _leads_back(guest, kept, notes)


def _leads_back(guest: Guest, kept: str, notes: str) -> None:
    [record] = [one for one in guest.snapshots().records if one.name == kept]
    if record.memory_file is not None:
        assert os.path.exists(record.memory_file)
        assert record.memory_file in notes
    assert guest.revert(kept, keep_current=False).run(progress=False).as_predicted
    assert guest.state == "paused"
    guest.destroy()
