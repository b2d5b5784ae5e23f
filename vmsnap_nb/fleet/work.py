"""What is read of one host of a fleet: in a thread of this process, or in another process that connects by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmsnap_nb.fleet.member import Member
from vmsnap_nb.fleet.shared import Around, Seen
from vmsnap_nb.live.host_chapter import host_chapter
from vmsnap_nb.live.space import read_space
from vmsnap_nb.model.guest import Domains
from vmsnap_nb.views.whole_page import Chapter

__all__ = ["READINGS", "Spec", "elsewhere"]

Folders = tuple[str, ...]


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


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All that another process needs to read one host."""

    name: str
    uri: str
    readonly: bool
    what: str
    folders: Folders
    around: Around


def elsewhere(spec: Spec) -> Any:
    """Connect to a host and read it; what is returned can be sent to another process."""
    with Member(spec.name, spec.uri, lambda: spec.around, readonly=spec.readonly) as member:
        return READINGS[spec.what](member, spec.folders)
