"""The guests of several hosts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.by_host import TablesByHost
from vmsnap_nb.model.guest import Domains

if TYPE_CHECKING:
    from vmsnap_nb.fleet.fleet import Fleet

__all__ = ["FleetGuests"]


@dataclass(frozen=True, repr=False)
class FleetGuests(TablesByHost[Domains]):
    """The guests of a fleet at the time when they were listed; ``guests["a/web"]`` is a `Guest`.

    `to_frame` returns a table with index ``host`` and columns ``guest state persistent disks sources status``.

    Attributes
    ----------
    fleet : Fleet
        The fleet.
    """

    fleet: Fleet = field(kw_only=True, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all guests, including the names of their hosts."""
        return tuple(f"{host}/{domain.name}" for host, domains in self.parts.items() for domain in domains)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.names)

    def __getitem__(self, name: str) -> Any:
        """Return a guest, ``a/web``, or what was read of a host, ``a``."""
        return self.fleet.guest(name) if "/" in name else super().__getitem__(name)

    def guest(self, name: str) -> Guest:
        """Return a guest by host name and guest name, such as ``a/web``.

        Raises
        ------
        NotFoundError
            No guest has that name.
        """
        return self.fleet.guest(name)
