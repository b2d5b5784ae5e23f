"""Plans of merges without a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from support.readings import NOTHING, identified, maps, reading, recorded
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.merge.request import (
    CleanupRequest,
    CommitRequest,
    FinishRequest,
    PullRequest,
    RemoveRequest,
    ShortenRequest,
)
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading

FACTS = maps(RootBase=tuple(range(8)), Snap_1=(0, 1), Snap_2=(1, 2), Snap_3=(2, 3), Snap_4=(3, 4))


def commit(
    tree: Forest,
    top: str,
    base: str | None = None,
    *,
    remove: bool = False,
    verify: bool = False,
    facts: Reading = NOTHING,
) -> Plan:
    request = CommitRequest(top=top, base=base, remove=remove, verify=verify)
    return request.plan(replace(facts, forest=tree))


def pull(tree: Forest, image: str, base: str | None = None, *, remove: bool = False, facts: Reading = NOTHING) -> Plan:
    return PullRequest(into=image, base=base, remove=remove).plan(replace(facts, forest=tree))


def remove(tree: Forest, image: str, *, method: Literal[1, 2] | None = None, facts: Reading = NOTHING) -> Plan:
    return RemoveRequest(top=image, method=method).plan(replace(facts, forest=tree))


def shorten(
    tree: Forest,
    image: str,
    *,
    keep: int | tuple[str, ...],
    top_may_go: bool = False,
    facts: Reading = NOTHING,
) -> Plan:
    return ShortenRequest(top=image, keep=keep, top_may_go=top_may_go).plan(replace(facts, forest=tree))


def finish(tree: Forest, entry: MergeEntry, *, facts: Reading = NOTHING) -> Plan:
    tree = identified(tree)
    return FinishRequest(entry=recorded(tree, entry)).plan(replace(facts, forest=tree))


def cleanup(tree: Forest) -> Plan:
    return CleanupRequest().plan(reading(tree))


def parents(plan: Plan) -> dict[str, str | None]:
    return {
        one.name: None if one.backing is None else one.backing.key.removeprefix("/i/")
        for one in plan.after
        if one.status == "ok"
    }
