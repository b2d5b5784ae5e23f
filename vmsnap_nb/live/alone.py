"""Two plans never change the same image, or one guest's snapshots, at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

from vmsnap_nb.errors import StalePlanError
from vmsnap_nb.system.locks import claim

__all__ = ["Claim"]

_GUESTS: set[str] = set()
_LOCK = threading.Lock()


class Claim:
    """What a plan has for itself until `release`, or until its process ends.

    Parameters
    ----------
    tried : str
        The title of the plan.
    guest : str
        UUID of the guest whose snapshots it changes, or empty.
    paths : iterable of str
        The images that it changes; those that cannot be opened for writing are left out.

    Raises
    ------
    StalePlanError
        Another plan has the guest, in this process, or one of the images, in any.
    """

    def __init__(self, tried: str, guest: str, paths: Iterable[str]) -> None:
        self._guest = ""
        self._files: list[int] = []
        with _LOCK:
            if guest and guest in _GUESTS:
                raise _taken(tried, "the snapshots of the same guest")
            _GUESTS.add(guest)
        self._guest = guest
        for path in dict.fromkeys(map(os.path.realpath, paths)):
            try:
                self._files.append(claim(path))
            except BlockingIOError:
                self.release()
                raise _taken(tried, path) from None
            except OSError:
                continue

    def release(self) -> None:
        """Let others have it all."""
        while self._files:
            os.close(self._files.pop())
        with _LOCK:
            _GUESTS.discard(self._guest)
        self._guest = ""


def _taken(tried: str, what: str) -> StalePlanError:
    return StalePlanError(
        tried,
        said=f"another plan is changing {what} at this moment",
        next_step="wait for its end; then make the plan again, look at it, and run that",
    )
