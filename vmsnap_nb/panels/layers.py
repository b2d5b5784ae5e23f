"""The layers of a guest's disk: merges and new overlays below one figure."""

from __future__ import annotations

from typing import Any

from vmsnap_nb.panels.merge import MergePanel
from vmsnap_nb.panels.overlay import OverlayForm
from vmsnap_nb.panels.panel import fold
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.words.message import t

__all__ = ["LayersPanel"]


class LayersPanel(MergePanel):
    """The panel of merges, and below it the controls for new overlays."""

    def build(self) -> None:
        """Make the controls."""
        self.overlay = OverlayForm(self)
        super().build()
        self.map_button.layout.display = "none"  # it has a tab of its own
        self.new_overlay = fold(t("New overlay"), self.overlay)
        *above, flow, decision = self.children
        self.children = (*above, self.new_overlay, flow, decision)

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        self.overlay.show(reading)
        if self.reading is None and not any(image.backing for image in reading.shown):
            self.new_overlay.unfolded = True  # there is nothing else to do here

    def reset(self) -> None:
        """Set the controls to their defaults."""
        super().reset()
        self.overlay.reset()

    def _clicked(self, change: Any) -> None:
        super()._clicked(change)
        self.overlay.choose(change["new"])
