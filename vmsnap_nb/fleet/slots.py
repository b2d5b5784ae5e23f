"""The hosts of a fleet by their names: connected when they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.fleet.member import Member
from vmsnap_nb.fleet.shared import Around
from vmsnap_nb.system.libvirt.connection import check_uri
from vmsnap_nb.system.libvirt.shared_pools import PoolKey
from vmsnap_nb.words.message import t

__all__ = ["Slot", "names_of"]


class Slot:
    """One host of a fleet: its name and URI, and the connection if there is one."""

    def __init__(self, name: str, uri: str, around: Callable[[], Around], *, readonly: bool) -> None:
        self.name, self.uri, self.readonly = name, uri, readonly
        self._around = around
        self._member: Member | None = None
        self._lock = threading.Lock()
        # Its storage pools, as they were last read.
        self.pools: tuple[PoolKey, ...] = ()
        self._machine: tuple[str, str] | None = None

    def member(self) -> Member:
        """Return the host, connected; an error says why it cannot be reached."""
        with self._lock:
            if self._member is None or self._member.closed:
                self._member = Member(self.name, self.uri, self._around, readonly=self.readonly)
            return self._member

    def machine(self) -> tuple[str, str]:
        """Return the name and the UUID of its machine, as its libvirt gives them from here."""
        if self._machine is None:
            self._machine = self.member().machine()
        return self._machine

    def close(self) -> None:
        """Close the connection; one that is being opened, which can take long, is not waited for."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._member is not None:
                self._member.close()
        finally:
            self._lock.release()


def names_of(uris: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """Return the URIs by the names of their hosts; of a list, these are the names of the machines."""
    if not isinstance(uris, Mapping):
        named: dict[str, str] = {}
        for uri in map(check_uri, uris):
            parts = urlsplit(uri)
            name = parts.hostname or "localhost"
            name = name if name not in named else f"{name}:{parts.port}" if parts.port else name
            number = 2
            while name in named:
                name, number = f"{parts.hostname or 'localhost'}-{number}", number + 1
            named[name] = uri
        uris = named
    if not uris:
        raise InvalidRequestError(
            t("connect to several hosts"),
            why=t("no host was given"),
            next_step=t("pass their URIs as a list, or as a dictionary of names and URIs"),
        )
    for name, uri in uris.items():
        check_uri(uri)
        if not isinstance(name, str) or not name or "/" in name or name != name.strip():
            raise InvalidRequestError(
                t("name a host {name!r}", name=name),
                why=t("a name must not be empty, contain a slash, or start or end with a space"),
                next_step=t("choose another name"),
            )
    return dict(uris)
