"""What an exercise is, what is seen of it, and what it aims at: values, and questions to them; nothing is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.snapshot import SnapshotList

if TYPE_CHECKING:
    from vmsnap_nb.lab.exercises.stage import Stage

__all__ = ["Aim", "Exercise", "Level", "Seen", "Start"]

Level = Literal["easy", "medium", "hard"]


@dataclass(frozen=True, slots=True)
class Aim:
    """One thing that is to be so.

    Attributes
    ----------
    what : str
        A sentence without a full stop.
    met : bool
        Whether it is so.
    seen : str
        If not: what was seen instead. It is never how to get there.
    kept : bool
        Whether it was so from the start, and only must not be spoilt.
    """

    what: str
    met: bool
    seen: str = ""
    kept: bool = False


@dataclass(frozen=True)
class Start:
    """What was written down when an exercise was set up.

    Attributes
    ----------
    content : mapping of str to str
        By image, called as `Seen.call` does: a checksum of what it reads, for those that matter.
    sizes : mapping of str to int
        By image: bytes of its file.
    formats : mapping of str to str
        By image: what it is.
    runs : mapping of str to int
        By guest: libvirt's number of its run, where it runs.
    """

    content: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What was read of an exercise.

    Attributes
    ----------
    folder : str
        Its folder.
    forest : Forest
        Its images, and who uses them.
    start : Start
        What it was at the start.
    reads : callable
        From a path and a format: the checksum of what the image reads; or it raises `VmsnapError`.
    domains : mapping of str to Domain
        All guests of the lab, by name.
    snapshots : mapping of str to SnapshotList
        Of the exercise's guests, as far as they are there.
    runs : mapping of str to int
        As in `Start`, now.
    """

    folder: str
    forest: Forest
    start: Start
    reads: Callable[[str, str], str]
    domains: Mapping[str, Domain] = field(default_factory=dict)
    snapshots: Mapping[str, SnapshotList] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """Give the path of the image with this name in the exercise's folder."""
        return f"{self.folder}/{name}.qcow2"

    def image(self, name: str) -> Image | None:
        """Give the image with this name; None where there is no such file."""
        image = self.forest.images.get(self.path(name))
        return None if image is None or image.status == "missing" else image

    def call(self, path: str) -> str:
        """Give what to call an image in a sentence: as `path` takes it, or its path elsewhere."""
        return path.removeprefix(self.folder + "/").removesuffix(".qcow2")

    def row(self, path: str) -> str:
        """Give a chain in words, base first."""
        return " <- ".join(map(self.call, reversed(self.forest.lineage(path))))


@dataclass(frozen=True, slots=True)
class Exercise:
    """A starting scenario, a task, and what is to be so in the end.

    Attributes
    ----------
    name : str
        What it is asked for by.
    title : str
        A few words.
    topic : str
        ``overlays``, ``snapshots``, ``merging`` or ``repair``.
    level : str
        One of `Level`.
    task : str
        What there is to do.
    build : callable
        Sets it up.
    aims : callable
        Gives what is to be so, from what was read.
    guests : tuple of str
        Names of its guests.
    """

    name: str
    title: str
    topic: str
    level: Level
    task: str
    build: Callable[[Stage], None]
    aims: Callable[[Seen], Iterable[Aim]]
    guests: tuple[str, ...] = ()
