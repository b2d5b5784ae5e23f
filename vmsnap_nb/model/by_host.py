"""The same of several hosts: a table with a column for the host, and a row for a host that gave no answer."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vmsnap_nb.errors import NotFoundError, VmsnapError
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.shown import Shown, Tabled
from vmsnap_nb.words.message import t

__all__ = ["ByHost", "TablesByHost"]

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class _Parts(Generic[T]):
    """The data that was read of each host, by name, and the errors of the hosts that did not respond."""

    parts: Mapping[str, T] = field(default_factory=dict)
    problems: Mapping[str, VmsnapError] = field(default_factory=dict)
    # A value without rows: its table has the columns.
    empty: Any = field(default=None, compare=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of all hosts."""
        return tuple(sorted({*self.parts, *self.problems}))

    def items(self) -> ItemsView[str, T]:
        """Return the data that was read, by host name."""
        return self.parts.items()

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __contains__(self, host: object) -> bool:
        return host in self.parts

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.hosts)

    def __getitem__(self, host: str) -> T:
        """Return what was read of a host.

        Raises
        ------
        NotFoundError
            No host has that name.
        VmsnapError
            The host gave no answer; the error says why.
        """
        if host in self.problems:
            raise self.problems[host]
        if host in self.parts:
            return self.parts[host]
        raise NotFoundError(
            t("find the host {name}", name=host), why=t("no host has that name"), next_step=there_are(host, self.hosts)
        )

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}: {self.parts[name]!r}" for name in self.parts)
        failed = f"; no answer: {', '.join(self.problems)}" if self.problems else ""
        return f"<{type(self).__name__} {parts}{failed}>"


@dataclass(frozen=True, repr=False)
class ByHost(_Parts[T], Shown):
    """Forests or snapshots of several hosts, from `Fleet.survey` and `Fleet.snapshots`, accessible by host name, such
    as ``found["a"]``.

    `to_frame` returns the same columns as for one host, with ``host`` as the index. If a host did not respond,
    ``status`` gives the reason.

    Attributes
    ----------
    parts : mapping of str to object
        The data that was read, by host name.
    problems : mapping of str to VmsnapError
        The errors of the hosts that did not respond, by host name.
    """

    _unlisted = frozenset({"empty"})


@dataclass(frozen=True, repr=False)
class TablesByHost(_Parts[T], Tabled):
    """Space, findings, leftovers or guests of several hosts, accessible by host name, such as ``found["a"]``.

    `to_frame` returns the same columns as for one host, with ``host`` as the index and ``status`` as the last column.
    ``status`` is empty unless a host did not respond; in that case, it gives the reason.

    Attributes
    ----------
    parts : mapping of str to object
        The data that was read, by host name.
    problems : mapping of str to VmsnapError
        The errors of the hosts that did not respond, by host name.
    """

    _unlisted = frozenset({"empty"})
