"""Files on a guest's disks: now, and as they were when a snapshot was taken."""

from __future__ import annotations

from vmsnap_nb.errors import ImageError, NotFoundError
from vmsnap_nb.live.files import (
    MOST_READ,
    PathLike,
    When,
    changes,
    copy_out,
    find_files,
    list_files,
    read_file,
    state_of,
)
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.live.snapshot_lists import snapshot_list
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.files import NOW, FileChanges, Files
from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.model.snapshot import Snapshot
from vmsnap_nb.plans.disk_states import DiskPoint, snapshot_state
from vmsnap_nb.system.filesystems.reader import DiskState
from vmsnap_nb.words.message import t

__all__ = ["GuestFiles"]


@checked_methods
class GuestFiles(Listed):
    """The verbs of a guest that read files."""

    _handle: GuestHandle

    def files(
        self, path: PathLike = "/", *, at: str | None = None, target: str | None = None, recursive: bool = False
    ) -> Files:
        """List the contents of one of the guest's folders, even while the guest runs, without root privileges and
        without a lock.

        Parameters
        ----------
        path : path
            A folder as the guest sees it, or ``volume:/path`` for a volume that its ``/etc/fstab`` does not mount.
        at : str, optional
            The name of a snapshot, internal or external. Default: the current state.
        target : str, optional
            The disk, such as ``vda``. Default: the first disk that has an image.
        recursive : bool
            Whether to list everything below the folder.

        Returns
        -------
        Files
            The files. Their `notes` list data that may be missing. To include all data that a running guest has
            written, first run ``sync; sync`` in the guest.

        Raises
        ------
        NotFoundError
            The path, snapshot or disk does not exist.
        ImageError
            A layer or a snapshot cannot be read, or there is no supported file system; the error states what was found
            instead.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> "/etc/fstab" in lab.guest("listed", backing=lab.base("RootBase")).files("/etc")
        True
        """
        return list_files(self._disk_state(at, target), path, recursive=recursive)

    def find_files(
        self,
        pattern: str,
        *,
        path: PathLike = "/",
        newer: When | None = None,
        at: str | None = None,
        target: str | None = None,
    ) -> Files:
        """Search a folder and its subfolders for files whose names match a pattern, as `LiveChain.find_files` does.

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
        at, target
            As in `files`.

        Returns
        -------
        Files

        Raises
        ------
        NotFoundError, ImageError
            As in `files`.
        """
        return find_files(self._disk_state(at, target), pattern, path, newer)

    def read(self, path: PathLike, *, at: str | None = None, target: str | None = None, most: int = MOST_READ) -> bytes:
        """Return the content of one of the guest's files, now or at the time of a snapshot.

        Parameters
        ----------
        path
            As in `files`; symbolic links are followed within the disk.
        at, target
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
        """
        return read_file(self._disk_state(at, target), path, most)

    def copy_out(self, path: PathLike, to: PathLike, *, at: str | None = None, target: str | None = None) -> str:
        """Copy one of the guest's files to this machine, readable only by you; no existing file is overwritten.

        Parameters
        ----------
        path, at, target
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
        return copy_out(self._disk_state(at, target), path, to)

    def diff(
        self, before: str, after: str | None = None, *, path: PathLike = "/", target: str | None = None
    ) -> FileChanges:
        """Compare the guest's files at a snapshot with its files at another snapshot, or with its current files.

        Parameters
        ----------
        before : str
            The name of a snapshot, internal or external.
        after : str, optional
            The name of another snapshot. Default: the current state.
        path : path
            The folder to search.
        target : str, optional
            As in `files`.

        Returns
        -------
        FileChanges
            The comparison uses the parts of the disk that differ, instead of reading all files.

        Raises
        ------
        NotFoundError, ImageError
            As in `files`.
        """
        return changes(self._disk_state(before, target), self._disk_state(after, target), path)

    def _disk_state(self, at: str | None, target: str | None) -> DiskState:
        """Return one of its disks, as it is or as a snapshot holds it."""
        return state_of(*self._point(at, target), self._handle.link.open_volume)

    def _point(self, at: str | None, target: str | None) -> tuple[Forest, DiskPoint]:
        """Return the images, and which of them with which internal snapshot is that state of a disk."""
        handle = self._handle
        forest = handle.forest()
        use = find_disk(forest, handle.name, target)
        if at is None:
            return forest, DiskPoint(image=use.path, name=NOW)
        snapshots = snapshot_list(handle)
        snapshot = next((one for one in snapshots if one.name == at), None)
        if snapshot is None:
            raise NotFoundError(
                t("find the snapshot {name} of {guest}", name=at, guest=handle.name),
                next_step=there_are(at, (one.name for one in snapshots)),
            )
        return forest, _held(forest, snapshot, use.target)


def _held(forest: Forest, snapshot: Snapshot, target: str) -> DiskPoint:
    """Return the state of a disk that a snapshot holds."""
    tried = t("read the disk of {guest} in the snapshot {name}", guest=snapshot.record.guest, name=snapshot.name)
    if snapshot.status not in {"ok", "untracked"}:
        raise ImageError(
            tried,
            why=snapshot.problem,
            next_step=t("guest.reconcile() shows how its record and the images differ"),
        )
    return snapshot_state(forest, snapshot.record, target, tried)
