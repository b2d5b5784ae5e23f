"""The panel of a block map: it follows what is written, and marks what is new."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import MIB, write
from support.waiting import eventually

from vmsnap_nb.live.guest import Guest
from vmsnap_nb.panels import BlockMapPanel

pytestmark = pytest.mark.system

PLACE = 700 * MIB


@pytest.fixture
def panel(guest: Guest) -> Iterator[BlockMapPanel]:
    panel = BlockMapPanel(guest, every=0.05)
    yield panel
    panel.close()


def new_bytes(panel: BlockMapPanel) -> int:
    return sum(extent.length for layer in panel.map.new for extent in layer)


def test_what_is_written_appears_as_new_while_somebody_looks(panel: BlockMapPanel, guest: Guest) -> None:
    top = Path(guest.chain().top)
    assert (panel.map.layers, new_bytes(panel)) == (guest.blockmap().layers, 0)
    panel.view.views = 1
    write(top, f"write -q {PLACE} 1M")
    assert eventually(lambda: new_bytes(panel) == MIB)
    assert eventually(lambda: "1 MiB new" in panel.view.text)
    guest.snapshot("one", kind="external-disk").run(progress=False)
    assert eventually(lambda: len(panel.map.layers) == 3)  # the new layer, too
    panel.mark_button.click()
    assert eventually(lambda: new_bytes(panel) == 0)
    panel.is_open = False  # another tab is
    assert eventually(lambda: sum(one.name == "vmsnap block map" for one in threading.enumerate()) == 1)  # no click's
    panel.read()  # after one that was under way
    write(Path(guest.chain().top), f"write -q {PLACE} 1M")
    assert not eventually(lambda: new_bytes(panel) > 0, seconds=0.3)
    panel.is_open = True
    assert eventually(lambda: new_bytes(panel) == MIB)


def test_without_live_it_is_read_when_asked_for(guest: Guest) -> None:
    panel = BlockMapPanel(guest)
    panel.view.views, panel.live.value = 1, False
    top = Path(guest.chain().top)
    write(top, f"write -q {PLACE} 64k")
    assert new_bytes(panel) == 0
    panel.again_button.click()
    assert eventually(lambda: new_bytes(panel) == 64 << 10)
    assert "new data" in str(panel._repr_mimebundle_())  # what a page without a kernel shows
    away = top.rename(top.with_suffix(".away"))
    panel.read()
    assert 'role="alert"' in panel.said.value
    away.rename(top)
    panel.close()
