"""Tables as pandas frames, with the same columns and dtypes whatever is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.tables import Column, Table, table_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_of_table", "to_frame"]

_DTYPES = {"bytes": "Int64", "count": "Int64", "seconds": "Float64", "yes or no": "boolean"}


def to_frame(thing: Shown) -> pd.DataFrame:
    """Give an object's table.

    Parameters
    ----------
    thing : Shown
        A Forest, Chain, Disks, Plan or Report.

    Returns
    -------
    pandas.DataFrame
        Sizes in bytes and counts are ``Int64``, durations ``Float64`` in seconds, text is ``string``, truth is
        ``boolean``; ``<NA>`` where nothing is known or nothing applies.
    """
    return frame_of_table(table_of(thing))


def frame_of_table(table: Table) -> pd.DataFrame:
    """Make a frame of any table, its first column the index."""
    import pandas as pd

    # Text is kept in Python objects: PyArrow's strings cannot hold file names that are no UTF-8.
    def dtype(column: Column) -> str | pd.StringDtype:
        return _DTYPES.get(column.kind) or pd.StringDtype("python")

    cells = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    index, *columns = table.columns
    data = {
        column.name: pd.array(list(values), dtype=dtype(column))
        for column, values in zip(columns, cells[1:], strict=True)
    }
    return pd.DataFrame(data, index=pd.Index(pd.array(list(cells[0]), dtype=dtype(index)), name=index.name))
