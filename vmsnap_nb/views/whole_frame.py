"""A pandas frame to be read: all of its text, which pandas cuts after 50 letters, and sizes in KiB and MiB."""

from __future__ import annotations

import pandas as pd

from vmsnap_nb.model.size import human_size

__all__ = ["WholeFrame"]


class WholeFrame(pd.DataFrame):
    """A frame whose sentences and ``bytes`` are displayed for readers; what is computed from it is a usual one."""

    def _readable(self) -> pd.DataFrame:
        copy = pd.DataFrame(self)
        if "bytes" in copy:
            copy["bytes"] = [human_size(int(size)) for size in self["bytes"]]
        return copy

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return repr(self._readable())

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.max_colwidth", None):
            html: str | None = self._readable()._repr_html_()  # type: ignore[operator]
            return html
