"""A machine with a libvirt: its guests, and one forest over all their images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from vmsnap_nb.errors import NotFoundError, VmsnapError
from vmsnap_nb.live.cards import host_card, read_card
from vmsnap_nb.live.connection import Connection, Customs
from vmsnap_nb.live.findings import host_findings
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host_chapter import host_chapter
from vmsnap_nb.live.html_page import write_page
from vmsnap_nb.live.leftovers import LiveLeftovers, read_leftovers
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.snapshot_lists import snapshot_lists
from vmsnap_nb.live.space import read_space
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.model.space import Space
from vmsnap_nb.plans.findings import Findings
from vmsnap_nb.system.libvirt.domains import find_domain
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.words.message import counted, t

if TYPE_CHECKING:
    import pandas as pd

    from vmsnap_nb.model.snapshot import SnapshotLists

__all__ = ["Guests", "Host"]

_MOST = 10
"""Guests that a `repr` names."""


class Guests(Sequence[Guest], Listed):
    """Guests sorted by name, accessible by index, slice or name; displayed as a table.

    Parameters
    ----------
    guests : iterable of Guest
        The guests.
    """

    def __init__(self, guests: Iterable[Guest]) -> None:
        self._guests = tuple(guests)

    @overload
    def __getitem__(self, index: int | str) -> Guest: ...
    @overload
    def __getitem__(self, index: slice) -> Guests: ...
    def __getitem__(self, index: int | str | slice) -> Guest | Guests:
        if isinstance(index, str):
            return self._named(index)
        return Guests(self._guests[index]) if isinstance(index, slice) else self._guests[index]

    def _named(self, name: str) -> Guest:
        for guest in self._guests:
            if guest.name == name:
                return guest
        raise NotFoundError(
            t("find the guest {name}", name=name),
            why=counted(
                "the only guest in this list has a different name",
                "none of these {count} guests has that name",
                len(self),
            )
            if self._guests
            else t("no guest has that name"),
            next_step=there_are(name, self._ipython_key_completions_(), none=t("create a guest first")),
        )

    def __contains__(self, guest: object) -> bool:
        return any(guest in (one, one.name) for one in self._guests)

    def _ipython_key_completions_(self) -> list[str]:
        return [guest.name for guest in self._guests]

    def __len__(self) -> int:
        return len(self._guests)

    def __repr__(self) -> str:
        more = f", … {len(self) - _MOST} more" if len(self) > _MOST else ""
        return "[" + ", ".join(map(repr, self._guests[:_MOST])) + more + "]"

    def to_frame(self) -> pd.DataFrame:
        """Return the guests as a table.

        Returns
        -------
        pandas.DataFrame
            A table with index ``guest`` and columns ``state`` (text), ``persistent`` (boolean), ``disks`` (their
            number) and ``sources`` (the images, separated by commas).
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


