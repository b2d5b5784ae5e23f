"""Storage that hosts share: which folders are the same, and a forest with what other hosts know of its images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import NOT_READ, Image
from vmsnap_nb.model.leftovers import Leftovers
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.concern import Concern, refuse
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.system.libvirt.shared_pools import PoolKey
from vmsnap_nb.words.message import clauses, listed, t

__all__ = ["Around", "Seen", "concerns_of", "in_doubt", "joined_forest"]

Pairs = tuple[tuple[str, str], ...]
_NAMED = 3
"""Images that a sentence names."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read of one host: its images, and its storage pools."""

    forest: Forest
    pools: tuple[PoolKey, ...] = ()

    @cached_property
    def networked(self) -> tuple[str, ...]:
        """Its images at network addresses, which are the same from everywhere."""
        return tuple(path for path in self.forest.images if not path.startswith("/"))

    def cut(self, own: Seen, folders: Iterable[str]) -> Seen:
        """Return of it what concerns images of another host, `own`: no more has to be sent there."""
        pairs = pairs_of(own.pools, self.pools, folders)
        related = _View("", self, pairs, own.forest).related()
        kept = {*related, *_unknown(self.forest)} if pairs else set(related)
        forest = self.forest.only(kept)
        needs = (need for need in self.forest.needs if kept.intersection((need.path, *need.layers)))
        records = (
            record
            for record in self.forest.records
            if any(path in kept for disk in record.held_disks for path in (disk.source, disk.file))
        )
        return replace(self, forest=forest.edited(needs=needs, records=records, stale_memory=()))


@dataclass(frozen=True, kw_only=True)
class Around:
    """What was read of the other hosts of a fleet, and why some of them gave no answer.

    `folders` are shared by all hosts; `known` are the pools of a host without an answer, as they were
    last read.
    """

    folders: tuple[str, ...] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, tuple[PoolKey, ...]] = field(default_factory=dict)

    def cut_for(self, own: Seen) -> Around:
        """Return of it what concerns the images of one host: no more has to be sent there."""
        return replace(self, seen={host: seen.cut(own, self.folders) for host, seen in self.seen.items()})


