"""What is wrong with a file that is taken for another format than it begins like."""

from __future__ import annotations

from vmsnap_nb.words.message import Message, t

__all__ = ["USER", "mismatch", "taken_for_raw"]

USER = ""
"""Who says what format a file has, where that is a guest or the user, and no overlay."""


def mismatch(who: str, claim: str | None, format: str | None = None) -> Message:
    """Return the problem of a file that `who` takes for a format; it begins like another one, or like none."""
    fields = {"overlay": who, "claim": claim, "format": format}
    if format is None and who == USER:
        return t("it is used as {claim}, but its content does not look like {claim}", **fields)
    if format is None:
        return t(
            "{overlay} records {claim} as its backing format, but the backing file does not look like {claim}", **fields
        )
    if who == USER:
        return t("it is used as {claim}, but its content looks like {format}", **fields)
    return t("{overlay} records {claim} as its backing format, but the backing file looks like {format}", **fields)


def taken_for_raw(overlay: str, format: str) -> Message:
    """Return the problem of a file that an overlay takes for raw, and that begins like another format."""
    return t(
        "{overlay} records raw as its backing format, but the backing file looks like {format}. If the record is "
        "wrong, the overlay reads the file itself instead of the disk in it",
        overlay=overlay,
        format=format,
    )
