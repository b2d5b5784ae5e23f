"""Images in folders, read without libvirt: `scan`, `chain`, `create_overlay`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.live.chain import LiveChain
from vmsnap_nb.live.files import FILE_ACTIONS, absolute, ground_of
from vmsnap_nb.live.merge_files import merge_actions, merge_facts
from vmsnap_nb.live.merge_notes import is_untouched, read_notes
from vmsnap_nb.live.plan import LivePlan, World
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.size import Size, in_bytes
from vmsnap_nb.plans.merge import plan_cleanup, plan_commit, plan_finish, plan_pull, plan_remove
from vmsnap_nb.plans.merge_facts import commit_needs, finish_needs, pull_needs
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.overlay import plan_overlays
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.shorten import plan_shorten
from vmsnap_nb.system.survey import Survey

__all__ = ["LiveForest", "chain", "create_overlay", "scan"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class LiveForest(Forest):
    """A forest that knows where it was read: it can be read again, and gives plans that can be run.

    It stays as it was read, also after a plan of its own has run; `refresh` gives it as it is then. Plans are made from
    what is there when they are asked for.

    Attributes
    ----------
    world : World
        Where it was read, and where its plans run.
    """

    world: World = field(kw_only=True, compare=False)

    @classmethod
    def of(cls, world: World) -> LiveForest:
        """Read the forest of a world."""
        forest = world.read()
        return cls(**{f.name: getattr(forest, f.name) for f in fields(Forest)}, world=world)

    def refresh(self) -> LiveForest:
        """Read again; only what has changed is opened."""
        return self.of(self.world)

    def find(self, image: PathLike) -> str:
        """Give the path of an image by its path, or by its name where only one has it.

        Raises
        ------
        NotFoundError
            None, or more than one, is called so.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> vs.Lab().scenario("merge").find("Snap-3")
        '...merge/Snap-3.qcow2'
        """
        text = os.fspath(image)
        if text in self:  # as an address, which is no path
            return text
        full = absolute(text)
        if full in self:
            return full
        named = [path for path, found in self.images.items() if text in (found.name, os.path.basename(path))]
        if len(named) == 1:
            return named[0]
        if named:
            raise NotFoundError(f"find the image {text}", said="several are called so: " + ", ".join(named))
        raise NotFoundError(
            f"find the image {text}",
            said=f"none of the {len(self)} images that were read is called so",
            next_step="there are: " + ", ".join(sorted({found.name for found in self})[:20]),
        )

    def overlay(
        self,
        path: PathLike | Sequence[PathLike],
        backing: PathLike,
        *,
        backing_format: str | None = None,
        size: Size | None = None,
        cluster_size: Size | None = None,
        relative: bool = False,
        protect: bool = False,
    ) -> LivePlan:
        """Plan a new overlay, or several, on an image of this forest.

        Parameters
        ----------
        path : path or sequence of paths
            Of the new image; a bare name is put beside the base.
        backing : path
            The base: its path, or its name where only one image has it.
        backing_format, size, cluster_size, relative, protect
            As in `create_overlay`.

        Returns
        -------
        LivePlan

        Raises
        ------
        NotFoundError
            No such base in this forest.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").overlay(["a.qcow2", "b.qcow2"], backing="Snap-4")
        >>> len(plan.after) - len(plan.before)
        2
        """
        now = self.refresh()
        base = now.find(backing)
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        return _overlay_plan(
            [_beside(one, base) for one in paths],
            base,
            now.world,
            now,
            backing_format=backing_format,
            size=None if size is None else in_bytes(size),
            cluster_size=None if cluster_size is None else in_bytes(cluster_size),
            relative=relative,
            protect=protect,
        )

    # -- merging ----------------------------------------------------------------------------------------------

    def commit(
        self, top: PathLike, base: PathLike | None = None, *, remove: bool = False, verify: bool = False
    ) -> LivePlan:
        """Plan to copy the data of `top`, and of all between it and `base`, down into `base`.

        What stands on `top` will stand on `base`, and reads the same. The merged images become invalid, and are marked
        so that QEMU refuses them.

        Parameters
        ----------
        top, base : path
            Paths, or names where only one image has it; `base` is the image below `top` if left out.
        remove : bool
            Whether to remove the merged files in the end. This and `verify` can be given to `LivePlan.run` as well;
            `LiveReport.cleanup` removes the files afterwards.
        verify : bool
            Whether to read every disk that survives before and after, and to compare, before anything is removed.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            `top` has no backing file, or `base` is not below it.
        NotFoundError
            No such image in this forest.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").commit("Snap-3", "Snap-1")
        >>> sum(move.size for move in plan.moves), plan.refused
        (196608, False)
        """
        now = self.refresh()
        high, low = now.find(top), None if base is None else now.find(base)

        def make(forest: Forest, *, remove: bool, verify: bool) -> Plan:
            paths = (*forest.lineage(high), *forest.children(high))
            facts = merge_facts(forest, paths, commit_needs(forest, high, low))
            return plan_commit(forest, high, low, remove=remove, verify=verify, facts=facts)

        return LivePlan.bind(make, now.world, now, remove=remove, verify=verify)

    def pull(
        self, image: PathLike, base: PathLike | None = None, *, remove: bool = False, verify: bool = False
    ) -> LivePlan:
        """Plan to copy up into `image` what it reads from the layers between it and `base`; they stay valid.

        Parameters
        ----------
        image : path
            Who takes the data; others may stand on it.
        base : path, optional
            On which it will stand. If left out, everything is copied, and it stands alone.
        remove : bool
            Whether to remove the layers between, as far as nobody else stands on them.
        verify : bool
            As in `commit`.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            There is nothing between the two.
        NotFoundError
            No such image in this forest.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").pull("Snap-4", "RootBase")
        >>> [path.rpartition("/")[2] for path in plan.writes]
        ['Snap-4.qcow2']
        """
        now = self.refresh()
        high, low = now.find(image), None if base is None else now.find(base)

        def make(forest: Forest, *, remove: bool, verify: bool) -> Plan:
            facts = merge_facts(forest, forest.lineage(high), pull_needs(forest, high, low))
            return plan_pull(forest, high, low, remove=remove, verify=verify, facts=facts)

        return LivePlan.bind(make, now.world, now, remove=remove, verify=verify)

    def remove(self, image: PathLike, *, method: Literal[1, 2] | None = None, verify: bool = False) -> LivePlan:
        """Plan to take one layer out of its chain, and to remove its file; what stands on it reads the same.

        Parameters
        ----------
        image : path
            The layer.
        method : int, optional
            1: copy its data down into the image below; 2: copy it up into what stands on it. If left out, the one of
            fewer bytes among those that are not refused.
        verify : bool
            As in `commit`.

        Returns
        -------
        LivePlan
            `Plan.alternatives` has the bytes of both.

        Raises
        ------
        InvalidRequestError
            Nothing stands on it: then it is not a layer, but content that would be lost.
        NotFoundError
            No such image in this forest.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").remove("Snap-2")
        >>> [int(bytes) for bytes in plan.alternatives_frame()["bytes"]]  # up, or down
        [65536, 131072]
        """
        now = self.refresh()
        path = now.find(image)

        def make(forest: Forest, *, verify: bool) -> Plan:
            children = forest.children(path)
            needed = (*commit_needs(forest, path), *children)
            facts = merge_facts(forest, (*forest.lineage(path), *children), needed)
            return plan_remove(forest, path, method=method, verify=verify, facts=facts)

        return LivePlan.bind(make, now.world, now, verify=verify)

    def shorten(
        self,
        image: PathLike,
        *,
        keep: int | PathLike | Iterable[PathLike],
        top_may_go: bool = False,
        remove: bool = False,
        verify: bool = False,
    ) -> LivePlan:
        """Plan to make the chain of an image short, the way that copies the fewest bytes.

        Parameters
        ----------
        image : path
            The chain's last image; what it reads stays the same.
        keep : int, path, or iterable of paths
            How many images may remain; or which must remain as they are, beside the last.
        top_may_go : bool
            Whether the content may end up in the file of a lower layer, so that `image` itself becomes invalid.
        remove, verify : bool
            As in `commit`.

        Returns
        -------
        LivePlan
            `Plan.alternatives` has other ways, with their bytes.

        Raises
        ------
        InvalidRequestError
            It is as short as that already, or an image to keep is not in the chain.
        NotFoundError
            No such image in this forest.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("merge").shorten("Snap-4", keep=2)
        >>> int(plan.alternatives_frame()["bytes"].min())
        196608
        """
        now = self.refresh()
        path = now.find(image)
        kept = keep if isinstance(keep, int) else now._find_all(keep)

        def make(forest: Forest, *, remove: bool, verify: bool) -> Plan:
            facts = merge_facts(forest, forest.lineage(path))
            return plan_shorten(
                forest, path, keep=kept, top_may_go=top_may_go, remove=remove, verify=verify, facts=facts
            )

        return LivePlan.bind(make, now.world, now, remove=remove, verify=verify)

    def _find_all(self, images: PathLike | Iterable[PathLike]) -> tuple[str, ...]:
        several = (images,) if isinstance(images, str | os.PathLike) else images
        return tuple(self.find(one) for one in several)

    def unfinished(self) -> tuple[LivePlan, ...]:
        """Give the plans that finish merges which were cut short, by a crash, a full disk or a cancel.

        Where nobody knows whether QEMU had written all, a plan takes the merge back, and the next one makes it again.

        Returns
        -------
        tuple of LivePlan
            Empty if there are none.
        """
        now = self.refresh()

        def finisher(note: MergeNote) -> LivePlan:
            def make(forest: Forest) -> Plan:
                facts = merge_facts(forest, finish_needs(forest, note))
                return plan_finish(forest, note, facts=facts, untouched=is_untouched(note))

            return LivePlan.bind(make, now.world, now)

        folders = {os.path.dirname(path) for path in now.images if path.startswith("/")}
        return tuple(finisher(note) for note in read_notes(folders))

    def cleanup(self) -> LivePlan:
        """Plan to remove all files that earlier merges have marked as invalid; nothing happens until its `run`.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            There are none.
        """
        return LivePlan.bind(plan_cleanup, self.world)

    def blockmap(self, image: PathLike) -> BlockMap:
        """Look which layer of an image's chain owns which part of the disk, and what lies hidden below.

        Parameters
        ----------
        image : path
            The chain's last image.

        Returns
        -------
        BlockMap

        Raises
        ------
        ImageError
            A layer cannot be read.
        NotFoundError
            No such image in this forest.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> frame = vs.Lab().scenario("merge").blockmap("Snap-4").to_frame()
        >>> int(frame[frame["hidden"]]["length"].sum())
        262144
        """
        return self.refresh().chain(image).blockmap()

    def chain(self, path: PathLike) -> LiveChain:
        """Give the chain that ends at an image.

        Parameters
        ----------
        path : path
            The image: its path, or its name where only one image has it.

        Returns
        -------
        LiveChain

        Raises
        ------
        NotFoundError
            No such image in this forest.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> forest = vs.Lab().scenario("figure-2")
        >>> [image.name for image in forest.chain("Overlay-3A")]
        ['RootBase', 'Overlay-3', 'Overlay-3A']
        """
        return LiveChain(self, self.find(path))


def _beside(path: PathLike, base: str) -> str:
    text = os.fspath(path)
    return absolute(text if "/" in text else os.path.join(os.path.dirname(base), text))


def _overlay_plan(
    paths: list[str],
    base: str,
    world: World,
    before: Forest | None,
    **options: object,
) -> LivePlan:
    def make(forest: Forest) -> Plan:
        return plan_overlays(forest, paths, base, ground=ground_of(paths), **options)  # type: ignore[arg-type]

    return LivePlan.bind(make, world, before)


def _world(survey: Survey) -> World:
    return World(survey.read, {**FILE_ACTIONS, **merge_actions()})


def scan(*folders: PathLike, follow: bool = False) -> LiveForest:
    """Read every image in some folders, and who stands on whom. Needs neither libvirt nor QEMU for qcow2 and raw.

    Parameters
    ----------
    *folders : path
        Folders to read, with the folders in them; the current one if none is given.
    follow : bool
        Whether to read backing files outside these folders as well. Network addresses are never opened.

    Returns
    -------
    LiveForest

    Raises
    ------
    NotFoundError
        No such folder.

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
                f"scan {path}",
                said="it is not a folder" if os.path.lexists(path) else "there is no such folder",
                next_step="for one image use vmsnap_nb.chain(path)" if os.path.isfile(path) else "check the path",
            )
    return LiveForest.of(_world(Survey(paths, follow=follow)))