@checked_methods
class Host(Listed):
    """A connection to libvirt on one host. `connect` returns a host, and a `Lab` is also a host.

    Parameters
    ----------
    uri : str
        The libvirt URI.
    readonly : bool
        Whether the connection is read-only.
    """

    _unlisted = frozenset({"link"})

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        checked_methods(cls)

    def __init__(self, uri: str, *, readonly: bool = False) -> None:
        self.uri = uri
        self.readonly = readonly
        self._link = Connection(uri, readonly=readonly, customs=self._customs())

    def _customs(self) -> Customs:
        """Return what this host does otherwise than a plain one."""
        return Customs()

    @property
    def link(self) -> Connection:
        """The connection that the guests and plans of this host share."""
        return self._link

    @property
    def connection(self) -> Any:
        """The libvirt connection object, for operations that vmsnap_nb does not provide.

        Raises
        ------
        VmsnapError
            The connection was closed.
        """
        return self._link.handle

    @property
    def files_are_here(self) -> bool:
        """Whether the host's images are files on this machine, so that vmsnap_nb can read them directly."""
        return self._link.files_are_here

    @property
    def closed(self) -> bool:
        """Whether the connection was closed."""
        return not self._link.is_open

    def __repr__(self) -> str:
        closed = ", closed" if self.closed else ""
        return f"<{type(self).__name__} {self.uri}{', read-only' if self.readonly else ''}{closed}>"

    def _repr_html_(self) -> str:
        return read_card(lambda: host_card(self), t("Host {uri}", uri=self.uri))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; running guests keep running."""
        self._link.close()

    # -- guests -----------------------------------------------------------------------------------------

    def domains(self) -> tuple[Domain, ...]:
        """Read libvirt's information about all guests, sorted by name."""
        return tuple(domain for domain, _ in self._link.roll().guests)

    def guest(self, name: str) -> Guest:
        """Return a guest by name.

        Raises
        ------
        NotFoundError
            No guest has that name; the error lists the existing guests.
        """
        self._link.check_soon(t("find the guest {name}", name=name))
        return Guest(self, find_domain(self.connection, name))

    def guests(self) -> Guests:
        """List all guests, sorted by name.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> host = vs.connect("test:///default", readonly=True)
        >>> [guest.name for guest in host.guests()]
        ['test']
        """
        with libvirt_errors(t("list the guests")):
            domains = self.connection.listAllDomains()
        return Guests(Guest(self, domain) for domain in sorted(domains, key=lambda domain: str(domain.name())))

    def snapshots(self) -> SnapshotLists:
        """List the snapshots of all guests, in a single pass."""
        return snapshot_lists(self.link)

    # -- images -----------------------------------------------------------------------------------------

    def survey(self, *folders: str | os.PathLike[str]) -> LiveForest:
        """Read the images of all guests, and the images in all folder-based storage pools and in the given folders, as
        one forest.

        Images on another machine are not opened; libvirt provides the information about them.

        Parameters
        ----------
        *folders : path
            Additional folders to read.

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
        return LiveForest.of(self.place(*folders))

    def space(self, *folders: str | os.PathLike[str]) -> Space:
        """Measure the disk space of all images that `survey` reads.

        Parameters
        ----------
        *folders : path
            Additional folders to read.

        Returns
        -------
        Space
            For images on another machine, only the sizes that libvirt reports are included.
        """
        return read_space(self.place(*folders).forest())

    def findings(self, *folders: str | os.PathLike[str]) -> Findings:
        """Find problems and risks in all guests and their snapshots, and in the images that `survey` reads.

        Nothing is changed, and QEMU does not open any image. An empty result does not prove that there are no problems.

        Parameters
        ----------
        *folders : path
            Additional folders to read.

        Returns
        -------
        Findings
            One row for each finding, with a remedy; the most serious findings come first.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> vs.connect("test:///default", readonly=True).findings()
        <Findings: no problems found in what could be checked>
        """
        return host_findings(self.link, folders)

    def leftovers(self, *folders: str | os.PathLike[str]) -> LiveLeftovers:
        """Find files in storage pools and in the given folders that nothing on this host needs, as far as is known.

        A file counts as needed if a guest's disk, a snapshot, saved memory, a block job or firmware uses it. It also
        counts as needed if an interrupted operation uses it or a process has it open. The backing files of needed files
        count as needed, too. All other files are listed. The list is not proof, because a guest of another libvirt may
        use a listed file as a disk. If the host is another machine, the volumes of its storage pools are listed and
        marked as uncertain. libvirt does not report which process has a file open, or which operation was interrupted.

        Parameters
        ----------
        *folders : path
            Additional folders to read.

        Returns
        -------
        LiveLeftovers
            One row for each file, with the evidence; `LiveLeftovers.move` and `LiveLeftovers.remove` return plans.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> vs.connect("test:///default", readonly=True).leftovers()
        <Leftovers: none in 1 folder, as far as was checked; 1 could not be read>
        """
        return read_leftovers(self.place(*folders))

    def to_html(self, path: str | os.PathLike[str], *folders: str | os.PathLike[str], overwrite: bool = False) -> str:
        """Write a report of this host: guests, findings, images, snapshots, space and leftovers, as a single HTML page.

        The page needs no other files and no network connection. It follows the browser's light or dark theme, and can
        be printed.

        Parameters
        ----------
        path : path
            The file to write. An older report at this path is replaced.
        *folders : path
            Additional folders to read.
        overwrite : bool
            Whether to also replace an existing file that is not a report.

        Returns
        -------
        str
            The path of the file.

        Raises
        ------
        InvalidRequestError
            A file that is not a report already exists at this path.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> lab.to_html(lab.root / "host.html").rpartition("/")[2]
        'host.html'
        """
        title = t("Report of {what}", what=self.uri)
        return write_page(path, title, [host_chapter(self.link, self.uri, folders)], overwrite=overwrite)

    def place(self, *folders: str | os.PathLike[str]) -> Place:
        """Return the place from which this host's plans are made, and in which they run.

        Parameters
        ----------
        *folders : path
            Additional folders to read.

        Returns
        -------
        Place
        """
        return self._link.place(*folders)
