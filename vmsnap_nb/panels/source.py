"""What a panel is about: a guest, a host or a forest of images, read again and again."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.journal_notices import Begun, begun
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.snapshot_lists import snapshot_list_in
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.snapshot import SnapshotList
from vmsnap_nb.plans.journal import MergeEntry

__all__ = ["Reading", "Source", "Subject", "own_images"]

Subject = Guest | Host | LiveForest


@dataclass(frozen=True)
class Reading:
    """All that a panel shows, read at one time."""

    forest: LiveForest  # everything, for plans
    shown: Forest  # the part that the panel is about
    snapshots: SnapshotList | None = None  # where the panel is about a guest
    domains: tuple[Domain, ...] = ()  # the guests of the host
    begun: tuple[Begun, ...] = ()  # what is going on, or was not completed

    def differs(self, other: Reading | None) -> bool:
        """Return whether there is anything new to show; the time of reading is nothing new."""
        return other is None or (
            self.shown.images != other.shown.images
            or self.shown.uses != other.shown.uses
            or self.shown.records != other.shown.records
            or _timeless(self.snapshots) != _timeless(other.snapshots)
            or self.domains != other.domains
            or self.begun != other.begun
        )


def _timeless(snapshots: SnapshotList | None) -> SnapshotList | None:
    return None if snapshots is None else replace(snapshots, read_at=None)


def own_images(forest: Forest, guest: str) -> frozenset[str]:
    """Return what concerns a guest: what it needs, the layers below, and overlays on them that no other needs."""
    needed = [(use.guest, use.path) for use in forest.uses] + [
        (need.guest, need.path) for need in forest.needs if need.guest
    ]
    named = [(name, forest.same_file(path)[0]) for name, path in needed if path in forest.images]
    others = {path for name, path in named if name != guest}
    found: set[str] = set()
    for path in {path for name, path in named if name == guest}:
        for layer in forest.known_lineage(path):
            above = forest.descendants(layer)
            found.update([layer] if others.intersection(above) else [layer, *above])
    return frozenset(found)


class Source:
    """Reads what a panel is about."""

    def __init__(self, subject: Subject) -> None:
        self.guest = subject if isinstance(subject, Guest) else None
        self.host = subject.host if isinstance(subject, Guest) else subject if isinstance(subject, Host) else None
        self._forest = subject if isinstance(subject, LiveForest) else None

    def read(self) -> Reading:
        """Read all of it; of images, only what has changed is opened."""
        with nullcontext() if self.host is None else self.host.link.one_pass():
            self._forest = self._survey() if self._forest is None else self._forest.refresh()
            return self._about(self._forest)

    def _survey(self) -> LiveForest:
        assert self.host is not None
        return self.host.survey()

    def _about(self, forest: LiveForest) -> Reading:
        """Return what is shown of the images, with what is known of the guests."""
        if self.guest is None:
            domains = self.host.domains() if self.host else ()
            return Reading(forest=forest, shown=forest, domains=domains, begun=tuple(begun(forest)))
        facts = self.guest.handle.facts()
        domain = facts.domain
        paths = [disk.source for disk in domain.disks if disk.source and disk.source in forest.images]
        return Reading(
            forest=forest,
            shown=forest.tree(*paths),
            snapshots=snapshot_list_in(forest, self.guest.handle, facts),
            domains=(domain,),
            begun=tuple(begun(forest, domain.name)),
        )

    @property
    def host_called(self) -> str:
        """What the code in a cell calls the host: ``lab`` or ``host``."""
        return "lab" if hasattr(self.host, "plan_guests") else "host"

    @property
    def forest_called(self) -> str:
        """What the code in a cell calls all images."""
        return "forest" if self.host is None else f"{self.host_called}.survey()"

    @property
    def called(self) -> str:
        """What the code in a cell calls that of which plans are asked: the guest, or all images."""
        return self.forest_called if self.guest is None else self.guest_called(self.guest)

    def guest_called(self, guest: Guest) -> str:
        """Return what the code in a cell calls a guest of the host."""
        return f"{self.host_called}.guest({guest.name!r})"

    def unfinished(self) -> tuple[LivePlan, ...]:
        """Return the plans that finish what was cut short; a merge of a guest is finished by that guest."""
        if self.guest is not None:
            return self.guest.unfinished()
        plans = self.read().forest.unfinished()
        known = {domain.name for domain in self.host.domains()} if self.host is not None else set()
        of_guests = dict.fromkeys(name for plan in plans if (name := _guest_of(plan)) in known)
        of_images = (plan for plan in plans if _guest_of(plan) not in known)
        return (*of_images, *(plan for name in of_guests for plan in self._guest(name).unfinished()))

    def _guest(self, name: str) -> Guest:
        assert self.host is not None
        return self.host.guest(name)


def _guest_of(plan: LivePlan) -> str:
    """Return the guest whose merge a plan finishes; empty for one of images alone."""
    entry = getattr(plan.request, "entry", None)
    return entry.guest if isinstance(entry, MergeEntry) else ""