def pairs_of(own: Iterable[PoolKey], others: Iterable[PoolKey], folders: Iterable[str]) -> Pairs:
    """Return the folders that two hosts share, each by its path on both."""
    found = {(folder, folder): None for folder in folders}
    theirs = tuple(others)
    for mine in own:
        for other in theirs:
            if mine.folder and other.folder and mine.keys & other.keys:
                found[(mine.folder, other.folder)] = None
    return tuple(found)


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is in a folder."""
    return path.startswith(folder.rstrip("/") + "/")


@dataclass(frozen=True)
class _View:
    """The images of another host, by the names that they have on this one."""

    host: str
    seen: Seen
    pairs: Pairs
    own: Forest

    @property
    def forest(self) -> Forest:
        return self.seen.forest

    def is_shared(self, path: str) -> bool:
        """Return whether it is an image of this host, too: in a shared folder, or at a network address."""
        if path.startswith("/"):
            return any(is_in(path, theirs) for _, theirs in self.pairs)
        return path in self.own.images

    def name(self, path: str) -> str:
        """Return what this host calls an image of the other: one that is not shared has the other host before it."""
        if not path.startswith("/"):
            return path
        for mine, theirs in self.pairs:
            if is_in(path, theirs):
                return mine.rstrip("/") + path[len(theirs.rstrip("/")) :]
        return f"{self.host}:{path}"

    def guest(self, guest: str) -> str:
        """Return the name of a guest with its host."""
        return f"{self.host}/{guest}"

    def related(self) -> dict[str, None]:
        """Return the shared images of the other host, with all that they are based on, and all based on them."""
        found: dict[str, None] = {}
        for path in self.forest.images if self.pairs else self.seen.networked:
            if self.is_shared(path):
                for name in (*self.forest.known_lineage(path), path, *self.forest.descendants(path)):
                    found[name] = None
        found.update((use.path, None) for use in self.forest.uses if self.is_shared(use.path))
        return found

    def images(self, related: Iterable[str]) -> Iterator[Image]:
        """Yield the images that this host has not read itself."""
        for path in related:
            image, name = self.forest.images.get(path), self.name(path)
            if image is None or self.own.known(name) is not None:
                continue
            foreign = not name.startswith("/")
            problem = t("it is on host {host}", host=self.host)
            yield replace(
                image,
                path=name,
                backing=self._reference(image.backing),
                status="remote" if foreign else image.status if image.status in NOT_READ else "outside",
                problem=image.problem or problem,
                identity=None,
                held="",
                known_from="definition",
            )

    def _reference(self, backing: Reference | None) -> Reference | None:
        if backing is None or backing.path is None:
            return backing
        name = self.name(backing.path)
        return replace(backing, path=name) if name.startswith("/") else Reference(name, "remote", None, backing.format)

    def uses(self, related: Iterable[str]) -> Iterator[Use]:
        wanted = set(related)
        for use in self.forest.uses:
            if use.path in wanted:
                yield Use(self.guest(use.guest), use.target, self.name(use.path), use.state, readonly=use.readonly)

    def needs(self, related: Iterable[str]) -> Iterator[Need]:
        """Yield what else needs shared images there; snapshots, too, since no plan here changes their records."""
        wanted = set(related)
        for need in self.forest.needs:
            if wanted.intersection((need.path, *need.layers)):
                name = self.name(need.name) if need.name.startswith("/") else need.name
                layers = tuple(map(self.name, need.layers))
                yield replace(need, path=self.name(need.path), guest=self.guest(need.guest), name=name, layers=layers)
        for record in self.forest.records:
            paths = (path for disk in record.held_disks for path in (disk.source, disk.file) if path in wanted and path)
            for path in dict.fromkeys(paths):
                yield Need("snapshot", self.name(path), self.guest(record.guest), record.name)


def joined_forest(own: Seen, around: Around) -> Forest:
    """Return a forest with all that other hosts know of its images: overlays, guests and snapshots there."""
    forest = own.forest
    for host, seen in around.seen.items():
        pairs = pairs_of(own.pools, seen.pools, around.folders)
        view = _View(host, seen, pairs, own.forest)
        related = view.related()
        if related:
            forest = forest.edited(
                put=view.images(related),
                uses=(*forest.uses, *view.uses(related)),
                needs=(*forest.needs, *view.needs(related)),
            )
    return forest


# -- what is not known ---------------------------------------------------------------------------------------------


def concerns_of(plan: Plan, pools: tuple[PoolKey, ...], around: Around) -> Iterator[Concern]:
    """Check that no other host can need what a plan changes, and that it changes nothing there."""
    changed = [path for path in plan.changes if path in plan.before.images]
    for path in dict.fromkeys((*plan.writes, *plan.unlinks, *plan.invalid)):
        host = next((host for host in around.seen if path.startswith(f"{host}:/")), None)
        if host is not None:
            yield refuse(
                "no-permission",
                t("{image} would be changed, but it is on host {host}", image=path, host=host),
                t("change the image on that host first"),
                images=(path,),
            )
    for host, at_risk in _silent(changed, pools, around):
        yield refuse(
            "unknown-image",
            t(
                "host {host} did not respond, and may need {images}, which may be shared with it: {why}",
                host=host,
                images=listed(at_risk[:_NAMED]),
                why=around.problems[host],
            ),
            t("make the host reachable, or waive this if nothing on it needs these images"),
            images=at_risk,
            holders=(host,),
            waivable=True,
        )
    for host, seen in around.seen.items():
        yield from _unread(plan, changed, pools, (host, seen, around.folders))


def _silent(paths: Iterable[str], pools: tuple[PoolKey, ...], around: Around) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the hosts without an answer that may share some of these files, each with these."""
    paths = tuple(paths)
    for host in around.problems:
        known = (mine for mine, _ in pairs_of(pools, around.known.get(host, ()), around.folders))
        folders = (*known, *(pool.folder for pool in pools if pool.network and pool.folder))
        at_risk = tuple(path for path in paths if any(is_in(path, folder) for folder in folders))
        if at_risk:
            yield host, at_risk


def in_doubt(found: Leftovers, pools: tuple[PoolKey, ...], around: Around) -> Leftovers:
    """Return files that nothing needs with a doubt of those that a host without an answer may need."""
    doubts = {one.path: [one.doubt] if one.doubt else [] for one in found}
    for host, paths in _silent(doubts, pools, around):
        doubt = t("host {host} did not respond, and may need this file: {why}", host=host, why=around.problems[host])
        for path in paths:
            doubts[path].insert(0, doubt)
    return replace(found, files=tuple(replace(one, doubt=clauses(doubts[one.path])) for one in found))


def _unread(
    plan: Plan, changed: list[str], pools: tuple[PoolKey, ...], other: tuple[str, Seen, tuple[str, ...]]
) -> Iterator[Concern]:
    """Refuse if an image there has an unknown backing file, which may be one of these."""
    host, seen, folders = other
    pairs = pairs_of(pools, seen.pools, folders)
    at_risk = tuple(path for path in changed if any(is_in(path, mine) for mine, _ in pairs))
    if not at_risk:
        return
    view = _View(host, seen, pairs, plan.before)
    # One that was read here is known.
    unread = [
        path
        for path in _unknown(seen.forest)
        if plan.before.images.get(view.name(path), seen.forest.images[path]).status in NOT_READ
    ]
    if unread:
        yield refuse(
            "unknown-image",
            t(
                "the backing files of {images} on host {host} are unknown, and may be among the images that this "
                "plan changes",
                images=listed(unread[:_NAMED]),
                host=host,
            ),
            t("create a storage pool for the folder on that host, so that libvirt reads the images"),
            images=at_risk,
            holders=(host,),
            waivable=True,
        )


def _unknown(forest: Forest) -> Iterator[str]:
    """Yield the images of a host that may be based on anything: nobody could read them."""
    for path, image in forest.images.items():
        if path.startswith("/") and image.status in NOT_READ and image.backing is None and image.format != "raw":
            yield path
