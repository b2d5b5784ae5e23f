"""Images in folders, read without libvirt: `scan`, `chain`, `create_overlay`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.live.chain import LiveChain
from vmsnap_nb.live.check import check_image
from vmsnap_nb.live.html_page import folder_chapter, write_page
from vmsnap_nb.live.image_actions import image_actions
from vmsnap_nb.live.image_files import ImageFiles
from vmsnap_nb.live.image_names import GuestLike, existing_path, image_of, named, names_beside, with_suffix
from vmsnap_nb.live.leftovers import LiveLeftovers, read_leftovers
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.reading import look_at_files
from vmsnap_nb.live.saved import with_saved_memory
from vmsnap_nb.live.space import read_space
from vmsnap_nb.model.arguments import checked, checked_methods
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image, register_files
from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.model.kernel_paths import is_kernel_path
from vmsnap_nb.model.lookup import ImageLike, path_of
from vmsnap_nb.model.number import check_images
from vmsnap_nb.model.shown import pickled_as
from vmsnap_nb.model.size import Size, in_bytes
from vmsnap_nb.model.space import Space
from vmsnap_nb.plans.findings import Findings, find_all, findings_needs
from vmsnap_nb.plans.merge.request import (
    CleanupRequest,
    CommitRequest,
    PullRequest,
    RemoveRequest,
    ShortenRequest,
    unfinished,
    unfinished_needs,
)
from vmsnap_nb.plans.overlay.request import OverlayRequest
from vmsnap_nb.plans.repair.request import RepairRequest
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.system.files.paths import absolute, real_path
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import joined, t

__all__ = ["LiveForest", "chain", "create_overlay", "scan"]

PathLike = str | os.PathLike[str]

register_files(ImageFiles())


@checked_methods
@dataclass(frozen=True, repr=False)
class LiveForest(Forest):
    """A forest that can be read again, and whose plans can be run.

    A forest object does not change, even when one of its plans runs; `refresh` returns a new forest. Each method that
    returns a plan first reads the current state of the files.

    Attributes
    ----------
    place : Place
        The place from which the forest was read, and in which its plans run.
    """

    place: Place = field(kw_only=True, compare=False)

    @classmethod
    def of(cls, world: Place) -> LiveForest:
        """Read a forest from a place."""
        forest = world.forest()
        return cls(**{f.name: getattr(forest, f.name) for f in fields(Forest)}, place=world)

    def refresh(self) -> LiveForest:
        """Read the forest again. Only files that have changed are opened."""
        return self.of(self.place)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled_as(Forest, self)

    def _named(self, image: ImageLike) -> str:
        """Return what the user calls an image, for a request; addresses of its images can be of any form."""
        text = path_of(image)
        return text if text is not None and text in self.images else named(image)

    def overlay(
        self,
        path: PathLike | Sequence[PathLike],
        backing: ImageLike | GuestLike,
        *,
        backing_format: str | None = None,
        size: Size | None = None,
        cluster_size: Size | None = None,
        relative: bool = False,
        protect: bool = False,
    ) -> LivePlan:
        """Plan one or more new overlays on an image of this forest.

        Parameters
        ----------
        path : path or sequence of paths
            The new images. A name without a folder is created beside the backing file; a name without a suffix gets
            ``.qcow2``.
        backing : Image, path, name or Guest
            The backing file: the image itself, its path, or its name if only one image has that name. If you pass a
            guest, its active layer is used.
        backing_format, size, cluster_size, relative, protect
            As in `create_overlay`.

        Returns
        -------
        LivePlan

        Raises
        ------
        NotFoundError
            The forest does not contain the image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").overlay(["a", "b"], backing="Snap-4")
        >>> len(plan.after) - len(plan.before)
        2
        """
        now = self.refresh()
        base = now.find(image_of(backing))
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        request = OverlayRequest(
            paths=tuple(_beside(path, base) for path in paths),
            backing=base,
            backing_format=backing_format,
            size=None if size is None else in_bytes(size),
            cluster_size=None if cluster_size is None else in_bytes(cluster_size),
            relative=relative,
            protect=protect,
        )
        return LivePlan.bind(request, now.place, now)

    # -- merging ----------------------------------------------------------------------------------------------

    def commit(
        self, top: ImageLike, base: ImageLike | None = None, *, remove: bool = False, verify: bool = False
    ) -> LivePlan:
        """Plan to commit `top`, and all layers between it and `base`, into `base`.

        Overlays that are based on `top` will be based on `base`, and still read the same data. The merged images become
        invalid, and are marked so that QEMU refuses to open them.

        Parameters
        ----------
        top : Image, path or name
            The highest layer to commit. A name must belong to one image only.
        base : Image, path or name, optional
            The image that receives the data. Default: the backing file of `top`.
        remove : bool
            Whether to remove the merged files at the end. You can also pass `remove` and `verify` to `LivePlan.run`, or
            remove the files later with `LiveReport.cleanup`.
        verify : bool
            Whether to check that the merge has not changed the content of any remaining disk, before any file is
            removed.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            `top` has no backing file, or `base` is not below it.
        NotFoundError
            The forest does not contain the image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").commit("Snap-3", "Snap-1")
        >>> sum(move.size for move in plan.moves), plan.refused
        (196608, False)
        """
        request = CommitRequest(
            top=self._named(top), base=None if base is None else self._named(base), remove=remove, verify=verify
        )
        return LivePlan.bind(request, self.place)

    def pull(
        self, image: ImageLike, base: ImageLike | None = None, *, remove: bool = False, verify: bool = False
    ) -> LivePlan:
        """Plan to pull the data of the layers between `base` and `image` into `image`.

        The layers between `base` and `image` remain valid.

        Parameters
        ----------
        image : Image, path or name
            The image that receives the data; other overlays may be based on it.
        base : Image, path or name, optional
            The new backing file of `image`. By default, all data is copied, and `image` no longer has a backing file.
        remove : bool
            Whether to remove the layers in between, unless something else depends on them.
        verify : bool
            As in `commit`.

        Returns
        -------
        LivePlan

        Raises
        ------
        NothingToDoError
            There is no layer between `base` and `image`.
        NotFoundError
            The forest does not contain the image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").pull("Snap-4", "RootBase")
        >>> [path.rpartition("/")[2] for path in plan.writes]
        ['Snap-4.qcow2']
        """
        request = PullRequest(
            into=self._named(image), base=None if base is None else self._named(base), remove=remove, verify=verify
        )
        return LivePlan.bind(request, self.place)

    def remove(self, image: ImageLike, *, method: Literal[1, 2] | None = None, verify: bool = False) -> LivePlan:
        """Plan to take one layer out of its chain and remove its file; overlays based on the layer still read the same
        data.

        Parameters
        ----------
        image : Image, path or name
            The layer.
        method : int, optional
            1: commit the layer's data into its backing file; 2: pull the data into the overlays based on the layer.
            Default: the method that copies fewer bytes, or the only method that is not refused.
        verify : bool
            As in `commit`.

        Returns
        -------
        LivePlan
            `Plan.alternatives` lists both methods, with the number of bytes that each copies.

        Raises
        ------
        InvalidRequestError
            No overlay is based on the image, so its content would be lost.
        NotFoundError
            The forest does not contain the image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").remove("Snap-2")
        >>> [int(bytes) for bytes in plan.alternatives_frame()["bytes"]]  # up, or down
        [65536, 131072]
        """
        return LivePlan.bind(RemoveRequest(top=self._named(image), method=method, verify=verify), self.place)

    def shorten(
        self,
        image: ImageLike,
        *,
        keep: int | ImageLike | Iterable[ImageLike],
        top_may_go: bool = False,
        remove: bool = False,
        verify: bool = False,
    ) -> LivePlan:
        """Plan to shorten the chain of an image while copying as few bytes as possible.

        Parameters
        ----------
        image : Image, path or name
            The top of the chain; the content of the disk remains the same.
        keep : int, Image, path, name, or iterable of these
            The number of images that may remain, or the images that must remain unchanged in addition to the top.
        top_may_go : bool
            Whether the content may be merged into the file of a lower layer, so that `image` itself becomes invalid.
        remove, verify : bool
            As in `commit`.

        Returns
        -------
        LivePlan
            `Plan.alternatives` lists the ways that were compared, with the number of bytes that each copies.

        Raises
        ------
        NothingToDoError
            The chain is already as short as requested.
        InvalidRequestError
            The chain does not contain an image that must be kept.
        NotFoundError
            The forest does not contain the image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").shorten("Snap-4", keep=2)
        >>> int(plan.alternatives_frame()["bytes"].min())
        196608
        """
        several = (keep,) if isinstance(keep, Image | str | os.PathLike) else keep
        request = ShortenRequest(
            top=self._named(image),
            keep=tuple(map(self._named, several)) if isinstance(several, Iterable) else check_images(several),
            top_may_go=top_may_go,
            remove=remove,
            verify=verify,
        )
        return LivePlan.bind(request, self.place)

    def unfinished(self) -> tuple[LivePlan, ...]:
        """Return the plans that finish merges that were interrupted by a crash, a full disk or a cancellation.

        Plans for images in which a change to an internal snapshot was interrupted come first; they repair a copy of the
        image. If it is not known whether QEMU wrote all data, one plan undoes the merge, and the next plan repeats it.

        Returns
        -------
        tuple of LivePlan
            Empty if no operation was interrupted.
        """
        now = self.place.survey()
        requests = unfinished(self.place.look(now, unfinished_needs(now.forest)))
        return tuple(LivePlan.bind_each(requests, self.place, now))

    def cleanup(self) -> LivePlan:
        """Plan to remove all files that earlier merges marked as invalid; nothing changes until you call `run`.

        Incomplete files that a killed process of this toolkit left behind (``.<32 digits>.partial``) are removed too.
        If the guests are known, so is saved memory that can no longer be restored.

        Returns
        -------
        LivePlan

        Raises
        ------
        NothingToDoError
            No file is marked as invalid.
        """
        return LivePlan.bind(CleanupRequest(uri=self.place.uri), self.place)

    def blockmap(self, image: ImageLike) -> BlockMap:
        """Map the parts of the disk that each layer of a chain holds, and the data that higher layers hide.

        Parameters
        ----------
        image : Image, path or name
            The top of the chain.

        Returns
        -------
        BlockMap

        Raises
        ------
        ImageError
            A layer cannot be read.
        NotFoundError
            The forest does not contain the image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> frame = vs.Lab().scenario("merge").blockmap("Snap-4").to_frame()
        >>> int(frame[frame["hidden"]]["length"].sum())
        262144
        """
        return self.refresh().chain(image).blockmap()

    def space(self) -> Space:
        """Measure the disk space that the images take, find data that is no longer read, and suggest how to free its
        space.

        Nothing is changed.

        Returns
        -------
        Space
            `Space.to_frame` returns a row for each file, and `Space.internal_frame` returns a row for each internal
            snapshot. If a guest is writing at the same time, the numbers may be out of date.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> frame = vs.Lab().scenario("merge").space().to_frame().set_index("image")
        >>> int(frame.loc["Snap-2", "hidden"]), frame.loc["Snap-3", "reclaim"]
        (65536, "forest.commit('Snap-4', 'Snap-3', remove=True)")
        """
        return read_space(self.refresh())

    def findings(self) -> Findings:
        """Find problems and risks in the images, using the same checks as plans.

        Returns
        -------
        Findings
            One row for each finding, with a remedy; the most serious findings come first. For a host, `Host.findings`
            also checks its guests.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> found = vs.Lab().scenario("merge").findings()
        >>> [(one.name, one.severity) for one in found if one.where.endswith("RootBase.qcow2")]
        [('writable-base', 'note')]
        """
        now = self.place.survey()
        return find_all(
            self.place.look(now, findings_needs(now.forest)), uri=self.place.uri, machine=self.place.far_machine()
        )

    def leftovers(self) -> LiveLeftovers:
        """Find files that nothing needs, as far as is known: images, merged layers, memory and incomplete files.

        If a whole chain is not needed, all of its images are listed. The list does not prove that a file is unneeded.
        If the folders were read without libvirt, the guests are not known. Plans are then refused unless you waive the
        concern.

        Returns
        -------
        LiveLeftovers
            One row for each file, with the evidence; `LiveLeftovers.move` and `LiveLeftovers.remove` return plans.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").leftovers().remove("Snap-4")
        >>> [concern.name for concern in plan.concerns if concern.level == "refuse"]
        ['unknown-image']
        """
        return read_leftovers(self.place)

    def to_html(self, path: PathLike, *, overwrite: bool = False) -> str:
        """Write a report of the images: findings, figure, space and leftovers, as a single HTML page.

        The page needs no other files and no network connection. It follows the browser's light or dark theme, and can
        be printed.

        Parameters
        ----------
        path : path
            The file to write. An older report at this path is replaced.
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
        >>> lab.scenario("merge").to_html(lab.root / "report.html").rpartition("/")[2]
        'report.html'
        """
        return write_page(
            path, t("Report of {what}", what=joined(self.folders)), [folder_chapter(self.place)], overwrite=overwrite
        )

    def check(self, image: ImageLike, *, timeout: float = 600.0) -> ImageCheck:
        """Read an image again, and check its tables with `qemu-img check`, as `Image.check` does.

        Parameters
        ----------
        image : Image, path or name
            The image.
        timeout : float
            The maximum number of seconds for the check.

        Returns
        -------
        ImageCheck

        Raises
        ------
        NotFoundError
            The forest does not contain the image.
        ImageError, InUseError, CommandError
            As in `Image.check`.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> vs.Lab().scenario("merge").check("Snap-2").corruptions
        0
        """
        now = self.refresh()
        return check_image(now[now.find(image)], timeout)

    def repair(self, image: ImageLike, path: PathLike) -> LivePlan:
        """Plan to repair a copy of an image; the image itself is only read.

        Parameters
        ----------
        image : Image, path or name
            The image.
        path : path
            The new file. If its name has no folder, the file is created beside the image; ``.qcow2`` is the suffix
            of a name without one.

        Returns
        -------
        LivePlan

        Raises
        ------
        NotFoundError
            The forest does not contain the image.
        """
        now = self.refresh()
        source = now.find(image)
        return LivePlan.bind(RepairRequest(image=source, path=_beside(path, source)), now.place, now)

    def chain(self, image: ImageLike) -> LiveChain:
        """Return the backing chain of an image.

        Parameters
        ----------
        image : Image, path or name
            The image; a name must belong to one image only.

        Returns
        -------
        LiveChain

        Raises
        ------
        NotFoundError
            The forest does not contain the image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> forest = vs.Lab().scenario("figure-2")
        >>> [image.name for image in forest.chain("Overlay-3A")]
        ['RootBase', 'Overlay-3', 'Overlay-3A']
        """
        return LiveChain(self, self.find(image), volume=self.place.volume)


def _beside(path: PathLike, base: str) -> str:
    text = with_suffix(path)
    return absolute(text if "/" in text else os.path.join(os.path.dirname(base), text))


def _place(survey: Survey) -> Place:
    def read() -> Reading:
        return Reading(forest=with_saved_memory(survey.read(), survey))

    return Place(read, look_at_files, image_actions())


@checked
def scan(*folders: PathLike, follow: bool = False) -> LiveForest:
    """Read all images in the given folders, and determine which overlay is based on which backing file.

    Reading qcow2 and raw images needs neither libvirt nor QEMU.

    Parameters
    ----------
    *folders : path
        Folders to read, including their subfolders. Default: the current folder.
    follow : bool
        Whether to also read backing files outside these folders. Network addresses are never opened.

    Returns
    -------
    LiveForest

    Raises
    ------
    NotFoundError
        The folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> import vmsnap_nb as vs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vs.scan(folder).to_frame().empty
    True
    """
    paths = tuple(absolute(folder) for folder in folders or (os.curdir,))
    for path in paths:
        if not os.path.isdir(path):
            raise NotFoundError(
                t("scan {path}", path=path),
                why=t("it is not a folder") if os.path.lexists(path) else t("there is no such folder"),
                next_step=t("for one image, use vmsnap_nb.chain(path)")
                if os.path.isfile(path)
                else t("check the path"),
            )
    return LiveForest.of(_place(Survey(paths, follow=follow)))


@checked
def chain(
    image: ImageLike | GuestLike,
    *,
    folders: Iterable[PathLike] = (),
    format: str | None = None,
    follow: bool = False,
) -> LiveChain:
    """Read the backing chain of one image, and the other images in its folder that depend on its layers.

    Parameters
    ----------
    image : Image, path, name or Guest
        The image, its path, the name of a file in the current folder, or the guest that writes to the image. The name
        may omit the suffix if only one file matches.
    folders : iterable of path
        Additional folders in which backing files may be read.
    format : str, optional
        The format of the image, if it cannot be recognized from the content: ``"raw"``.
    follow : bool
        Whether to read backing files in any folder. Network addresses are never opened.

    Returns
    -------
    LiveChain
        The chain. It includes missing files, loops and layers outside the folders, each with a corresponding status.

    Raises
    ------
    NotFoundError
        The image does not exist.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> path = vs.Lab().scenario("figure-1").find("Overlay-1B")
    >>> [image.name for image in vs.chain(path)]
    ['RootBase', 'Overlay-1', 'Overlay-1A', 'Overlay-1B']
    """
    full = existing_path(image)
    if not os.path.lexists(full):
        tried = t("read the chain of {image}", image=full)
        raise NotFoundError(tried, why=t("the file does not exist"), next_step=names_beside(full))
    beside = () if is_kernel_path(os.path.dirname(real_path(full))) else (os.path.dirname(full),)
    among = dict.fromkeys((*beside, *(absolute(folder) for folder in folders)))
    return LiveChain(Survey(tuple(among), images={full: format}, follow=follow).read(), full)


@checked
def create_overlay(
    path: PathLike,
    backing: ImageLike | GuestLike,
    *,
    backing_format: str | None = None,
    size: Size | None = None,
    cluster_size: Size | None = None,
    relative: bool = False,
    protect: bool = False,
) -> LivePlan:
    """Plan a new qcow2 overlay that is based on another image; nothing changes until you call `run`.

    Parameters
    ----------
    path : path
        The new image; a name without a suffix gets ``.qcow2``. An existing file is never overwritten.
    backing : Image, path, name or Guest
        The backing file, as in `chain`.
    backing_format : str, optional
        The format of the backing file; required for a raw image that has no overlays yet, because no header records its
        format.
    size : int or str, optional
        Virtual size in bytes, or a string such as ``"20 GiB"``; at least the size of the backing file, which is the
        default.
    cluster_size : int or str, optional
        The cluster size in bytes, or as a string such as ``"2M"``: a power of two from 512 bytes to 2 MiB. Default: 64
        KiB.
    relative : bool
        Whether the overlay records the path of its backing file relative to its own folder, so that both files can be
        moved together.
    protect : bool
        Whether to write-protect the backing file.

    Returns
    -------
    LivePlan
        The plan. Its attributes include `before`, `after`, `commands` and `concerns`; `LivePlan.run` returns a report.

    Raises
    ------
    InvalidRequestError
        A path or size is invalid.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> base = vs.Lab().base("RootBase")
    >>> plan = vs.create_overlay("new", base)  # nothing has happened yet
    >>> [step.action for step in plan.steps], plan.refused
    (['create overlay'], False)
    """
    new, base = absolute(with_suffix(path)), existing_path(backing)
    folders = (os.path.dirname(base), os.path.dirname(new))
    survey = Survey(tuple(dict.fromkeys(filter(os.path.isdir, folders))), images={base: None}, follow=True)
    request = OverlayRequest(
        paths=(new,),
        backing=base,
        backing_format=backing_format,
        size=None if size is None else in_bytes(size),
        cluster_size=None if cluster_size is None else in_bytes(cluster_size),
        relative=relative,
        protect=protect,
    )
    return LivePlan.bind(request, _place(survey))
