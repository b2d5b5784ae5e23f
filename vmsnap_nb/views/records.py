"""Tables as plain records: what a frame holds, in values that JSON has."""

from __future__ import annotations

from datetime import UTC, datetime

from vmsnap_nb.views.tables import Cell, Table

__all__ = ["Value", "plain", "records_of"]

Value = str | int | float | bool | None


def records_of(table: Table) -> list[dict[str, Value]]:
    """Return a row each, by the names of its columns, the index first."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, map(plain, row), strict=True)) for row in table.rows]


def plain(value: Cell) -> Value:
    """Return a cell as JSON has it: times in UTC, as ISO 8601 writes them, and messages as texts.

    Examples
    --------
    >>> plain(datetime(2026, 11, 29, 8, 30, tzinfo=UTC)), plain(65536)
    ('2026-11-29T08:30:00Z', 65536)
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, str) else value
