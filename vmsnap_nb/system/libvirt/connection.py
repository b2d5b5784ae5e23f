"""Opens connections to libvirt."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from vmsnap_nb.errors import InvalidRequestError, LibvirtError, VmsnapError
from vmsnap_nb.system.libvirt.errors import has_own_step, libvirt_errors, tells_of_loss
from vmsnap_nb.system.libvirt.first_core import on_first_core
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.reaper import collect_orphans
from vmsnap_nb.words.message import Message, t

__all__ = ["Probe", "check_uri", "connecting_soon", "files_are_here", "is_lost", "open_connection", "was_cut_off"]

_SECONDS = 15
"""How long the opening of a connection over a network may take."""
_SECONDS_HERE = 60
"""How long it may take on this machine, where a user who is not root may be asked for a password."""
_LEAST = 0.5
"""Seconds in which libvirt may always answer."""
_KEEPALIVE = (4, 2)
"""Seconds between libvirt's questions whether the other side is there, and how many may be unanswered."""
_SECONDS_AGAIN = 3
"""With the 12 s after which libvirt gives up a silent connection these are `_SECONDS`."""
_AGAIN: ContextVar[bool] = ContextVar("again", default=False)
_OWN_SOCKETS = ("/run/libvirt/", "/var/run/libvirt/")
"""Where the daemons of this machine listen; a socket elsewhere may be forwarded from another machine."""


def open_connection(uri: str, *, readonly: bool = False) -> Any:
    """Open a connection, as to ``qemu+ssh://box/system`` (https://libvirt.org/uri.html).

    With `readonly` libvirt itself refuses every change.
    """
    check_uri(uri)
    libvirt = library()
    embedded = urlsplit(uri).path == "/embed"
    if embedded:
        collect_orphans()
    try:
        with (
            libvirt_errors(t("connect to {uri}", uri=uri)),
            on_first_core() if embedded else contextlib.nullcontext(),
        ):
            open_now = partial(libvirt.openReadOnly if readonly else libvirt.open, uri)
            if embedded:
                return open_now()
            here = "+" not in urlsplit(uri).scheme
            connection = _in_time(open_now, uri, here=here)
            if not here:
                connection.setKeepAlive(*_KEEPALIVE)
            return connection
    except VmsnapError as error:
        if not has_own_step(error):
            error.next_step = t("check the URI, and make sure that libvirt is running there")
        raise


def check_uri(uri: object) -> str:
    """Return a URI of libvirt if it has the form of one."""
    if not isinstance(uri, str) or "://" not in uri or "\0" in uri:
        raise InvalidRequestError(
            t("connect to {uri!r}", uri=uri),
            why=t("it is not a libvirt URI"),
            next_step=t("use a URI such as qemu:///system, qemu:///session or qemu+ssh://box/system"),
        )
    return uri


@contextlib.contextmanager
def connecting_soon() -> Iterator[None]:
    """Give a new connection to another machine only a moment: it was lost just now, and that took its time already."""
    token = _AGAIN.set(True)
    try:
        yield
    finally:
        _AGAIN.reset(token)


def _in_time(open_now: Callable[[], Any], uri: str, *, here: bool) -> Any:
    """Return a connection that is opened in time; a network that is down, or a daemon that hangs, answers nothing."""
    seconds = _SECONDS_HERE if here and os.geteuid() else _SECONDS_AGAIN if _AGAIN.get() and not here else _SECONDS
    answers: SimpleQueue[Any] = SimpleQueue()

    def work() -> None:
        try:
            answers.put(open_now())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            answers.put(error)

    threading.Thread(target=work, name="vmsnap-connect", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        if here:
            raise _silent(t("connect to {uri}", uri=uri), seconds) from None
        raise LibvirtError(
            t("connect to {uri}", uri=uri),
            why=t("the other machine did not respond within {seconds} s", seconds=seconds),
            next_step=t("check the host name and the network, and make sure that ssh does not ask for a password"),
        ) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _silent(tried: Message, seconds: float) -> LibvirtError:
    return LibvirtError(
        tried,
        why=t("libvirt did not respond within {seconds:.1f} s", seconds=seconds),
        next_step=t("check whether the libvirt daemon is stopped or overloaded, and restart it. Guests keep running"),
    )


class Probe:
    """Asks libvirt for something small, to see that it answers: a daemon that hangs keeps every call of it waiting.

    One question waits at a time. On this machine nothing gives up the connection: libvirt would wake only one of the
    calls that wait, and the others would never return, also if the daemon goes on.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def check(self, tried: Message, ask: Callable[[], object], until: float) -> None:
        """Raise unless libvirt answers by a time (of `time.monotonic`); what it answers is of no interest."""
        libvirt, seconds = library(), max(_LEAST, until - time.monotonic())

        def work() -> None:
            with contextlib.suppress(libvirt.libvirtError, VmsnapError):
                ask()

        thread = self._thread
        if thread is None or not thread.is_alive():
            thread = self._thread = threading.Thread(target=work, name="vmsnap probe", daemon=True)
            thread.start()
        thread.join(seconds)
        if thread.is_alive():
            raise _silent(tried, seconds)


def was_cut_off(connection: Any, error: VmsnapError) -> bool:
    """Return whether libvirt ended, or the network went down, before a call of it was answered: it may do it yet.

    Of a socket that was reset, the connection itself is told only a little later.
    """
    return tells_of_loss(error) or is_lost(connection)


def is_lost(connection: Any) -> bool:
    """Return whether a connection has ended by itself: libvirt was restarted, or the network is down."""
    try:
        return not connection.isAlive()
    except library().libvirtError:
        return True


def files_are_here(uri: str) -> bool:
    """Return whether the images of that libvirt are known to be files of this machine.

    Examples
    --------
    >>> files_are_here("qemu:///system"), files_are_here("qemu+ssh://box/system"), files_are_here("test:///default")
    (True, False, False)
    >>> files_are_here("qemu+unix:///system?socket=/tmp/forwarded")
    False
    """
    parts = urlsplit(uri)
    driver, _, transport = parts.scheme.partition("+")
    here = driver == "qemu" and not parts.netloc and transport in {"", "unix"}
    # libvirt takes its parameters in any case, and parts them by ; as well.
    given = parse_qsl(parts.query.replace(";", "&"), keep_blank_values=True)
    return here and all(_is_own(value) for name, value in given if name.lower() == "socket")


def _is_own(socket: str) -> bool:
    """Return whether a daemon of this machine listens there: of the system, or of this user's session."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return os.path.realpath(socket).startswith((*_OWN_SOCKETS, f"{runtime}/libvirt/"))
