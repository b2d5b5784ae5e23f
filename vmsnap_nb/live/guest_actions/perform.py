"""How a step is performed on its guest, whatever kind of step it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from vmsnap_nb.errors import InUseError, VmsnapError
from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.handle import GuestHandle, guard
from vmsnap_nb.live.step_action import Action, HalfDoneError, Undo
from vmsnap_nb.plans.step import GuestStep
from vmsnap_nb.system.libvirt.connection import was_cut_off
from vmsnap_nb.words.message import t

__all__ = ["guest_action", "once_free"]

_LOOK = 0.05


def guest_action(link: Connection, act: Callable[[GuestHandle, Any], Undo], *, alone: bool = True) -> Action:
    """Return the action that performs a step on its guest; `alone`: while no other plan changes its snapshots.

    If libvirt ends meanwhile, or the network is down, the step may have been done all the same: what is below it stays.
    """

    def perform(step: GuestStep) -> Undo:
        handle = GuestHandle.find(link, step.guest)
        connection = handle.domain.connect()
        with guard(step.guest) if alone else contextlib.nullcontext():
            try:
                return act(handle, step)
            except VmsnapError as error:
                if was_cut_off(connection, error):
                    error.add_note(t("the step may still be completed there. Before you plan again, look at chain()"))
                    raise HalfDoneError(error) from error
                raise

    return perform


def once_free(act: Callable[[], object], *, until: float) -> None:
    """Do it, again and again where an image is in use: the kernel may still hold the locks of a QEMU that has ended."""
    while True:
        try:
            act()
        except InUseError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK)
        else:
            return
