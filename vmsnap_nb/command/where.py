"""Where a command looks: folders alone, or a libvirt, or several; opened when it is first needed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from vmsnap_nb.errors import InvalidRequestError, VmsnapError
from vmsnap_nb.words.message import Message, listed, t

if TYPE_CHECKING:
    from vmsnap_nb.fleet.fleet import Fleet
    from vmsnap_nb.live.forest import LiveForest
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = ["Where", "default_uri", "opened"]

DEFAULT = "qemu:///system"
"""The libvirt of commands that need one, if none was named."""
_NAMED = re.compile(r"([^=/:]+)=(?=[^=]*:)")
"""What gives a host a name: ``a=qemu:///system``."""
_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")
"""Where the system libvirt of this machine listens, if it runs or can be started."""
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
        self._host: Host | Fleet | None = None

    @property
    def has_libvirt(self) -> bool:
        """Whether a libvirt was named."""
        return bool(self.uris or self.shared)

    @property
    def is_fleet(self) -> bool:
        """Whether several hosts were named."""
        return len(self.uris) > 1 or bool(self.shared) or any(_NAMED.match(uri) for uri in self.uris)

    def host(self) -> Host | Fleet:
        """Return the host, or all of them; that of the system if none was named."""
        from vmsnap_nb.fleet.connect import connect

        if self._host is None:
            if self.is_fleet:
                self._host = connect(self._named(), readonly=self.readonly, shared=self.shared)
            else:
                self._host = connect(self.uris[0] if self.uris else DEFAULT, readonly=self.readonly)
        return self._host

    @property
    def files_are_here(self) -> bool:
        """Whether paths are those of this machine; of a fleet each image is named with its host."""
        return not self.has_libvirt or (not self.is_fleet and cast("Host", self.host()).files_are_here)

    def take_local(self) -> Message | None:
        """Use the system libvirt of this machine if none was named, so that its guests are known; return why not."""
        from vmsnap_nb.live.host import Host

        if self.has_libvirt:
            return None
        if not any(map(os.path.exists, _SOCKETS)):
            return t("no libvirt connection was given, and no system libvirt runs on this machine")
        try:
            self._host = Host(DEFAULT, readonly=self.readonly)
        except VmsnapError as error:
            return t("{headline}: {reason}", headline=error.headline, reason=error.reason)
        self.uris = (DEFAULT,)
        return None

    def _named(self) -> dict[str, str]:
        """Return the URIs by the names of their hosts."""
        from vmsnap_nb.fleet.slots import names_of

        pairs = [(found[1], uri[found.end() :]) for uri in self.uris if (found := _NAMED.match(uri))]
        named = dict(pairs)
        if len(named) < len(pairs):
            name = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
            raise InvalidRequestError(
                t("name a host {name!r}", name=name),
                why=t("several URIs have this name"),
                next_step=t("choose another name"),
            )
        rest = [uri for uri in self.uris if not _NAMED.match(uri)] or ([] if named else [DEFAULT])
        return {**named, **(names_of(rest) if rest else {})}

    def only(self) -> Host:
        """Return the host, if only one was named."""
        host = self.host()
        if not self.is_fleet:
            return cast("Host", host)
        uris = cast("Fleet", host).uris
        raise InvalidRequestError(
            t("choose between the hosts {names}", names=listed(uris)),
            why=t("this command acts on images of one host, but several hosts were named"),
            next_step=t("specify one host: {option}", option=f"--connect {next(iter(uris.values()))}"),
        )

    def of_image(self, image: str) -> tuple[Host, str]:
        """Return the host of an image, and its name without that of the host; of a fleet it is named HOST:IMAGE."""
        host = self.host()
        if not self.is_fleet:
            return cast("Host", host), image
        fleet = cast("Fleet", host)
        name, colon, rest = image.partition(":")
        if not colon or "/" in name:
            raise InvalidRequestError(
                t("choose between the hosts {names}", names=listed(fleet)),
                why=t("this command acts on images of one host, but several hosts were named"),
                next_step=t(
                    "specify the image as HOST:IMAGE, such as {example}",
                    example=f"{next(iter(fleet))}:/images/top.qcow2",
                ),
            )
        return fleet[name], rest

    def forest(self, folders: Iterable[str] = ()) -> LiveForest:
        """Read the images of a libvirt and of some folders; without a libvirt those of the folders alone."""
        from vmsnap_nb.live.forest import scan

        return self.only().survey(*folders) if self.has_libvirt else scan(*folders)

    def guest(self, name: str) -> Guest:
        """Return a guest."""
        return self.host().guest(name)

    def guest_names(self) -> list[str]:
        """Return the names of all guests; of a fleet with their hosts."""
        host = self.host()
        if self.is_fleet:
            return list(cast("Fleet", host).guests().names)
        return [guest.name for guest in cast("Host", host).guests()]

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
