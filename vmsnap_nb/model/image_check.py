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
    """The result of `qemu-img check` for one image; the check reads the image's tables, but not its data.

    `to_frame` returns a table with one row, index ``path`` and columns ``format result check_errors corruptions leaks
    allocated_clusters total_clusters fragmented_clusters compressed_clusters image_end``.

    Attributes
    ----------
    path : str
        The image.
    format : str
        QEMU's name for the image's format.
    result : str
        ``ok``; ``leaks`` if clusters are allocated but unused, which is harmless; ``corrupt`` if data may be wrong;
        ``errors`` if the check could not be completed; ``no checks`` if QEMU has no checks for this format.
    check_errors : int
        The number of checks that failed.
    corruptions : int
        The number of corrupt table entries.
    leaks : int
        The number of leaked clusters.
    allocated_clusters : int or None
        The number of allocated clusters of the disk; None if QEMU does not count clusters.
    total_clusters : int or None
        The total number of clusters of the disk; None if QEMU does not count clusters.
    fragmented_clusters : int or None
        The number of fragmented clusters; None if QEMU does not count clusters.
    compressed_clusters : int or None
        The number of compressed clusters; None if QEMU does not count clusters.
    image_end : int or None
        The end of the used part of the file, in bytes.
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
