"""What libvirt is told when a guest of a lab that somebody else may have made is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import vmsnap_nb as vs
from vmsnap_nb.errors import LabError, VmsnapError
from vmsnap_nb.lab import closing
from vmsnap_nb.lab.closing import forget, give_up, stop
from vmsnap_nb.lab.folder import LabFolder
from vmsnap_nb.lab.signals import _close_labs
from vmsnap_nb.live.journal import write_entry
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.system.libvirt.library import library


@pytest.mark.parametrize(("nvram", "kept"), [("elsewhere/vars", True), ("lab/vars", False), ("lab/link", True)])
def test_firmware_variables_elsewhere_stay(tmp_path: Path, nvram: str, *, kept: bool) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "link").symlink_to(tmp_path / "elsewhere")
    told: list[int] = []
    guest = SimpleNamespace(
        name="g",
        destroy=lambda: None,
        handle=SimpleNamespace(
            domain=SimpleNamespace(undefineFlags=told.append),
            definition=lambda: f"<domain><os><nvram>{tmp_path / nvram}</nvram></os></domain>",
        ),
    )
    forget(guest, tmp_path / "lab")  # type: ignore[arg-type]
    libvirt = library()
    flags = (libvirt.VIR_DOMAIN_UNDEFINE_NVRAM, libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    assert [bool(told[0] & flag) for flag in flags] == [not kept, kept]


def test_a_merge_that_was_interrupted_leaves_nothing_behind_of_images_of_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    folder = LabFolder(tmp_path / "lab")
    names = ("base", "top", "mine", "mine-top")
    base, top, mine, mine_top = (str(folder.images / name) for name in names)
    for path in (base, top):
        folder.add(path)
    own = MergeEntry(base=base, top=top, merged=(top,))
    other = MergeEntry(base=mine, top=mine_top, merged=(mine_top,))
    for entry in (own, other):
        write_entry(entry)
    give_up(SimpleNamespace(survey=lambda *folders: vs.scan(folder.images)), folder, ())  # type: ignore[arg-type]
    assert folder.remove() == [other.path]


def test_a_lab_that_cannot_be_closed_keeps_no_other_one_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def fails() -> None:
        closed.append("one")
        raise VmsnapError("stop the guest demo")

    labs = (SimpleNamespace(close=fails), SimpleNamespace(close=lambda: closed.append("two")))
    monkeypatch.setattr("vmsnap_nb.lab.opened.open_labs", lambda: labs)
    _close_labs()
    assert closed == ["one", "two"]


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Storage that does not respond until the event is set."""
    for limit in ("_LOOKS", "_LOOKS_WHOLE"):
        monkeypatch.setattr(closing, limit, 0.2)
    event = threading.Event()
    yield event
    event.set()


def test_storage_that_hangs_holds_up_neither_the_end_of_guests_nor_of_a_lab(
    tmp_path: Path, hangs: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    host = SimpleNamespace(survey=lambda *_: hangs.wait())
    ended = threading.Event()
    power = SimpleNamespace(ask_to_stop=lambda _: None, destroy=ended.set)
    handle = type("Handle", (), {"still_running": property(lambda _: not ended.is_set())})()
    began = time.monotonic()
    for count in (1, 3):
        ended.clear()
        guests = [SimpleNamespace(name="g", host=host, handle=handle, power=power) for _ in range(count)]
        threading.Timer(0.5, ended.set).start()
        stop(guests)  # type: ignore[arg-type]
    assert time.monotonic() - began < 4
    with pytest.raises(LabError, match="could not be checked within"):
        give_up(host, LabFolder(tmp_path / "lab"), ())  # type: ignore[arg-type]


def test_a_guest_that_would_lose_something_goes_on_while_its_storage_does_not_respond(hangs: threading.Event) -> None:
    use = SimpleNamespace(guest="g", next=None, deleted=True)
    ended: list[str] = []
    power = SimpleNamespace(
        losses_soon=lambda: (),
        losses=lambda: (),
        ask_to_stop=lambda _: ended.append("asked"),
        destroy=lambda: ended.append("ended"),
    )
    guest = SimpleNamespace(
        name="g",
        host=SimpleNamespace(survey=lambda: SimpleNamespace(uses=(use,))),
        handle=SimpleNamespace(still_running=True),
        power=power,
        unfinished=hangs.wait,
    )
    stop([guest])  # type: ignore[list-item]
    assert ended == []
