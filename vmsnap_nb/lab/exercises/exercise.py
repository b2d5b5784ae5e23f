"""What an exercise is, what is seen of it, and what it aims at: values, and questions to them; nothing is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.snapshot import SnapshotList
from vmsnap_nb.words.message import Message

if TYPE_CHECKING:
    from vmsnap_nb.lab.exercises.stage import Stage

__all__ = ["Aim", "Exercise", "Level", "Line", "Seen", "Start", "TypedGuest", "answer_digest", "answer_words"]

Level = Literal["easy", "medium", "hard"]


@dataclass(frozen=True, slots=True)
class Aim:
    """One thing that must hold."""

    what: Message  # a sentence without a full stop
    met: bool
    seen: Message | None = None  # if not: what was seen instead. It is never how to get there
    kept: bool = False  # whether it held from the start, and must not be broken


@dataclass(frozen=True)
class Start:
    """What was written down when an exercise was set up; images are called as `Seen.call` does."""

    # By image: a checksum of what it reads, for those that matter.
    content: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # by image: bytes of its file
    formats: Mapping[str, str] = field(default_factory=dict)  # by image: what it is
    runs: Mapping[str, int] = field(default_factory=dict)  # by guest: libvirt's number of its run, where it runs
    answer: str = ""  # `answer_digest` of the answer, where one is asked for


@dataclass(frozen=True, slots=True)
class TypedGuest:
    """A guest as `virsh` shows it."""

    state: str
    sources: Mapping[str, str]  # by disk
    snapshots: tuple[str, ...]

    def writes_to(self, path: str) -> bool:
        """Return whether the guest is running and has an image as a disk."""
        return self.state == "running" and path in self.sources.values()


@dataclass(frozen=True)
class Seen:
    """What was read of an exercise."""

    folder: str
    forest: Forest  # its images, with the uses of guests
    start: Start
    # From a path and a format: the checksum of what the image reads; or it raises `VmsnapError`.
    reads: Callable[[str, str], str]
    domains: Mapping[str, Domain] = field(default_factory=dict)  # all guests of the lab, by name
    # Of the exercise's guests, as far as they are there.
    snapshots: Mapping[str, SnapshotList] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)
    answer: str = ""  # as the student gave it
    modes: Mapping[str, int] = field(default_factory=dict)  # by path: the permissions of each image
    others: frozenset[str] = frozenset()  # paths of files in its folder that are no images
    begins: Callable[[Image], bytes] | None = None  # of an image: the first bytes that it reads, or `VmsnapError`
    typed: Mapping[str, TypedGuest] = field(default_factory=dict)  # guests of the libvirt for `virsh`, by name

    def path(self, name: str) -> str:
        """Return the path of the image with this name in the exercise's folder."""
        return f"{self.folder}/{name}.qcow2"

    def image(self, name: str) -> Image | None:
        """Return the image with this name; None where there is no such file."""
        image = self.forest.images.get(self.path(name))
        return None if image is None or image.status == "missing" else image

    def call(self, path: str) -> str:
        """Return what to call an image in a sentence: as `path` takes it, or its path elsewhere."""
        return path.removeprefix(self.folder + "/").removesuffix(".qcow2")

    def row(self, path: str) -> str:
        """Return a chain in words, base first."""
        return " <- ".join(map(self.call, reversed(self.forest.known_lineage(path))))


def answer_digest(answer: str) -> str:
    """Return a checksum of an answer's words in any order; a checksum, so that the start does not give it away."""
    return hashlib.sha256(" ".join(answer_words(answer)).encode()).hexdigest()


def answer_words(answer: str) -> list[str]:
    """Return the words of an answer, sorted, each once, as they are compared."""
    return sorted({word.removesuffix(".qcow2").lower() for word in answer.replace(",", " ").split()})


@dataclass(frozen=True, slots=True)
class Line:
    """One command of an exercise in ordering."""

    letter: str
    text: str
    after: tuple[str, ...] = ()  # letters of those that must come before it
    needed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A starting scenario, a task, and what must hold in the end; its texts are templates."""

    name: str
    title: str
    topic: str  # ``overlays``, ``snapshots``, ``merging`` or ``repair``
    level: Level
    task: str
    build: Callable[[Stage], None]
    aims: Callable[[Seen], Iterable[Aim]]
    guests: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()  # to put in order, where that is the task
    by_hand: bool = False  # whether the verbs of vmsnap_nb refuse
    virsh: bool = False  # whether its guests are those of the libvirt for `virsh`
