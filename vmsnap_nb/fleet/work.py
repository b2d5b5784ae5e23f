"""The hosts of a fleet, all read at the same time: by threads, or by the executors of the user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from vmsnap_nb.errors import InvalidRequestError, VmsnapError
from vmsnap_nb.fleet.member import ALONE
from vmsnap_nb.fleet.readings import READINGS, Answer, Spec, elsewhere
from vmsnap_nb.fleet.shared import Around, Seen
from vmsnap_nb.fleet.slots import Slot
from vmsnap_nb.live.place import Place
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.number import invalid
from vmsnap_nb.system.threads import Threads, shared_by
from vmsnap_nb.words.message import t

__all__ = ["MOST_HOSTS", "ROUND", "Work"]

PathLike = str | os.PathLike[str]
Machine = tuple[str, str]

MOST_HOSTS = 32
"""Hosts that threads of this process read at the same time."""
_UNREADABLE = (MemoryError, RecursionError, ValueError)
"""What fails where the answers of a host are not as those of libvirt: then the others are read all the same."""
ROUND: ContextVar[Mapping[str, Around] | None] = ContextVar("round", default=None)
"""What was read of all hosts for one call, so that it is not read again for each of them."""


class Work:
    """Reads the hosts of a fleet.

    One executor is for all hosts, and its workers are anywhere; executors by the names of hosts have workers on these.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        threads: Threads,
        executor: Executor | Mapping[str, Executor] | None,
    ) -> None:
        if not (executor is None or isinstance(executor, Executor | Mapping)):
            raise invalid(
                executor, "executor", t("the value must be an executor, or a dictionary of names and executors")
            )
        self._slots, self._threads = slots, threads
        self._near: Mapping[str, Executor] = executor if isinstance(executor, Mapping) else {}
        self._common = executor if isinstance(executor, Executor) else threads
        for name in self._near:
            if name not in slots:
                raise InvalidRequestError(
                    t("use an executor for the host {name}", name=name),
                    why=t("no host has that name"),
                    next_step=there_are(name, slots),
                )

    def each(self, what: str, folders: Iterable[PathLike] = ()) -> tuple[dict[str, Any], dict[str, VmsnapError]]:
        """Read something of each host without the others; return it by their names, and why some gave no answer."""
        return self._read(what, folders, None, {}, {})

    def each_knowing(
        self,
        what: str,
        folders: Iterable[PathLike],
        seen: Mapping[str, Seen],
        arounds: Mapping[str, Around],
        failed: Mapping[str, VmsnapError],
    ) -> tuple[dict[str, Any], dict[str, VmsnapError]]:
        """Read something of all hosts but those that have failed already, each with what was seen of the others."""
        return self._read(what, folders, arounds, seen, failed)

    def places(
        self, folders: Iterable[PathLike], names: Iterable[str], problems: dict[str, VmsnapError]
    ) -> dict[str, Place]:
        """Return where plans of some hosts run; one that cannot be reached from here gets a problem instead."""
        futures = {name: self._threads.submit(self._slots[name].member) for name in names}
        found = {}
        for name, future in futures.items():
            try:
                found[name] = future.result().place(*folders)
            except VmsnapError as error:
                problems[name] = error
            except _UNREADABLE as error:
                problems[name] = _unreadable(name, error)
        return found

    def _read(
        self,
        what: str,
        folders: Iterable[PathLike],
        arounds: Mapping[str, Around] | None,
        seen: Mapping[str, Seen],
        failed: Mapping[str, VmsnapError],
    ) -> tuple[dict[str, Any], dict[str, VmsnapError]]:
        paths = tuple(os.fspath(folder) for folder in folders)
        names = [name for name in self._slots if name not in failed]
        machines = {name: self._threads.submit(self._slots[name].machine) for name in names if name in self._near}
        problems: dict[str, VmsnapError] = dict(failed)
        futures: dict[str, Future[Answer]] = {}
        for name in names:
            try:
                if self._is_here(name):
                    futures[name] = self._common.submit(self._here, name, what, paths, arounds)
                else:
                    executor = self._near.get(name, self._common)
                    around = Around() if arounds is None else arounds[name].cut_for(seen[name])
                    futures[name] = executor.submit(elsewhere, self._spec(name, what, paths, around))
            except RuntimeError as error:  # it was shut down, or has lost its processes
                problems[name] = _failed(name, error)
        parts: dict[str, Any] = {}
        for name, future in futures.items():
            try:
                answer = self._result(name, future)
                if answer.problem is not None:
                    raise answer.problem
                if name in machines:
                    self._check(name, answer.machine, machines[name].result())
                parts[name] = answer.read
            except VmsnapError as error:
                problems[name] = error
        return parts, problems

    def _is_here(self, name: str) -> bool:
        """Return whether a thread of this process reads a host."""
        return name not in self._near and isinstance(self._common, Threads | ThreadPoolExecutor)

    def _result(self, name: str, future: Future[Answer]) -> Answer:
        """Return what was read; whatever a worker fails with is the reason why its host gave no answer."""
        try:
            return future.result()
        except VmsnapError:
            raise
        except _UNREADABLE as error:
            raise _unreadable(name, error) from error
        except Exception as error:
            if self._is_here(name):
                raise
            raise _failed(name, error) from error

    def _spec(self, name: str, what: str, paths: tuple[str, ...], around: Around) -> Spec:
        slot, near = self._slots[name], name in self._near
        return Spec(name=name, uri=slot.uri, readonly=slot.readonly, what=what, folders=paths, around=around, near=near)

    def _here(self, name: str, what: str, paths: tuple[str, ...], arounds: Mapping[str, Around] | None) -> Answer:
        # Without the others, what a host is read for does not depend on them.
        tokens = ROUND.set(arounds), ALONE.set(arounds is None)
        try:
            with shared_by(min(len(self._slots), MOST_HOSTS)):
                return Answer(read=READINGS[what](self._slots[name].member(), paths))
        finally:
            ROUND.reset(tokens[0])
            ALONE.reset(tokens[1])

    def _check(self, name: str, worker: Machine | None, machine: Machine) -> None:
        """Refuse what a worker has read on another machine than that of its host."""
        if worker != machine:
            raise VmsnapError(
                t("read the host {name} with a worker on it", name=name),
                why=t(
                    "the worker runs on {worker}, but {uri} connects to {machine}",
                    worker=_called(worker, machine),
                    uri=self._slots[name].uri,
                    machine=_called(machine, worker),
                ),
                next_step=t("pass an executor whose worker runs on that host"),
            )


def _called(machine: Machine | None, other: Machine | None) -> str:
    """Return the name of a machine, with its UUID where the other one has the same name."""
    name, number = machine or ("", "")
    return f"{name} ({number})" if other is not None and name == other[0] else name


def _unreadable(name: str, error: Exception) -> VmsnapError:
    return VmsnapError(
        t("read the host {name}", name=name),
        why=t("cannot parse what its libvirt returned ({error})", error=str(error)),
        next_step=t("check which program answers there, and its version"),
    )


def _failed(name: str, error: Exception) -> VmsnapError:
    return VmsnapError(
        t("read the host {name} in another process", name=name),
        said=f"{type(error).__name__}: {error}",
        next_step=t("check the output of the worker, then restart it"),
    )
