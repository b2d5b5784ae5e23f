"""The three views that every shown thing has, as hooks of one line each."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import graphviz
    import pandas as pd

__all__ = ["Shown"]


class Shown:
    """Base of all that shows itself as a frame, a diagram and a text figure."""

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """Give the table: one row for each image, disk, snapshot or step.

        Returns
        -------
        pandas.DataFrame
            The columns are those that the class of this object documents, also where there is no row.
            Sizes are ``Int64`` in bytes, text is ``string``.
        """
        from vmsnap_nb.views.frames import to_frame

        return to_frame(self)

    def to_graphviz(self, **options: Any) -> graphviz.Digraph:
        """Give the diagram.

        Parameters
        ----------
        **options
            Those of `vmsnap_nb.views.figure.Options`.

        Returns
        -------
        graphviz.Digraph
            Base at the left, active at the right, an arrow from each overlay to its backing file.
        """
        from vmsnap_nb.views.dot import to_graphviz

        return to_graphviz(self, **options)

    def to_text(self, **options: Any) -> str:
        """Give the diagram as an ASCII figure.

        Parameters
        ----------
        **options
            Those of `vmsnap_nb.views.figure.Options`.

        Returns
        -------
        str
            Lines without trailing white space.
        """
        from vmsnap_nb.views.text import to_text

        return to_text(self, **options)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        from vmsnap_nb.views.bundle import mimebundle

        return mimebundle(self, include, exclude)