def chain(
    path: PathLike, *, folders: Iterable[PathLike] = (), format: str | None = None, follow: bool = False
) -> LiveChain:
    """Read the chain of one image, and what else in its folder stands on it.

    Parameters
    ----------
    path : path
        The image.
    folders : iterable of path
        Further folders in which backing files may be read.
    format : str, optional
        The image's format where its content does not tell it: ``raw``.
    follow : bool
        Whether to read backing files wherever they are. Network addresses are never opened.

    Returns
    -------
    LiveChain
        A missing file, a loop or a layer outside the folders is in it, with a status that says so.

    Raises
    ------
    NotFoundError
        No such image.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> path = vs.Lab().scenario("figure-1").find("Overlay-1B")
    >>> [image.name for image in vs.chain(path)]
    ['RootBase', 'Overlay-1', 'Overlay-1A', 'Overlay-1B']
    """
    full = absolute(path)
    if not os.path.lexists(full):
        raise NotFoundError(f"read the chain of {full}", said="there is no such file", next_step="check the path")
    among = dict.fromkeys((os.path.dirname(full), *(absolute(folder) for folder in folders)))
    return LiveChain(Survey(tuple(among), images={full: format}, follow=follow).read(), full)


def create_overlay(
    path: PathLike,
    backing: PathLike,
    *,
    backing_format: str | None = None,
    size: Size | None = None,
    cluster_size: Size | None = None,
    relative: bool = False,
    protect: bool = False,
) -> LivePlan:
    """Plan a new qcow2 image that stands on another. Nothing happens until its `run`.

    Parameters
    ----------
    path : path
        The new image. An existing file is never overwritten.
    backing : path
        The base.
    backing_format : str, optional
        Its format; needed for a raw base on which nothing stands yet, since nothing else tells it.
    size : int or str, optional
        Virtual size in bytes, or as ``"20G"``; at least that of the base, and that of the base if left out.
    cluster_size : int or str, optional
        Bytes, a power of two from 512 to 2 MiB, or as ``"2M"``; 64 KiB if left out.
    relative : bool
        Whether the overlay names the base relative to its own folder, so that both can be moved together.
    protect : bool
        Whether to take the base's write permission.

    Returns
    -------
    LivePlan
        With `before`, `after`, `commands` and `concerns`; `LivePlan.run` gives the report.

    Raises
    ------
    InvalidRequestError
        A path or a size that cannot be meant.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> base = vs.Lab().base("RootBase")
    >>> plan = vs.create_overlay("new.qcow2", base.path)  # nothing has happened yet
    >>> [step.action for step in plan.steps], plan.refused
    (['create overlay'], False)
    """
    new, base = absolute(path), absolute(backing)
    folders = (os.path.dirname(base), os.path.dirname(new))
    survey = Survey(tuple(dict.fromkeys(filter(os.path.isdir, folders))), images={base: None}, follow=True)
    return _overlay_plan(
        [new],
        base,
        _world(survey),
        None,
        backing_format=backing_format,
        size=None if size is None else in_bytes(size),
        cluster_size=None if cluster_size is None else in_bytes(cluster_size),
        relative=relative,
        protect=protect,
    )
