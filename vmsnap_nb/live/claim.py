"""Claims: two plans never change the same image, or the snapshots of one guest, at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import partial

from vmsnap_nb.errors import StalePlanError
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.devices import identity_of
from vmsnap_nb.system.files.locks import claim, claim_guest, release
from vmsnap_nb.system.files.paths import real_path
from vmsnap_nb.system.files.temporary import is_temporary
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["Claim"]

_GUEST_TAKEN = N_("another plan is currently changing the snapshots of this guest")
_GUESTS: set[str] = set()
_LOCK = threading.Lock()


def _forget_all() -> None:
    # A copy of the process made by fork has no plan that runs, and a thread that is not there may have held the lock.
    global _LOCK  # noqa: PLW0603 - one for the whole process
    _LOCK = threading.Lock()
    _GUESTS.clear()


os.register_at_fork(after_in_child=_forget_all)


class Claim:
    """What a plan has for itself until `release`, or until its process ends: a guest (by UUID), and images.

    `relies` are images on which it builds: other plans may build on them too, and none may change them meanwhile.
    `own` are images of the guest, by which plans of other processes see that it is taken. Images that cannot be opened,
    as those that may not be written, are left out. It raises StalePlanError where another plan has the guest or one of
    the images, in any process.
    """

    def __init__(
        self, tried: str, guest: str, paths: Iterable[str], relies: Iterable[str] = (), own: Iterable[str] = ()
    ) -> None:
        self._guest = ""
        self._files: list[int] = []
        try:
            self._take(tried, guest, paths, relies)
            for path in _by_file(own).values() if guest else ():
                self._lock(tried, path, t(_GUEST_TAKEN), partial(claim_guest, path, guest))
        except BaseException:  # an interrupt as well
            self.release()
            raise

    def _take(self, tried: str, guest: str, paths: Iterable[str], relies: Iterable[str]) -> None:
        with _LOCK:
            if guest and guest in _GUESTS:
                raise _taken(tried, t(_GUEST_TAKEN))
            self._guest = guest
            _GUESTS.add(guest)
        alone = _by_file(paths)
        shared = [path for file, path in _by_file(relies).items() if file not in alone]
        for path, how in (*((path, False) for path in alone.values()), *((path, True) for path in shared)):
            why = t("another plan is currently changing {image}", image=path)
            self._lock(tried, path, why, partial(claim, path, shared=how))

    def _lock(self, tried: str, path: str, why: Message, lock: Callable[[], int]) -> None:
        if is_temporary(os.path.basename(path)):
            return  # it is locked by whoever writes it, and else nobody does
        try:
            self._files.append(lock())
        except BlockingIOError:
            raise _taken(tried, why) from None
        except OSError:
            return

    def release(self) -> None:
        """Let others have it all."""
        while self._files:
            release(self._files.pop())
        with _LOCK:
            _GUESTS.discard(self._guest)
        self._guest = ""


def _by_file(paths: Iterable[str]) -> dict[Identity | str, str]:
    """Return one name of each file: a second lock on one, by a hard link or a bind mount, would meet the first."""
    found: dict[Identity | str, str] = {}
    for path in map(real_path, paths):
        try:
            found.setdefault(identity_of(os.stat(path)), path)
        except (OSError, ValueError):
            found.setdefault(path, path)
    return found


def _taken(tried: str, why: Message) -> StalePlanError:
    next_step = t("wait until that plan has ended. Then create this plan again, review it and run it")
    return StalePlanError(tried, why=why, next_step=next_step)
