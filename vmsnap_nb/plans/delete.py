"""Plans that delete snapshots."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.snapshot import Snapshot, SnapshotList
from vmsnap_nb.plans.delete_draft import DeleteDraft, DeleteFacts
from vmsnap_nb.plans.plan import Plan

__all__ = ["Children", "plan_delete"]

Children = Literal[False, "also", "only"]
"""Whether the snapshots that stand on one stay, go with it, or go without it."""


def plan_delete(
    forest: Forest,
    domain: Domain,
    name: str,
    *,
    children: Children = False,
    metadata_only: bool = False,
    facts: DeleteFacts | None = None,
    prefer: Collection[str] = (),
) -> Plan:
    """Plan to delete a snapshot, or those that stand on it, or both.

    Parameters
    ----------
    forest : Forest
        The images, with whatever stands on them, and the guest's snapshot records.
    domain : Domain
        The guest.
    name : str
        The snapshot.
    children : str or False
        ``also``: it and all that stand on it; ``only``: these without it.
    metadata_only : bool
        Whether only libvirt's records go.
    facts : DeleteFacts, optional
        Of the guest and the images.
    prefer : collection of str
        Of `Plan.alternatives` those that were chosen before.

    Returns
    -------
    Plan
        `Plan.alternatives` has both directions of each merge, with the bytes that they copy.

    Raises
    ------
    NotFoundError
        There is no such snapshot.
    InvalidRequestError
        What cannot be meant, as children of a snapshot that has none.
    """
    facts = facts or DeleteFacts()
    tried = f"delete the snapshot {name} of {domain.name}"
    listed = list_snapshots(domain, forest, gone=facts.snapshot.gone)
    rows = _chosen(listed, name, children, tried)
    if metadata_only and listed[name].status == "untracked":
        raise InvalidRequestError(
            tried,
            said="libvirt has no record of it",
            next_step="leave metadata_only out: then it is removed from the image",
        )
    draft = DeleteDraft(forest, domain, rows, facts, prefer)
    if not metadata_only:
        draft.internal()
        draft.external()
    what = {False: name, "also": f"{name} with all that stand on it", "only": f"all that stand on {name}"}[children]
    title = f"delete {'the record of ' if metadata_only else ''}snapshot {what}, of {domain.name}"
    return draft.plan(title)


def _chosen(listed: SnapshotList, name: str, children: Children, tried: str) -> tuple[Snapshot, ...]:
    """Give the snapshots that go, parents first."""
    if children not in (False, "also", "only"):
        raise InvalidRequestError(
            tried, said=f"children={children!r} cannot be meant", next_step="children is False, 'also' or 'only'"
        )
    first = listed[name]
    above = listed.descendants(name) if first.status != "untracked" else ()
    if children == "only" and not above:
        raise InvalidRequestError(tried, said="no snapshot stands on it", next_step="leave children out")
    return {False: (first,), "also": (first, *above), "only": above}[children]
