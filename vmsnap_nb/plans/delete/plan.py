"""The plan that deletes snapshots of a guest.

The order of the steps: internal snapshots, copying, the records of the snapshots that stay, files, the records of the
snapshots that go, and in the end the merged files with the entries of the merges. So a process that is killed in
between leaves a record behind, or an entry, and the same deletion, or `unfinished`, does what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmsnap_nb.errors import InvalidRequestError, NothingToDoError
from vmsnap_nb.model.snapshot import Snapshot, SnapshotList
from vmsnap_nb.plans.delete.builder import Deletion
from vmsnap_nb.plans.delete.external import delete_external
from vmsnap_nb.plans.delete.internal import delete_internal
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import Message, t

if TYPE_CHECKING:
    from vmsnap_nb.plans.delete.request import DeleteRequest

__all__ = ["plan_delete"]


def plan_delete(reading: Reading, request: DeleteRequest) -> Plan:
    """Plan to delete snapshots; `Plan.alternatives` has both directions of each merge, with the bytes that they copy.

    A NotFoundError says which snapshots there are, an InvalidRequestError what is not possible.
    """
    rows = _chosen(reading.snapshots, request)
    if request.metadata_only and reading.snapshots[request.name].status == "untracked":
        raise InvalidRequestError(
            request.tried,
            why=t("libvirt has no record of it"),
            next_step=t("omit metadata_only, so that the snapshot is removed from the image"),
        )
    deletion = Deletion(reading, rows, request.prefer)
    if not request.metadata_only:
        delete_internal(deletion)
        delete_external(deletion)
    return deletion.plan(_title(request, reading.owner.domain.name))


def _title(request: DeleteRequest, guest: str) -> Message:
    fields = {"name": request.name, "guest": guest}
    if request.children == "also":
        if request.metadata_only:
            return t("delete the records of snapshot {name} of {guest} and of all its descendants", **fields)
        return t("delete snapshot {name} of {guest} and all its descendants", **fields)
    if request.children == "only":
        if request.metadata_only:
            return t("delete the records of all descendants of snapshot {name} of {guest}", **fields)
        return t("delete all descendants of snapshot {name} of {guest}", **fields)
    if request.metadata_only:
        return t("delete the record of snapshot {name} of {guest}", **fields)
    return t("delete snapshot {name} of {guest}", **fields)


def _chosen(listed: SnapshotList, request: DeleteRequest) -> tuple[Snapshot, ...]:
    """Return the snapshots that go, parents first."""
    first = listed[request.name]
    above = listed.descendants(request.name) if first.status != "untracked" else ()
    if request.children == "only" and not above:
        raise NothingToDoError(
            request.tried, why=t("snapshot {name} has no children", name=request.name), next_step=t("omit children")
        )
    return {False: (first,), "also": (first, *above), "only": above}[request.children]
