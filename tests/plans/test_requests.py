"""Every request decides by what was read alone: it opens nothing, starts nothing, and asks libvirt nothing."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from typing import Any

import pytest
from support.forests import forest, image
from support.readings import reading

import vmsnap_nb.plans
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.journal import InsideEntry, MergeEntry, PullEntry, RecordEntry, RevertEntry, SnapshotEntry, Switch
from vmsnap_nb.plans.leftovers.request import LeftoversRequest
from vmsnap_nb.plans.merge.finish_snapshot import FinishSnapshotRequest
from vmsnap_nb.plans.merge.held_layers import CorrectRequest, SaveDeletedRequest
from vmsnap_nb.plans.merge.request import (
    CleanupRequest,
    CommitRequest,
    FinishPullRequest,
    FinishRequest,
    PullRequest,
    RemoveRequest,
    ShortenRequest,
)
from vmsnap_nb.plans.overlay.request import GuestsRequest, OverlayRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.repair.guestless import ForgetEntryRequest
from vmsnap_nb.plans.repair.internal_snapshots import FinishInsideRequest
from vmsnap_nb.plans.repair.request import RepairRequest
from vmsnap_nb.plans.request import Reading, Request
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.save.request import RestoreRequest, SaveRequest
from vmsnap_nb.plans.snapshot.lost_record import RestoreRecordRequest
from vmsnap_nb.plans.snapshot.request import ReconcileRequest, SnapshotRequest
from vmsnap_nb.plans.step import GuestRef

REF = GuestRef("demo", "u-1", "qemu:///system")
DISK = Disk(target="vda", source="/i/top", format="qcow2")


def record(name: str, below: str, above: str, *, parent: str | None = None, current: bool = False) -> SnapshotRecord:
    disk = SnapshotDisk("vda", "external", below, above)
    return SnapshotRecord("demo", name, "shutoff", parent=parent, current=current, disks=(disk,))


def machine(state: Any = "shut off") -> Reading:
    """A guest on base <- middle <- top with a snapshot of each moment, and an invalid image beside them."""
    domain = Domain(name="demo", uuid="u-1", state=state, disks=(DISK,))
    tree = forest(
        image("base"),
        image("middle", "base"),
        image("top", "middle", held="write" if state == "running" else ""),
        image("old", "base", status="invalid"),
        uses=domain.uses,
    ).edited(records=(record("first", "/i/base", "/i/middle"), record("second", "/i/middle", "/i/top", parent="first")))
    return reading(tree, domain, uri=REF.uri)


MERGED = MergeEntry(base="/i/base", top="/i/middle", merged=("/i/middle",), children=("/i/top",))
PULLED = PullEntry(image="/i/top", written="/i/middle", format="qcow2", base=None)

REQUESTS: dict[str, Request] = {
    "overlay": OverlayRequest(paths=("/i/new",), backing="/i/base"),
    "guests": GuestsRequest(disks={"new": "/i/new"}, xml={"new": "<domain/>"}, backing="/i/base"),
    "snapshot": SnapshotRequest(guest=REF),
    "reconcile": ReconcileRequest(),
    "save": SaveRequest(path="/i/memory"),
    "restore": RestoreRequest(),
    "revert": RevertRequest(guest=REF, name="first"),
    "revert, keep nothing": RevertRequest(guest=REF, name="first", keep_current=False),
    "delete": DeleteRequest(guest=REF, name="first"),
    "commit": CommitRequest(top="middle", base="base"),
    "commit of a guest": CommitRequest(guest="demo"),
    "pull": PullRequest(into="top"),
    "pull of a guest": PullRequest(guest="demo"),
    "remove": RemoveRequest(top="middle"),
    "shorten": ShortenRequest(top="top", keep=1),
    "shorten of a guest": ShortenRequest(guest="demo", keep=1),
    "cleanup": CleanupRequest(),
    "remove leftovers": LeftoversRequest(paths=("/i/old",)),
    "move leftovers": LeftoversRequest(paths=("/i/old",), folder="/j", uri="test:///default"),
    "repair": RepairRequest(image="top", path="/i/copy.qcow2"),
    "finish a change inside": FinishInsideRequest(
        entry=InsideEntry(image="/i/top", name="s", change="create", table=65536)
    ),
    "forget an entry": ForgetEntryRequest(
        entry=RevertEntry(folder="/i", guest="gone", uuid="0c0c", name="first", to="off")
    ),
    "restore a record": RestoreRecordRequest(
        guest=REF,
        entry=RecordEntry(folder="/i", guest="demo", uuid="0c0c", name="a", xml="<domainsnapshot/>"),
        record=SnapshotRecord("demo", "a"),
    ),
    "finish a snapshot": FinishSnapshotRequest(
        guest="demo",
        entry=SnapshotEntry(
            guest="demo", uuid="u-1", name="s", disks=(Switch(target="vda", source="/i/top", file="/i/over"),)
        ),
    ),
    "correct": CorrectRequest(guest="demo", disk="vda"),
    "commit what is deleted": SaveDeletedRequest(guest="demo", disk="vda"),
    "finish": FinishRequest(entry=MERGED),
    "finish of a guest": FinishRequest(guest="demo", disk="vda", entry=MERGED),
    "finish a pull": FinishPullRequest(guest="demo", disk="vda", entry=PULLED),
}


def kinds() -> set[type]:
    """All classes of requests in `plans`."""
    found: set[type] = set()
    for module in pkgutil.walk_packages(vmsnap_nb.plans.__path__, "vmsnap_nb.plans."):
        for value in vars(importlib.import_module(module.name)).values():
            wanted = inspect.isclass(value) and is_dataclass(value) and hasattr(value, "needs")
            if wanted and hasattr(value, "plan") and not value.__name__.startswith("_"):
                found.add(value)
    return found


FORBIDDEN = (
    "open",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.listdir",
    "os.scandir",
    "socket.",
)
_heard: list[list[str]] = []
"""Where what happens is written down, while somebody watches."""


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _heard and threading.current_thread() is threading.main_thread() and event.startswith(FORBIDDEN):
        _heard[-1].append(f"{event} {arguments!r:.200}")


sys.addaudithook(_hear)


@contextmanager
def nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no file be opened or looked at, no process be started, and no call of libvirt's library be made."""

    def refuse(name: str) -> Callable[..., object]:
        def call(*arguments: object, **_: object) -> object:
            raise AssertionError(f"{name}{arguments!r:.200}")

        return call

    with monkeypatch.context() as patch:
        for name in ("stat", "lstat", "access", "readlink", "open", "statvfs"):
            patch.setattr(os, name, refuse(name))
        patch.setitem(sys.modules, "libvirt", None)
        heard: list[str] = []
        _heard.append(heard)
        try:
            yield
        finally:
            _heard.remove(heard)
    assert heard == []


