"""What `qemu-img check` found in one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.model.shown import Carded

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ImageCheck"]


@dataclass(frozen=True)
class ImageCheck(Carded):
    """The result of `qemu-img check` for one image; the check reads the image's tables, but no data.

    `to_frame` returns one row: index ``path``, columns ``format result check_errors corruptions leaks
    allocated_clusters total_clusters fragmented_clusters compressed_clusters image_end``.

    Attributes
    ----------
    path : str
        The image.
    format : str
        QEMU's name for the image's format.
    result : str
        ``ok``; ``leaks``: clusters are allocated but unused, which is harmless; ``corrupt``: data may be wrong;
        ``errors``: the check could not be completed; ``no checks``: QEMU has no checks for this format.
    check_errors, corruptions, leaks : int
        Numbers of failed checks, of corrupt table entries, and of leaked clusters.
    allocated_clusters, total_clusters, fragmented_clusters, compressed_clusters : int or None
        Clusters of the disk; None if QEMU does not count them.
    image_end : int or None
        End of the used part of the file, in bytes.
    """

    path: str
    format: str
    result: Literal["ok", "leaks", "corrupt", "errors", "no checks"]
    check_errors: int = 0
    corruptions: int = 0
    leaks: int = 0
    allocated_clusters: int | None = None
    total_clusters: int | None = None
    fragmented_clusters: int | None = None
    compressed_clusters: int | None = None
    image_end: int | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return the result as a table with one row.

        Returns
        -------
        pandas.DataFrame
        """
        from vmsnap_nb.views.frames import check_frame

        return check_frame(self)
