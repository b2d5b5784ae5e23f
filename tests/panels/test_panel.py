"""What all panels have: they read as long as they are shown."""

from __future__ import annotations

import inspect
import threading
import time
from pathlib import Path

import pytest
from support.images import filled
from support.waiting import eventually

from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.panels import LabPanel, MergePanel, OverlayPanel, SnapshotPanel
from vmsnap_nb.panels.panel import Panel
from vmsnap_nb.panels.source import Source

pytestmark = pytest.mark.system


@pytest.mark.parametrize("kind", [LabPanel, SnapshotPanel, MergePanel, OverlayPanel])
def test_a_panel_reads_each_second(kind: type[Panel]) -> None:
    # So what others do appears within two. Not by the clock: a busy machine takes its time for a reading.
    assert 0 < inspect.signature(kind.__init__).parameters["every"].default <= 1.0


def test_what_others_do_appears_in_every_panel(
    forest: LiveForest, images: dict[str, Path], opened: list[Panel]
) -> None:
    panels = [OverlayPanel(forest, every=0.2), MergePanel(forest, every=0.2)]
    opened.extend(panels)
    panels[0].form.base.value = str(images["other"])
    new = filled(images["first"].parent / "New.qcow2", images["other"])
    for panel in panels:
        assert eventually(lambda panel=panel: str(new) in panel.chain.boxes.values())
        assert "UTC" in panel.time_line.value
    images["other"].unlink()
    assert eventually(lambda: panels[0].form.base.value is None)


def test_a_panel_reads_as_long_as_it_is_shown(forest: LiveForest, images: dict[str, Path], opened: list[Panel]) -> None:
    def rests() -> bool:
        reading = panel.reading
        time.sleep(0.3)
        return panel.reading is reading

    panel = OverlayPanel(forest, every=0.05)
    opened.append(panel)
    panel.chain.views = 1
    seen = filled(images["first"].parent / "Seen.qcow2", images["other"])
    assert eventually(lambda: str(seen) in panel.chain.boxes.values())
    panel.chain.views = 0
    assert eventually(rests)  # one that was under way comes to its end
    reading = panel.reading
    panel.chain.views = 1
    assert eventually(lambda: panel.reading is not reading)


def test_a_guest_in_which_nothing_changed_is_not_drawn_again(guest: Guest) -> None:
    guest.snapshot("s", kind="internal-disk").run(progress=False)
    source = Source(guest)
    first, second = source.read(), source.read()
    assert first.snapshots is not None
    assert second.snapshots is not None
    assert first.snapshots.read_at != second.snapshots.read_at
    assert not second.differs(first)


def test_a_closed_panel_reads_no_more(forest: LiveForest, opened: list[Panel]) -> None:
    def watchers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "vmsnap panel watch"}

    before = watchers()
    panel = MergePanel(forest, every=0.05)
    assert len(watchers() - before) == 1
    panel.close()
    assert eventually(lambda: watchers() <= before)
