"""Times as others have written them: of files, of records, of what a disk holds."""

from __future__ import annotations

from datetime import UTC, datetime

from vmsnap_nb.words.message import t

__all__ = ["moment", "time_text"]


def moment(nanoseconds: int | None) -> datetime | None:
    """Return a time since 1970 in UTC, and None for one that no calendar has: whoever owns a file can give it any."""
    if nanoseconds is None:
        return None
    try:
        seconds, rest = divmod(nanoseconds, 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    except (OverflowError, ValueError, OSError):
        return None


def time_text(nanoseconds: int | None) -> str:
    """Return a time since 1970 as people read it."""
    time = moment(nanoseconds)
    return t("unknown") if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