def test_every_kind_of_request_is_tried() -> None:
    from vmsnap_nb.plans.merge.request import MergeRequest

    assert kinds() - {MergeRequest} == {type(request) for request in REQUESTS.values()}


@pytest.mark.parametrize("state", ["shut off", "running"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_reads_nothing(name: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request, now = REQUESTS[name], machine(state)
    if "finish a pull" in name and state == "running":
        now = replace(now, entries=(PULLED,))
    plan = request.plan(now)  # whatever is loaded when it is first needed
    with nothing_is_touched(monkeypatch):
        request.needs(now.forest)
        again = request.plan(now)
    assert isinstance(again, Plan)
    assert again.steps == plan.steps


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_a_frozen_value(name: str) -> None:
    request = REQUESTS[name]
    assert replace(request) == request  # type: ignore[type-var]
    with pytest.raises(AttributeError):
        request.disk = "vdb"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_needed_is_asked_of_any_forest(name: str) -> None:
    REQUESTS[name].needs(Forest())


def test_the_guard_notices_what_is_opened() -> None:
    with pytest.MonkeyPatch.context() as patch:
        with pytest.raises(AssertionError), nothing_is_touched(patch):
            open("/dev/null").close()
        with pytest.raises(AssertionError), nothing_is_touched(patch):
            os.path.getsize("/")
