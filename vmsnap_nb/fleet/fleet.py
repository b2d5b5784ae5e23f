"""Several hosts as one: `Fleet`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import fields
from functools import partial
from typing import Any, Self

from vmsnap_nb.errors import NotFoundError, VmsnapError
from vmsnap_nb.fleet.guests import FleetGuests
from vmsnap_nb.fleet.member import Member
from vmsnap_nb.fleet.shared import Around, Seen, joined_forest
from vmsnap_nb.fleet.slots import Slot
from vmsnap_nb.fleet.work import MOST_HOSTS, ROUND, Work
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.html_page import write_page
from vmsnap_nb.live.leftovers import LiveLeftovers, live_leftovers
from vmsnap_nb.live.place import Place
from vmsnap_nb.model.arguments import checked, checked_methods
from vmsnap_nb.model.by_host import ByHost, TablesByHost
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domains
from vmsnap_nb.model.leftovers import Leftovers
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.model.snapshot import SnapshotLists
from vmsnap_nb.model.space import Space
from vmsnap_nb.plans.findings import Findings
from vmsnap_nb.system.files.paths import absolute
from vmsnap_nb.system.threads import Threads
from vmsnap_nb.views.whole_page import Chapter
from vmsnap_nb.words.message import joined, listed, t

__all__ = ["Fleet"]

PathLike = str | os.PathLike[str]


@checked_methods
class Fleet(Listed):
    """Several hosts, which are read in parallel. `connect` with several URIs returns a fleet.

    If a host does not respond, no error is raised; its row in each table gives the reason. Methods of guests and
    forests work as on a single host: ``fleet.guest("a/web").pull()``, ``fleet["a"].survey().commit("top")``. Their
    plans take into account the overlays, guests and snapshots of the other hosts on shared storage. Storage counts as
    shared if it is in a folder of `shared`, in pools with the same UUID, or in pools with the same export.

    Parameters
    ----------
    uris : mapping of str to str
        The URIs of libvirt, by host name.
    readonly : bool
        Whether the connections are read-only.
    shared : iterable of path
        Folders that all hosts share under the same path.
    executor : concurrent.futures.Executor, or mapping of str to Executor, optional
        The executor that reads the hosts. By default, threads of this process read the hosts. With another executor,
        such as a process pool or Dask's ``client.get_executor()``, each worker opens its own connection and returns the
        data that it has read. If you pass a mapping with an executor for each host name, the workers must run on these
        hosts (``client.get_executor(workers=["a"])``). Each worker connects to the libvirt of its own machine, and
        opens the images and folders there. Hosts that are not in the mapping are read by threads.
    """

    def __init__(
        self,
        uris: Mapping[str, str],
        *,
        readonly: bool = False,
        shared: Iterable[PathLike] = (),
        executor: Executor | Mapping[str, Executor] | None = None,
    ) -> None:
        self.shared = tuple(os.path.realpath(absolute(folder)) for folder in shared)
        self._slots = {
            name: Slot(name, uri, partial(self._around, name), readonly=readonly) for name, uri in uris.items()
        }
        self._threads = Threads(MOST_HOSTS, "vmsnap fleet")
        self._work = Work(self._slots, self._threads, executor)

    # -- hosts ----------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts."""
        return tuple(self._slots)

    @property
    def uris(self) -> dict[str, str]:
        """The URIs, by host name."""
        return {name: slot.uri for name, slot in self._slots.items()}

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __contains__(self, name: object) -> bool:
        return name in self._slots

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._slots)

    @checked
    def __getitem__(self, name: str) -> Member:
        """Return a host, connected.

        Raises
        ------
        NotFoundError
            No host has that name.
        VmsnapError
            The host cannot be reached.
        """
        if name not in self._slots:
            raise NotFoundError(
                t("find the host {name}", name=name),
                why=t("no host has that name"),
                next_step=there_are(name, self._slots),
            )
        return self._slots[name].member()

    def __repr__(self) -> str:
        return f"<Fleet of {len(self)} hosts: {', '.join(self._slots)}>"

    def _repr_html_(self) -> str:
        return str(self.guests()._repr_mimebundle_()["text/html"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; running guests keep running."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for slot in self._slots.values():
            slot.close()

    # -- guests ---------------------------------------------------------------------------------------------

    def guest(self, name: str) -> Guest:
        """Return a guest by host name and guest name, in the form ``a/web``.

        Parameters
        ----------
        name : str
            The name of the guest, such as ``a/web``. The host may be omitted if only one host has a guest with that
            name, and all hosts respond.

        Returns
        -------
        Guest

        Raises
        ------
        NotFoundError
            No guest has that name, or several guests have that name.
        VmsnapError
            A host cannot be reached.
        """
        host, slash, guest = name.partition("/")
        if slash:
            return self[host].guest(guest)
        found = self.guests()
        hosts = [host for host, domains in found.items() if any(domain.name == name for domain in domains)]
        if len(hosts) == 1 and not found.problems:
            return self[hosts[0]].guest(name)
        if hosts:
            missing = tuple(found.problems)
            raise NotFoundError(
                t("find the guest {name}", name=name),
                why=t(
                    "these hosts did not respond and may also have a guest with that name: {hosts}",
                    hosts=joined(missing),
                )
                if len(hosts) == 1
                else t("several hosts have a guest with that name: {hosts}", hosts=joined(hosts)),
                next_step=t("specify its host: {names}", names=listed([f"{host}/{name}" for host in hosts], last="or")),
            )
        names = [f"{host}/{domain.name}" for host, domains in found.items() for domain in domains]
        raise NotFoundError(
            t("find the guest {name}", name=name), why=t("no guest has that name"), next_step=there_are(name, names)
        )

    def guests(self) -> FleetGuests:
        """List the guests of all hosts.

        Returns
        -------
        FleetGuests
        """
        parts, problems = self._work.each("guests")
        return FleetGuests(parts, problems, Domains(), fleet=self)

    def snapshots(self) -> ByHost[SnapshotLists]:
        """List the snapshots of all guests of all hosts.

        Returns
        -------
        ByHost
            ``found["a"]["web"]`` contains the snapshots of one guest.
        """
        parts, problems = self._work.each("snapshots")
        return ByHost(parts, problems, SnapshotLists())

    # -- images ---------------------------------------------------------------------------------------------

    def survey(self, *folders: PathLike) -> ByHost[LiveForest]:
        """Read the images of all hosts, including the images of other hosts on shared storage.

        Parameters
        ----------
        *folders : path
            Additional folders to read on each host.

        Returns
        -------
        ByHost
            ``found["a"]`` is the `LiveForest` of one host; its methods can plan changes.
        """
        seen, problems = self._seen(folders)
        arounds = self._arounds(seen, problems)
        places = self._work.places(folders, seen, problems)
        parts = {name: _live(joined_forest(seen[name], arounds[name]), place) for name, place in places.items()}
        return ByHost(parts, problems, Forest())

    def space(self, *folders: PathLike) -> TablesByHost[Space]:
        """Measure the disk space that the images of all hosts take.

        Parameters
        ----------
        *folders : path
            As in `survey`.

        Returns
        -------
        TablesByHost
        """
        parts, problems = self._work.each("space", folders)
        return TablesByHost(parts, problems, Space())

    def findings(self, *folders: PathLike) -> TablesByHost[Findings]:
        """Find problems and risks on all hosts.

        Parameters
        ----------
        *folders : path
            As in `survey`.

        Returns
        -------
        TablesByHost
        """
        parts, problems = self._each_knowing("findings", folders)
        return TablesByHost(parts, problems, Findings())

    def leftovers(self, *folders: PathLike) -> TablesByHost[LiveLeftovers]:
        """Find files that nothing on any host needs, as far as is known.

        Parameters
        ----------
        *folders : path
            As in `survey`.

        Returns
        -------
        TablesByHost
            ``found["a"].remove(…)`` plans the removal on one host.
        """
        parts, problems = self._each_knowing("leftovers", folders)
        places = self._work.places(folders, parts, problems)
        live = {name: live_leftovers(parts[name], place) for name, place in places.items()}
        return TablesByHost(live, problems, Leftovers())

    def to_html(self, path: PathLike, *folders: PathLike, overwrite: bool = False) -> str:
        """Write a report of all hosts as a single HTML page, as `Host.to_html` does for one host.

        Parameters
        ----------
        path : path
            The file to write. An older report at this path is replaced.
        *folders : path
            As in `survey`.
        overwrite : bool
            Whether to also replace an existing file that is not a report.

        Returns
        -------
        str
            The path of the file.
        """
        parts, problems = self._each_knowing("chapter", folders)
        chapters = [
            parts[name] if name in parts else Chapter(heading=name, problem=str(problems[name])) for name in self._slots
        ]
        return write_page(path, t("Report of {what}", what=listed(self._slots)), chapters, overwrite=overwrite)

    # -- reading --------------------------------------------------------------------------------------------

    def _each_knowing(self, what: str, folders: Iterable[PathLike]) -> tuple[dict[str, Any], dict[str, VmsnapError]]:
        """Read something of all hosts, each with what the others have."""
        seen, problems = self._seen(folders)
        return self._work.each_knowing(what, folders, seen, self._arounds(seen, problems), problems)

    def _seen(self, folders: Iterable[PathLike] = ()) -> tuple[dict[str, Seen], dict[str, VmsnapError]]:
        seen, problems = self._work.each("alone", folders)
        for name, one in seen.items():
            self._slots[name].pools = one.pools
        return seen, problems

    def _arounds(self, seen: Mapping[str, Seen], problems: Mapping[str, VmsnapError]) -> dict[str, Around]:
        """Return for each host what was read of the others."""
        return {
            name: Around(
                folders=self.shared,
                seen={other: one for other, one in seen.items() if other != name},
                problems={other: str(error.reason) for other, error in problems.items() if other != name},
                known={other: self._slots[other].pools for other in problems},
            )
            for name in self._slots
        }

    def _around(self, name: str) -> Around:
        """Read the other hosts, for a plan of one; or take what was read for the call that is running."""
        round_ = ROUND.get()
        if round_ is not None:
            return round_[name]
        return self._arounds(*self._seen())[name]


def _live(forest: Forest, place: Place) -> LiveForest:
    return LiveForest(**{field.name: getattr(forest, field.name) for field in fields(Forest)}, place=place)
