"""A table of which one row can be selected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import anywidget
import traitlets

from vmsnap_nb.views.words import shown

__all__ = ["SelectTable"]


class SelectTable(anywidget.AnyWidget):
    """Rows of text; one can be selected by mouse or by keyboard, and once more gives it up."""

    _esm = Path(__file__).parent / "select_table.js"
    label = traitlets.Unicode("").tag(sync=True)  # what it lists
    columns = traitlets.List(traitlets.Unicode(), []).tag(sync=True)
    # Each a key, and what stands in the columns; see `show`.
    rows = traitlets.List(traitlets.List(traitlets.Unicode()), []).tag(sync=True)
    # The key of the selected row; it clears when that is no longer there. To be observed.
    value = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    empty = traitlets.Unicode("").tag(sync=True)  # what is said where there is no row

    @property
    def names(self) -> list[str]:
        """The keys of the rows, in their order."""
        return [key for key, *_ in self.rows]

    def show(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Show these rows instead: each a key, which need not be shown, and what stands in the columns.

        What is selected stays so, if it is still there.
        """
        self.rows = [[key, *map(shown, cells)] for key, *cells in rows]
        if self.value not in self.names:
            self.value = None
