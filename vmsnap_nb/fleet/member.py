"""A host of a fleet: its forests and plans know what the other hosts have of the same images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

from vmsnap_nb.fleet.shared import Around, Seen, concerns_of, in_doubt, joined_forest
from vmsnap_nb.live.connection import Customs
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.leftovers import LiveLeftovers, live_leftovers
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.shared_pools import PoolKey, pool_keys
from vmsnap_nb.words.message import t

__all__ = ["ALONE", "Member"]

ALONE: ContextVar[bool] = ContextVar("alone", default=False)
"""Whether a host is read without the others: when it is read for them."""


class Member(Host):
    """A host of a `Fleet`: its name there, and `around`, which returns what is known of the other hosts."""

    _unlisted = frozenset({"alone", "link", "machine", "pools"})

    def __init__(self, name: str, uri: str, around: Callable[[], Around], *, readonly: bool = False) -> None:
        self.name = name
        self._around = around
        self._last = Around()
        super().__init__(uri, readonly=readonly)

    def _customs(self) -> Customs:
        return Customs(others=self._others, unseen=self._unseen)

    def machine(self) -> tuple[str, str]:
        """Return what tells its machine from others: the name, and the UUID that libvirt gives it."""
        with libvirt_errors(t("read the host name of {uri}", uri=self.uri)):
            name, capabilities = str(self.connection.getHostname()), str(self.connection.getCapabilities())
        return name, parse_xml(capabilities).findtext("host/uuid", "")

    def pools(self) -> tuple[PoolKey, ...]:
        """Return what tells its storage pools from those of other hosts."""
        return pool_keys(self.link.knowledge().pools, here=self.files_are_here)

    def alone(self, folders: Iterable[str | os.PathLike[str]] = ()) -> Seen:
        """Read it without the other hosts."""
        token = ALONE.set(True)
        try:
            with self.link.one_pass():
                return Seen(forest=self.place(*folders).forest(), pools=self.pools())
        finally:
            ALONE.reset(token)

    def leftovers(self, *folders: str | os.PathLike[str]) -> LiveLeftovers:
        """Find files that nothing needs; of those that a host without an answer may need it is said."""
        found = super().leftovers(*folders)
        return live_leftovers(in_doubt(found, self.pools(), self._last), found.place)

    def _others(self, forest: Forest) -> Forest:
        if ALONE.get():
            return forest
        self._last = self._around()
        return joined_forest(Seen(forest=forest, pools=self.pools()), self._last)

    def _unseen(self, plan: Plan) -> Iterator[Concern]:
        return concerns_of(plan, self.pools(), self._last)
