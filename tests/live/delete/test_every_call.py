"""A deletion that ends at any call of libvirt that changes something: the records of other snapshots stay whole."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from support.content import content
from support.faulty import perform
from support.guests import discard
from support.images import MIB, create, write

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan

pytestmark = pytest.mark.system

CALLS = (
    (libvirt.virDomain, "snapshotCreateXML"),
    (libvirt.virDomainSnapshot, "delete"),
    (libvirt.virConnect, "defineXML"),
)
_NUMBER = itertools.count()


class Killed(BaseException):
    """The process ends here: nothing of it handles that."""


@pytest.fixture(params=["commit", "pull"])
def guest(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guest]:
    base = create(tmp_path / "Base.qcow2", size=16 * MIB)
    one = lab.guest(f"calls{next(_NUMBER)}", backing=base, boot="disk", protect=False)
    for number, name in enumerate("abc", start=1):
        one.snapshot(name, kind="external-disk").run(progress=False)
        size = "256k" if (name == "a") == (request.param == "commit") else "64k"
        write(Path(one.chain().top), f"write -q -P {number} {number}M {size}")
    assert f"b: {request.param}" in one.delete_snapshot("b").way
    yield one
    for plan in one.unfinished():
        plan.run(progress=False)
    discard(one)


def fault(monkeypatch: pytest.MonkeyPatch, number: int, how: str) -> list[int]:
    """Let the call of that number fail, or be the last one; the list that is returned counts the calls."""
    count = [0]

    def faulty(real: Any) -> Any:
        def call(self: Any, *arguments: Any) -> Any:
            count[0] += 1
            if count[0] != number:
                return real(self, *arguments)
            if how == "fails":
                raise libvirt.libvirtError("Input/output error")
            if how == "is lost":  # done, and libvirt says that it was not
                real(self, *arguments)
                raise libvirt.libvirtError("Input/output error")
            if how == "is the last":
                real(self, *arguments)
            raise Killed

        return call

    for cls, name in CALLS:
        monkeypatch.setattr(cls, name, faulty(getattr(cls, name)))
    return count


def whole(guest: Guest) -> dict[str, tuple[int, str]]:
    """Of each record how many devices its definition has, and the guest's name in it."""
    found = {}
    for row in guest.snapshots().records:
        domain = ET.fromstring(row.xml).find("domain")
        assert domain is not None
        found[row.name] = (len(list(domain.iterfind("devices/*"))), domain.findtext("name", ""))
    return found


def perform_all(plan: LivePlan) -> None:
    for step in plan.steps:
        perform(plan, step)


@pytest.mark.parametrize("how", ["fails", "is lost", "is the last", "does not come"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_records_of_others_stay(guest: Guest, monkeypatch: pytest.MonkeyPatch, number: int, how: str) -> None:
    before, records = content(guest.chain().top), whole(guest)
    plan = guest.delete_snapshot("b")
    with monkeypatch.context() as patched:
        fault(patched, number, how)
        if how in ("fails", "is lost"):
            with pytest.raises(VmsnapError, match="Input/output"):
                plan.run(progress=False)
        else:
            with pytest.raises(Killed):
                perform_all(plan)
    assert {name: it for name, it in whole(guest).items() if name != "b"} == {n: records[n] for n in "ac"}
    assert [step for step in guest.reconcile().steps if getattr(step, "name", "") in ("a", "c")] == []
    for left in guest.unfinished():
        assert left.run(progress=False).as_predicted
    if "b" in guest.snapshots():
        assert guest.delete_snapshot("b").run(progress=False).as_predicted
    assert {row.name: row.status for row in guest.snapshots()} == {"a": "ok", "c": "ok"}
    assert {row.name: row.record.parent for row in guest.snapshots()} == {"a": None, "c": "a"}
    assert whole(guest) == {name: records[name] for name in "ac"}
    assert guest.unfinished() == ()
    assert content(guest.chain().top) == before


def test_these_are_all_calls(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    count = fault(monkeypatch, 99, "fails")
    assert guest.delete_snapshot("b").run(progress=False).as_predicted
    assert count == [3]
