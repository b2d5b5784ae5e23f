"""A pandas frame that is displayed with all of its text; pandas itself cuts a cell after 50 letters."""

from __future__ import annotations

import pandas as pd

__all__ = ["WholeFrame"]


class WholeFrame(pd.DataFrame):
    """A frame whose sentences are meant to be read; what is computed from it is a usual one."""

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return super().__repr__()

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.max_colwidth", None):
            html: str | None = super()._repr_html_()  # type: ignore[misc]
            return html
