"""The line of the user that a warning is about."""

from __future__ import annotations

import inspect
import os
import warnings

__all__ = ["warn_caller"]

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def warn_caller(warning: str | Warning) -> None:
    """Issue a warning that names the first line outside of vmsnap_nb, however many calls there are between."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level if frame is not None else 2)
