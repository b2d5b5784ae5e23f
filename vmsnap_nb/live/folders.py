"""Images in folders, read without libvirt: `scan`, `chain`, `create_overlay`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.live.files import FILE_ACTIONS, absolute, ground_of
from vmsnap_nb.live.plan import LivePlan, World
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.plans.overlay import plan_overlays
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.system.survey import Survey

__all__ = ["LiveForest", "chain", "create_overlay", "scan"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class LiveForest(Forest):
    """A forest that knows where it was read: it can be read again, and gives plans that can be run.

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
        """
        text = os.fspath(image)
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
        size: int | None = None,
        cluster_size: int | None = None,
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
        """
        base = self.find(backing)
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        return _overlay_plan(
            [_beside(one, base) for one in paths],
            base,
            self.world,
            self,
            backing_format=backing_format,
            size=size,
            cluster_size=cluster_size,
            relative=relative,
            protect=protect,
        )


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
    return World(survey.read, FILE_ACTIONS)


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
) -> Chain:
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
    Chain
        A missing file, a loop or a layer outside the folders is in it, with a status that says so.

    Raises
    ------
    NotFoundError
        No such image.
    """
    full = absolute(path)
    if not os.path.lexists(full):
        raise NotFoundError(f"read the chain of {full}", said="there is no such file", next_step="check the path")
    among = dict.fromkeys((os.path.dirname(full), *(absolute(folder) for folder in folders)))
    return Survey(tuple(among), images={full: format}, follow=follow).read().chain(full)


def create_overlay(
    path: PathLike,
    backing: PathLike,
    *,
    backing_format: str | None = None,
    size: int | None = None,
    cluster_size: int | None = None,
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
    size : int, optional
        Virtual size in bytes, at least that of the base; that of the base if left out.
    cluster_size : int, optional
        Bytes, a power of two from 512 to 2 MiB; 64 KiB if left out.
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
        size=size,
        cluster_size=cluster_size,
        relative=relative,
        protect=protect,
    )
