"""What is read of one host of a fleet: in a thread of this process, or in another process that connects by itself."""

from __future__ import annotations

import pickle
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.fleet.member import Member
from vmsnap_nb.fleet.shared import Around, Seen
from vmsnap_nb.live.host_chapter import host_chapter
from vmsnap_nb.live.space import read_space
from vmsnap_nb.model.guest import Domains
from vmsnap_nb.model.image import Image
from vmsnap_nb.views.whole_page import Chapter

__all__ = ["READINGS", "Answer", "Spec", "elsewhere"]

Folders = tuple[str, ...]

_LEVEL = 1
"""Of the compression: higher ones take longer than a network does."""


def _alone(member: Member, folders: Folders) -> Seen:
    return member.alone(folders)


def _guests(member: Member, _: Folders) -> Domains:
    return Domains(member.domains())


def _chapter(member: Member, folders: Folders) -> Chapter:
    return host_chapter(member.link, member.name, folders)


READINGS: dict[str, Callable[[Member, Folders], Any]] = {
    "alone": _alone,
    "guests": _guests,
    "snapshots": lambda member, _: member.snapshots(),
    "space": lambda member, folders: read_space(member.alone(folders).forest),
    "findings": lambda member, folders: member.findings(*folders),
    "leftovers": lambda member, folders: member.leftovers(*folders),
    "chapter": _chapter,
}
"""What can be read, by name."""


def _new_call() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All that another process needs to read one host.

    `near` says that the process runs on that host, and opens its files. `call` is another one each time: an executor
    may take equal work for the same, and return what was read before.
    """

    name: str
    uri: str
    readonly: bool
    what: str
    folders: Folders
    around: Around
    near: bool = False
    call: str = field(default_factory=_new_call)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was read, and the machine on which that was: its name and UUID, or None if it was not asked.

    A `problem` is sent back, too, and not raised: it is no failure of the worker, which would record it as one. It is
    sent compressed: paths have much in common.
    """

    read: Any = None
    machine: tuple[str, str] | None = None
    problem: VmsnapError | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        content = pickle.dumps((self.read, self.machine, self.problem), protocol=pickle.HIGHEST_PROTOCOL)
        return _unpacked, (zlib.compress(content, _LEVEL),)


def _unpacked(packed: bytes) -> Answer:
    read, machine, problem = pickle.loads(zlib.decompress(packed))  # noqa: S301 - within what pickle has loaded itself
    return Answer(read=read, machine=machine, problem=problem)


def elsewhere(spec: Spec) -> Answer:
    """Connect to a host and read it; what is returned can be sent to another process."""
    uri = near_uri(spec.uri) if spec.near else spec.uri
    try:
        with Member(spec.name, uri, lambda: spec.around, readonly=spec.readonly) as member:
            read = READINGS[spec.what](member, spec.folders)
            if not spec.near:
                return Answer(read=read)
            return Answer(read=_of_another_machine(read), machine=member.machine())
    except VmsnapError as error:
        return Answer(problem=error)


def near_uri(uri: str) -> str:
    """Return the URI by which a libvirt is reached on its own machine.

    Examples
    --------
    >>> near_uri("qemu+ssh://root@box:2222/system?keyfile=/k"), near_uri("test:///default")
    ('qemu:///system', 'test:///default')
    """
    parts = urlsplit(uri)
    return f"{parts.scheme.partition('+')[0]}://{parts.path}"


def _of_another_machine(read: Any) -> Any:
    """Return it for another machine, where nobody may take its paths for those of files there."""
    if not isinstance(read, Seen):
        return read
    opened = [image for image in read.forest if image.known_from == "file"]
    put = (Image.build({**vars(image), "known_from": "worker"}) for image in opened)
    return replace(read, forest=read.forest.edited(put=put))
