"""The end of libvirt's own deletion of a snapshot, which it does from version 11.0 on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest_actions import delete
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.plans.delete.steps import DeleteExternal
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.step import GuestRef
from vmsnap_nb.system.libvirt.library import library


@pytest.mark.parametrize("fails", [False, True])
def test_the_entry_stays_until_qemu_has_written_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    base, top = tmp_path / "base", tmp_path / "top"
    for path in (base, top):
        path.write_text("")
    entry = MergeEntry(base=str(base), top=str(top), merged=(str(top),), by_libvirt=True)
    did: list[object] = []

    def suspend() -> None:
        did.append(Path(entry.path).exists())
        if fails:
            raise library().libvirtError("no space")

    libvirt = SimpleNamespace(
        connect=lambda: None,
        state=lambda: (library().VIR_DOMAIN_RUNNING, 1),
        suspend=suspend,
        resume=lambda: None,
    )
    link = SimpleNamespace(files_are_here=False)
    guest = cast("GuestHandle", SimpleNamespace(link=link, domain=libvirt, running=True))
    step = DeleteExternal(
        guest=GuestRef("g", "", "qemu:///system"),
        name="s",
        targets=("vda",),
        bases=(entry.base,),
        tops=(entry.top,),
        entries=(entry,),
    )
    monkeypatch.setattr(delete, "_watched", lambda *_: did.append("deleted"))
    try:
        delete._delete_external(guest, step)
    except VmsnapError:
        assert fails
    assert did == ["deleted", True]
    assert Path(entry.path).exists() is fails
