"""A machine with a libvirt: its guests, and one forest over all their images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.files import FILE_ACTIONS, absolute
from vmsnap_nb.live.folders import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.merge_files import merge_actions
from vmsnap_nb.live.plan import World
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, Use
from vmsnap_nb.plans.steps import DefineDomain, Step
from vmsnap_nb.system.libvirt_connection import files_are_here, open_connection
from vmsnap_nb.system.libvirt_domains import find_domain, list_domains, read_domain
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_storage import pool_folders, remote_forest
from vmsnap_nb.system.survey import Survey

if TYPE_CHECKING:
    import pandas as pd

    from vmsnap_nb.live.plan import Action, Undo
    from vmsnap_nb.model.snapshot import SnapshotLists

__all__ = ["Guests", "Host", "connect"]


class Guests(Sequence[Guest]):
    """Guests in the order of their names; shows itself as a table.

    Parameters
    ----------
    guests : iterable of Guest
        The guests.
    """

    def __init__(self, guests: Iterable[Guest]) -> None:
        self._guests = tuple(guests)

    @overload
    def __getitem__(self, index: int) -> Guest: ...
    @overload
    def __getitem__(self, index: slice) -> Guests: ...
    def __getitem__(self, index: int | slice) -> Guest | Guests:
        return Guests(self._guests[index]) if isinstance(index, slice) else self._guests[index]

    def __len__(self) -> int:
        return len(self._guests)

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self._guests)) + "]"

    def to_frame(self) -> pd.DataFrame:
        """Give the table.

        Returns
        -------
        pandas.DataFrame
            Index ``guest``; columns ``state persistent disks sources``: two texts around a truth value and the number
            of disks, the sources separated by a comma.
        """
        import pandas as pd

        found: list[Domain] = []
        for guest in self._guests:
            with contextlib.suppress(VmsnapError):  # gone meanwhile
                found.append(guest.domain())
        return pd.DataFrame(
            {
                "state": pd.array([d.state for d in found], dtype="string"),
                "persistent": pd.array([d.persistent for d in found], dtype="boolean"),
                "disks": pd.array([len(d.disks) for d in found], dtype="Int64"),
                "sources": pd.array([", ".join(use.path for use in d.uses) for d in found], dtype="string"),
            },
            index=pd.Index(pd.array([d.name for d in found], dtype="string"), name="guest"),
        )

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(escape=True))


class Host:
    """A connection to one libvirt. Get one from `connect`; a `Lab` is one as well.

    Parameters
    ----------
    uri : str
        libvirt's address.
    readonly : bool
        Whether nothing may be changed.
    """

    _if_closed = "connect again"

    def __init__(self, uri: str, *, readonly: bool = False) -> None:
        self.uri = uri
        self.readonly = readonly
        self._connection: Any = open_connection(uri, readonly=readonly)

    @property
    def connection(self) -> Any:
        """The handle of libvirt itself, for what this package does not do.

        Raises
        ------
        VmsnapError
            It was closed.
        """
        if self._connection is None:
            raise VmsnapError(f"use the connection to {self.uri}", said="it was closed", next_step=self._if_closed)
        return self._connection

    @property
    def files_are_here(self) -> bool:
        """Whether its images are files of this machine, so that they can be read directly."""
        return files_are_here(self.uri)

    def __repr__(self) -> str:
        closed = ", closed" if self._connection is None else ""
        return f"<{type(self).__name__} {self.uri}{', read-only' if self.readonly else ''}{closed}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; guests go on as they are."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with libvirt_errors(f"close the connection to {self.uri}"):
                connection.close()

    # -- guests -----------------------------------------------------------------------------------------

    def domains(self) -> tuple[Domain, ...]:
        """Read what libvirt records of all guests, by name."""
        return list_domains(self.connection)

    def guest(self, name: str) -> Guest:
        """Find a guest.

        Raises
        ------
        NotFoundError
            There is none of that name; the error lists those that there are.
        """
        return Guest(self, find_domain(self.connection, name))

    def guests(self) -> Guests:
        """List all guests, by name.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> host = vs.connect("test:///default", readonly=True)
        >>> [guest.name for guest in host.guests()]
        ['test']
        """
        with libvirt_errors("list the guests"):
            domains = self.connection.listAllDomains()
        return Guests(Guest(self, domain) for domain in sorted(domains, key=lambda domain: str(domain.name())))

    def snapshots(self) -> SnapshotLists:
        """List the snapshots of all guests, read at once."""
        from vmsnap_nb.live.snapshots import snapshot_lists

        return snapshot_lists(self)

    def _has_started(self, guest: Guest) -> None:
        """Be told that a guest was started from here; a lab keeps a list."""

    def _has_made(self, path: str, source: str) -> None:
        """Be told that libvirt has made a file for a plan, and for what; a lab keeps a list."""

    # -- images -----------------------------------------------------------------------------------------

    def survey(self, *folders: str | os.PathLike[str]) -> LiveForest:
        """Read one forest: the images of all guests, of all storage pools that are folders, and of some folders.

        On another machine the images are not opened; what is known of them there comes from libvirt.

        Parameters
        ----------
        *folders : path
            Further folders to read.

        Returns
        -------
        LiveForest

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("surveyed", backing=lab.base("RootBase"))
        >>> frame = lab.survey().to_frame().set_index("image")
        >>> frame.loc["surveyed", "used_by"]
        'surveyed'
        """
        return LiveForest.of(self.world(*folders))

    def world(self, *folders: str | os.PathLike[str]) -> World:
        """Give the place where plans of this host read and run.

        Parameters
        ----------
        *folders : path
            Further folders to read.

        Returns
        -------
        World
        """
        readonly = f"the connection to {self.uri} is for reading only" if self.readonly else ""
        if not self.files_are_here:
            there = tuple(os.fspath(folder) for folder in folders)
            readonly = readonly or f"the images of {self.uri} are not files of this machine"
            return World(lambda: self._read_there(there), self._actions(), readonly)
        survey = Survey(follow=True)
        here = tuple(absolute(folder) for folder in folders)
        return World(lambda: self._read_here(survey, here), self._actions(), readonly)

    def _actions(self) -> Mapping[type[Step], Action]:
        return {**FILE_ACTIONS, **merge_actions(), DefineDomain: self._define}

    def _read_here(self, survey: Survey, folders: tuple[str, ...]) -> Forest:
        domains = self.domains()
        pools = (path for path in pool_folders(self.connection) if os.access(path, os.R_OK | os.X_OK))
        survey.folders = tuple(dict.fromkeys((*folders, *pools)))
        survey.images = self._known_formats() | {
            disk.source: disk.format
            for domain in domains
            for disk in domain.disks
            if disk.source and disk.source.startswith("/")
        }
        return survey.read([use for domain in domains for use in domain.uses])

    def _known_formats(self) -> dict[str, str | None]:
        """Give images whose format is known although neither they nor a guest tell it."""
        return {}

    def _read_there(self, folders: tuple[str, ...]) -> Forest:
        with libvirt_errors("list the guests"):
            handles = self.connection.listAllDomains()
        found: list[tuple[Any, tuple[Use, ...]]] = [(handle, read_domain(handle).uses) for handle in handles]
        return remote_forest(self.connection, found, folders)

    def _define(self, step: DefineDomain) -> Undo:
        with libvirt_errors(f"define the guest {step.name}"):
            domain = self.connection.defineXML(step.xml)

        def undo() -> None:
            with libvirt_errors(f"undefine the guest {step.name}"):
                domain.undefine()

        return undo


def connect(uri: str, *, readonly: bool = False) -> Host:
    """Connect to a libvirt.

    Parameters
    ----------
    uri : str
        As ``qemu:///system``, ``qemu:///session``, ``qemu+ssh://box/system``; see https://libvirt.org/uri.html.
    readonly : bool
        Whether nothing may be changed: libvirt itself then refuses every change, and plans do not run.

    Returns
    -------
    Host

    Raises
    ------
    VmsnapError
        A named one: a part is missing, nobody answers there, or permission is denied.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> vs.connect("test:///default", readonly=True).guest("test").state
    'running'
    """
    return Host(uri, readonly=readonly)
