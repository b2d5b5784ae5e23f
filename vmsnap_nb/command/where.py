"""Where a command looks: folders alone, or a libvirt, or several; opened when it is first needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import joined, t

if TYPE_CHECKING:
    from vmsnap_nb.live.forest import LiveForest
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = ["Where", "default_uri", "opened"]

DEFAULT = "qemu:///system"
"""The libvirt of commands that need one, if none was named."""
_VARIABLES = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")


def default_uri() -> str:
    """Return the URI that the environment names, or an empty text."""
    return next((value for name in _VARIABLES if (value := os.environ.get(name))), "")


class Where:
    """What was named on the command line, and what it leads to."""

    def __init__(self, uris: Iterable[str], shared: Iterable[str] = (), *, readonly: bool = False) -> None:
        own = default_uri()
        self.uris = tuple(uris) or ((own,) if own else ())
        self.shared = tuple(shared)
        self.readonly = readonly
        self._host: Host | None = None

    @property
    def has_libvirt(self) -> bool:
        """Whether a libvirt was named."""
        return bool(self.uris)

    def host(self) -> Host:
        """Return the host; that of the system if none was named."""
        from vmsnap_nb.live.host import connect

        if self._host is None:
            if len(self.uris) > 1:
                raise InvalidRequestError(
                    t("connect to {uris}", uris=joined(self.uris)),
                    why=t("this command is about one host"),
                    next_step=t("use one --connect"),
                )
            self._host = connect(self.uris[0] if self.uris else DEFAULT, readonly=self.readonly)
        return self._host

    def forest(self, folders: Iterable[str] = ()) -> LiveForest:
        """Read the images of a libvirt and of some folders; without a libvirt those of the folders alone."""
        from vmsnap_nb.live.forest import scan

        return self.host().survey(*folders) if self.has_libvirt else scan(*folders)

    def guest(self, name: str) -> Guest:
        """Return a guest."""
        return self.host().guest(name)

    def close(self) -> None:
        """Close the connections."""
        if self._host is not None:
            self._host.close()


@contextlib.contextmanager
def opened(values: dict[str, object]) -> Iterator[Where]:
    """Return where the values of a command line lead to; connections are closed at the end."""
    uris, shared = values.get("connect"), values.get("shared")
    where = Where(
        uris if isinstance(uris, tuple) else (),
        shared if isinstance(shared, tuple) else (),
        readonly=bool(values.get("readonly")),
    )
    try:
        yield where
    finally:
        where.close()
