"""The three views that every shown thing has, as hooks of one line each."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

from vmsnap_nb.words.printable import printable

if TYPE_CHECKING:
    import graphviz
    import pandas as pd

__all__ = ["Carded", "Listed", "Shown", "Tabled", "pickled_as"]


def pickled_as(kind: type, thing: Any) -> tuple[Any, ...]:
    """Return what pickle needs to restore an object as one of its base class: another process has no connection."""
    return _restored, (kind, {field.name: getattr(thing, field.name) for field in fields(kind)})


def _restored(kind: type, values: dict[str, Any]) -> Any:
    return kind(**values)


def _printed(own: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return what a class says of its objects, without signs in the names of files or guests that act on a terminal."""

    @wraps(own)
    def printed(self: Any) -> str:
        return printable(own(self))

    return printed


class Listed:
    """Base of all that lists for `dir`, and so for Tab, what is meant for users."""

    __slots__ = ()
    _unlisted: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.__dict__.get("__repr__")
        if own is not None:
            cls.__repr__ = _printed(own)  # type: ignore[method-assign]

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_") and name not in self._unlisted]

    def __getstate__(self) -> Any:
        """Return what pickle stores: the fields, without what was worked out of them."""
        thing: Any = self
        if not is_dataclass(thing) or not hasattr(thing, "__dict__"):
            return super().__getstate__()
        return {field.name: getattr(thing, field.name) for field in fields(thing)}


class Carded(Listed):
    """Base of all that shows itself as facts by name."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from vmsnap_nb.views.cards import card_html, card_of

        return card_html(card_of(self))


class Tabled(Listed):
    """The base class of all objects that are displayed as a table of findings."""

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row for each finding.

        Returns
        -------
        pandas.DataFrame
            A table with the columns that the object's class documents, even if there are no rows. Sizes are in bytes
            (``Int64``), text has the dtype ``string``, and times are in UTC.
        """
        from vmsnap_nb.views.frames import to_frame

        return to_frame(self)

    def to_text(self) -> str:
        """Return the table as readable text, with sizes in binary units and with long texts below their rows.

        Returns
        -------
        str
            The lines, without trailing white space.
        """
        from vmsnap_nb.views.listing import listing_text

        return listing_text(self)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        from vmsnap_nb.views.listing import listing_bundle

        return listing_bundle(self, include, exclude)


class Shown(Listed):
    """The base class of all objects that are displayed as a table, a diagram or a text figure."""

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row for each image, disk, snapshot or step.

        Returns
        -------
        pandas.DataFrame
            A table with the columns that the object's class documents, even if there are no rows. Sizes are in bytes
            (``Int64``), and text has the dtype ``string``.
        """
        from vmsnap_nb.views.frames import to_frame

        return to_frame(self)

    def to_graphviz(self, **options: Any) -> graphviz.Digraph:
        """Return the diagram as a Graphviz graph.

        Parameters
        ----------
        **options
            The options that `vmsnap_nb.views.figure.Options` documents.

        Returns
        -------
        graphviz.Digraph
            A graph with the base on the left, the active layer on the right, and an arrow from each overlay to its
            backing file.
        """
        from vmsnap_nb.views.dot import to_graphviz

        return to_graphviz(self, **options)

    def to_svg(self, **options: Any) -> str:
        """Return the diagram as SVG, as notebooks show it.

        Parameters
        ----------
        **options
            The options that `vmsnap_nb.views.figure.Options` documents.

        Returns
        -------
        str
            An ``<svg>`` element in the colours of its page. A notebook cell that ends with this value shows the
            picture.

        Examples
        --------
        >>> from vmsnap_nb import Forest, Image
        >>> svg = Forest({"/i/base": Image("/i/base", "raw")}).to_svg(style="handout")
        >>> svg.startswith("<svg"), svg.count('class="box ')
        (True, 1)
        """
        from vmsnap_nb.views.pictures import to_svg

        return to_svg(self, **options)

    def to_png(self, *, zoom: float = 2.0, **options: Any) -> bytes:
        """Return the diagram as PNG, for viewers and documents without SVG.

        In a notebook, ``display(thing, include=["image/png", "text/plain"])`` stores the same picture as the output.

        Parameters
        ----------
        zoom : float
            Number of pixels in the picture for each pixel of the SVG.
        **options
            The options that `vmsnap_nb.views.figure.Options` documents.

        Returns
        -------
        bytes
            The content of a PNG file, on a white background. A notebook cell that ends with this value shows the
            picture.

        Raises
        ------
        MissingPartError
            The Python package resvg_py is not installed: ``pip install "vmsnap_nb[png]"``.
        """
        from vmsnap_nb.views.pictures import to_png

        return to_png(self, zoom=zoom, **options)

    def to_text(self, **options: Any) -> str:
        """Return the diagram as a text figure.

        Parameters
        ----------
        **options
            The options that `vmsnap_nb.views.figure.Options` documents.

        Returns
        -------
        str
            The lines, without trailing white space.
        """
        from vmsnap_nb.views.text import to_text

        return to_text(self, **options)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str | bytes]:
        from vmsnap_nb.views.bundle import mimebundle

        return mimebundle(self, include, exclude)
