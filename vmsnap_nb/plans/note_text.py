"""The text of a note that lies beside images while they are changed: a JSON object, and the version of its form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["note_of", "text_of"]

_VERSION = 1
_N = TypeVar("_N")


def text_of(note: DataclassInstance) -> str:
    """Write a note down."""
    return json.dumps({"version": _VERSION, **asdict(note)}, indent=1) + "\n"


def note_of(text: str, make: Callable[..., _N], *lists: str) -> _N | None:
    """Read a note.

    Parameters
    ----------
    text : str
        As `text_of` gives it, or anything.
    make : callable
        Takes the fields by their names.
    *lists : str
        The fields that are lists; it gets them as tuples.

    Returns
    -------
    object or None
        What `make` gives; None where this is no note, or one that was not written to its end.
    """
    try:
        fields: Any = json.loads(text)
        if fields.pop("version") != _VERSION:
            return None
        return make(**{**fields, **{name: tuple(fields[name]) for name in lists}})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
