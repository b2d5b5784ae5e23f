"""Tables as pandas frames, with the same columns and dtypes whatever is in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.model.shown import Shown, Tabled
from vmsnap_nb.model.space import Space
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.views.tables import (
    Cell,
    Column,
    Table,
    table_of,
    table_of_alternatives,
    table_of_check,
    table_of_internal,
)

if TYPE_CHECKING:
    import pandas as pd
    from pandas.api.extensions import ExtensionArray

__all__ = ["alternatives_frame", "check_frame", "frame_of_table", "internal_frame", "to_frame"]

_DTYPES = {"bytes": "Int64", "count": "Int64", "seconds": "Float64", "yes or no": "boolean"}


def to_frame(thing: Shown | Tabled) -> pd.DataFrame:
    """Return an object's table.

    Sizes in bytes and counts are ``Int64``, durations ``Float64`` in seconds, text is ``string``, truth is ``boolean``,
    times are ``datetime64[us, UTC]``; ``<NA>`` where nothing is known or nothing applies.
    """
    return frame_of_table(table_of(thing))


def alternatives_frame(plan: Plan) -> pd.DataFrame:
    """Return the ways that a plan compared, as `to_frame` gives its steps; reasons are displayed as a whole."""
    from vmsnap_nb.views.whole_frame import WholeFrame

    return WholeFrame(frame_of_table(table_of_alternatives(plan)))


def check_frame(check: ImageCheck) -> pd.DataFrame:
    """Return what a check of one image has found, in one row."""
    return frame_of_table(table_of_check(check))


def internal_frame(space: Space) -> pd.DataFrame:
    """Return the internal snapshots of all images, with what each of them takes."""
    return frame_of_table(table_of_internal(space))


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
