"""Tables as pandas frames, with the same columns and dtypes whatever is in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.views.tables import Cell, Column, Table, table_of, table_of_alternatives

if TYPE_CHECKING:
    import pandas as pd
    from pandas.api.extensions import ExtensionArray

__all__ = ["alternatives_frame", "frame_of_table", "to_frame"]

_DTYPES = {"bytes": "Int64", "count": "Int64", "seconds": "Float64", "yes or no": "boolean"}


def to_frame(thing: Shown) -> pd.DataFrame:
    """Give an object's table.

    Parameters
    ----------
    thing : Shown
        A Forest, Chain, Disks, SnapshotList, Plan or Report.

    Returns
    -------
    pandas.DataFrame
        Sizes in bytes and counts are ``Int64``, durations ``Float64`` in seconds, text is ``string``, truth is
        ``boolean``, times are ``datetime64[us, UTC]``; ``<NA>`` where nothing is known or nothing applies.
    """
    return frame_of_table(table_of(thing))


def alternatives_frame(plan: Plan) -> pd.DataFrame:
    """Give the ways that a plan compared, as `to_frame` gives its steps."""
    return frame_of_table(table_of_alternatives(plan))


def frame_of_table(table: Table) -> pd.DataFrame:
    """Make a frame of any table, its first column the index."""
    import pandas as pd

    # Text is kept in Python objects: PyArrow's strings cannot hold file names that are no UTF-8.
    def array(column: Column, values: Sequence[Cell]) -> ExtensionArray:
        if column.kind == "time":
            moments = [value for value in values if value is None or isinstance(value, datetime)]
            times: ExtensionArray = pd.array(moments, dtype=pd.DatetimeTZDtype("us", "UTC"))
            return times
        dtype: Any = _DTYPES.get(column.kind) or pd.StringDtype("python")
        made: ExtensionArray = pd.array(list(values), dtype=dtype)
        return made

    cells = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    index, *columns = table.columns
    data = {column.name: array(column, values) for column, values in zip(columns, cells[1:], strict=True)}
    return pd.DataFrame(data, index=pd.Index(array(index, cells[0]), name=index.name))
