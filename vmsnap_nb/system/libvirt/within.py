"""Calls of libvirt that may take longer than anybody wants to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from vmsnap_nb.errors import GuestNotReadyError
from vmsnap_nb.words.message import Message, t

__all__ = ["within"]

T = TypeVar("T")


def within(seconds: float, tried: Message, call: Callable[[], T]) -> T:
    """Return what a call gives, or raise a `GuestNotReadyError` if it takes longer; it continues in a thread then.

    What asks an agent, or needs a guest with which something else is busy, waits in libvirt for up to a minute, and
    what reads files waits for storage that does not respond: nothing can end that.
    """
    result: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failed.append(error)

    # With the language and the answers of libvirt that this thread uses.
    thread = threading.Thread(target=copy_context().run, args=(work,), name=f"vmsnap: {tried}", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if failed:
        raise failed[0]
    if not result:
        raise GuestNotReadyError(
            tried,
            why=t("it did not respond within {seconds:.1f} s", seconds=max(0.0, seconds)),
            next_step=t("wait, then check the output of console()"),
        )
    return result[0]
