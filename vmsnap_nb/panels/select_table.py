"""A table of which one row can be selected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import anywidget
import traitlets

from vmsnap_nb.views.words import shown

__all__ = ["SelectTable"]


class SelectTable(anywidget.AnyWidget):
    """Rows of text; one can be selected by mouse or by keyboard, and once more gives it up.

    Attributes
    ----------
    label : str
        What it lists.
    columns : list of str
        Heads.
    rows : list of list of str
        Each a key, and what stands in the columns. See `show`.
    value : str or None
        The key of the selected row; it clears when that is no longer there. To be observed.
    empty : str
        What is said where there is no row.
    """

    _esm = Path(__file__).parent / "select_table.js"
    label = traitlets.Unicode("").tag(sync=True)
    columns = traitlets.List(traitlets.Unicode(), []).tag(sync=True)
    rows = traitlets.List(traitlets.List(traitlets.Unicode()), []).tag(sync=True)
    value = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    empty = traitlets.Unicode("").tag(sync=True)

    @property
    def names(self) -> list[str]:
        """The keys of the rows, in their order."""
        return [key for key, *_ in self.rows]

    def show(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Show these rows instead; what is selected stays so, if it is still there.

        Parameters
        ----------
        rows : iterable of tuple of str
            A key, which need not be shown, and what stands in the columns.
        """
        self.rows = [[key, *map(shown, cells)] for key, *cells in rows]
        if self.value not in self.names:
            self.value = None
