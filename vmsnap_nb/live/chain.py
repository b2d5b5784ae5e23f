"""The chain of an image, with what can be read of its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.live.files import (
    MOST_READ,
    PathLike,
    When,
    changes,
    copy_out,
    find_files,
    list_files,
    read_file,
    where,
)
from vmsnap_nb.live.reading import blockmap
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.files import FileChanges, FileParts, Files
from vmsnap_nb.model.forest import Chain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.lookup import ImageLike
from vmsnap_nb.model.names import there_are
from vmsnap_nb.system.filesystems.reader import DiskState
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import t

__all__ = ["LiveChain"]


@checked_methods
@dataclass(frozen=True, repr=False)
class LiveChain(Chain):
    """A backing chain whose images can be read, or the state of the chain at an internal snapshot of its top image.

    Attributes
    ----------
    inside : str or None
        The ID of the internal snapshot; None for the current state.
    """

    inside: str | None = None
    # What opens images that only libvirt may open, also on another machine.
    volume: Callable[[Image], Source] | None = field(default=None, kw_only=True, compare=False)

    def __getstate__(self) -> Any:
        """Return what pickle stores: another process does not have this one's connection."""
        return {**super().__getstate__(), "volume": None}

    def blockmap(self) -> BlockMap:
        """Map which parts of the disk each layer holds, and which data higher layers hide; a guest may be running.

        Returns
        -------
        BlockMap

        Raises
        ------
        ImageError
            A layer cannot be read.
        """
        return blockmap(self, self.inside)

    # -- files ------------------------------------------------------------------------------------------------

    def files(self, path: PathLike = "/", *, at: str | None = None, recursive: bool = False) -> Files:
        """List the contents of a folder on the guest's disk, without booting it, without root privileges, and without a
        lock.

        Parameters
        ----------
        path : path
            A folder as the guest sees it, or ``volume:/path`` for a volume that its ``/etc/fstab`` does not mount.
        at : str, optional
            A state of the disk. Pass the name of a layer for the state when that layer was the top, or the name of an
            internal snapshot in a layer. Default: the whole chain.
        recursive : bool
            Whether to list everything below the folder.

        Returns
        -------
        Files
            The files. Their `notes` list data that may be missing because a guest was writing, because a journal
            contains changes that are not written back yet, or because a merge was interrupted.

        Raises
        ------
        NotFoundError
            The path or the state does not exist.
        ImageError
            A layer cannot be read, or there is no supported file system; the error states what was found instead.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> vs.chain(vs.Lab().base("RootBase")).files("/etc/apk")["/etc/apk/world"].kind
        'file'
        """
        return list_files(self._state(at), path, recursive=recursive)

    def find_files(
        self, pattern: str, *, path: PathLike = "/", newer: When | None = None, at: str | None = None
    ) -> Files:
        """Search a folder and its subfolders for files whose names match a pattern.

        Parameters
        ----------
        pattern : str
            A shell pattern such as ``*.log``. The pattern is compared with the name or, if the pattern contains a
            ``/``, with the whole path.
        path : path
            The folder to search.
        newer : str or datetime, optional
            List only files that were changed after this time. A string such as ``"2026-11-29 08:00"`` is in UTC unless
            it has a time zone.
        at : str, optional
            As in `files`.

        Returns
        -------
        Files

        Raises
        ------
        NotFoundError, ImageError
            As in `files`.
        """
        return find_files(self._state(at), pattern, path, newer)

    def read(self, path: PathLike, *, at: str | None = None, most: int = MOST_READ) -> bytes:
        """Return the content of one of the guest's files; symbolic links are followed within the disk.

        Parameters
        ----------
        path, at
            As in `files`.
        most : int
            The maximum size in bytes; `copy_out` copies larger files.

        Returns
        -------
        bytes

        Raises
        ------
        InvalidRequestError
            The path is not a file, or the file is larger than `most`.
        NotFoundError, ImageError
            As in `files`. Also if a merge that was interrupted may have left a mixture of old and new data.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> vs.chain(vs.Lab().base("RootBase")).read("/etc/alpine-release")[:2]
        b'3.'
        """
        return read_file(self._state(at), path, most)

    def copy_out(self, path: PathLike, to: PathLike, *, at: str | None = None) -> str:
        """Copy one of the guest's files to this machine, readable only by you; no existing file is overwritten.

        Parameters
        ----------
        path, at
            As in `files`.
        to : path
            The new file, or a folder; in a folder, the new file gets the name of the copied file.

        Returns
        -------
        str
            The path of the new file.

        Raises
        ------
        InvalidRequestError
            The path is not a file, or the target already exists.
        NotFoundError, ImageError
            As in `read`.
        """
        return copy_out(self._state(at), path, to)

    def where(self, path: PathLike) -> FileParts:
        """Find the layer that holds each part of a file.

        Parameters
        ----------
        path : path
            As in `files`.

        Returns
        -------
        FileParts

        Raises
        ------
        NotFoundError, ImageError
            As in `files`.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> list(vs.chain(vs.Lab().base("RootBase")).where("/etc/alpine-release").to_frame()["image"])
        ['RootBase']
        """
        return where(self._state(None), path)

    def changes(self, layer: ImageLike | int, *, path: PathLike = "/") -> FileChanges:
        """List the files that were changed while the guest wrote to one layer.

        Parameters
        ----------
        layer : Image, path, name or int
            The layer; it must have another layer below it.
        path : path
            The folder to search.

        Returns
        -------
        FileChanges

        Raises
        ------
        InvalidRequestError
            The layer is the base.
        NotFoundError, ImageError
            As in `files`.
        """
        image = self[layer]
        number = self.layers.index(image)
        if number == 0:
            raise InvalidRequestError(
                t("compare the files below and in {image}", image=image.name),
                why=t("the image is the base of its chain, with no layer below it"),
                next_step=t("files() lists its files"),
            )
        layers = self.layers
        below = self._upto(layers[number - 1].name, number - 1)
        return changes(below, self._upto(image.name, number), path)

    def diff(self, before: str, after: str | None = None, *, path: PathLike = "/") -> FileChanges:
        """Compare the files of two states of the disk.

        Parameters
        ----------
        before : str
            The earlier state: the name of a layer, or of an internal snapshot in a layer.
        after : str, optional
            The later state. Default: the whole chain.
        path : path
            The folder to search.

        Returns
        -------
        FileChanges

        Raises
        ------
        NotFoundError, ImageError
            As in `files`.
        """
        return changes(self._state(before), self._state(after), path)

    def _state(self, at: str | None) -> DiskState:
        """Return the disk as it is, or as it was at a layer or an internal snapshot of one."""
        layers = self.layers
        if at is None:
            return self._upto(layers[-1].name, len(layers) - 1, self.inside)
        found = [
            self._upto(at, number, snapshot.id)
            for number, image in enumerate(layers)
            for snapshot in image.snapshots
            if snapshot.name == at
        ]
        if at in self:
            found.append(self._upto(at, layers.index(self[at])))
        if len(found) == 1:
            return found[0]
        names = [*(image.name for image in layers), *(one.name for image in layers for one in image.snapshots)]
        raise NotFoundError(
            t("find the state {name} of {image}", name=at, image=self.top),
            why=t("several layers or internal snapshots have this name") if found else None,
            next_step=there_are(at, names),
        )

    def _upto(self, name: str, number: int, inside: str | None = None) -> DiskState:
        """Return the state that one of the layers, or an internal snapshot of it, has."""
        return DiskState(name, self.layers[: number + 1], inside, self.volume)
