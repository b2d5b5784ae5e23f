"""The machine that a plan is about, and the words by which a shell elsewhere reaches it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from vmsnap_nb.model.shown import Carded

__all__ = ["Machine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Carded):
    """A machine: its host name, as libvirt gives it, libvirt's URI, and whether this process is on it."""

    name: str
    uri: str
    here: bool = True

    def line(self, command: str) -> str:
        """Return a line for a shell of this machine that runs a command there."""
        return command if self.here else shlex.join(["ssh", *self._ssh, command])

    @property
    def _ssh(self) -> tuple[str, ...]:
        parts = urlsplit(self.uri)
        host = parts.hostname or self.name
        user = f"{parts.username}@" if parts.username else ""
        port = ("-p", str(parts.port)) if parts.port and parts.scheme.endswith("ssh") else ()
        return (*port, "--", user + host)  # its own name, as a remote libvirt gives it, is no option either

    @property
    def own_uri(self) -> str:
        """The URI of the same libvirt on that machine itself.

        Examples
        --------
        >>> Machine(name="box", uri="qemu+ssh://root@box:2222/system?keyfile=x", here=False).own_uri
        'qemu:///system'
        """
        parts = urlsplit(self.uri)
        if self.here:
            return self.uri
        return urlunsplit((parts.scheme.partition("+")[0], "", parts.path, "", "")).replace(":/", ":///", 1)
