"""What a plan reads: each thing once, so that all of it is of one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.reading import folder_facts
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.survey import Survey

pytestmark = pytest.mark.system

VERBS: dict[str, Callable[[Guest], LivePlan]] = {
    "commit": lambda guest: guest.commit(),
    "revert": lambda guest: guest.revert("first"),
    "revert, keep nothing": lambda guest: guest.revert("first", keep_current=False),
    "delete": lambda guest: guest.delete_snapshot("first"),
    "snapshot": lambda guest: guest.snapshot(),
    "external snapshot": lambda guest: guest.snapshot(kind="external-disk"),
    "save": lambda guest: guest.save(),
    "restore": lambda guest: guest.restore(),
    "delete with children": lambda guest: guest.delete_snapshot("first", children="also"),
}
LISTS = {
    0: "guests",
    library().VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT: "guests with checkpoints",
    library().VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT: "guests with snapshots",
    library().VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE: "saved guests",
    library().VIR_CONNECT_LIST_DOMAINS_PERSISTENT: "persistent guests",
}
ONCE = {*LISTS.values(), "states", "records", "definition", "forest"}


@pytest.fixture(scope="module")
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """A guest with two snapshots; nothing in it is written, so it needs not boot."""
    guest = lab.guest("read-once", backing=base)
    for name in ("first", "second"):
        guest.snapshot(name, kind="external-disk").run(progress=False)
    yield guest
    guest.destroy()


@pytest.fixture
def counts(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each thing is read, from now on."""
    libvirt, counted = library(), Counter[str]()

    def count(cls: type, method: str, name: Callable[..., str | None]) -> None:
        real = getattr(cls, method)

        def call(self: object, *arguments: object, **options: object) -> object:
            counted.update(filter(None, [name(self, *arguments)]))
            return real(self, *arguments, **options)

        monkeypatch.setattr(cls, method, call)

    def is_own(domain: Any) -> bool:
        return bool(domain.UUIDString() == guest.uuid)

    def definition(domain: object, flags: int = 0) -> str | None:
        if not is_own(domain):
            return None
        return "next definition" if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else "definition"

    count(libvirt.virConnect, "listAllDomains", lambda _, flags=0: LISTS[flags])
    count(libvirt.virConnect, "getAllDomainStats", lambda *_: "states")
    count(libvirt.virDomain, "listAllSnapshots", lambda domain, *_: "records" if is_own(domain) else None)
    count(libvirt.virDomain, "XMLDesc", definition)
    count(Survey, "read", lambda *_: "forest")
    return counted


@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_for_a_guest_that_is_off_reads_everything_once(guest: Guest, counts: Counter[str], verb: str) -> None:
    plan = VERBS[verb](guest)
    assert plan.steps
    assert counts == dict.fromkeys(ONCE, 1)


@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_for_a_guest_that_runs_reads_both_its_definitions_once(
    guest: Guest, counts: Counter[str], verb: str
) -> None:
    if not guest.running:
        guest.handle.domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)
        counts.clear()
    plan = VERBS[verb](guest)
    assert plan.steps
    assert counts == dict.fromkeys({*ONCE, "next definition"}, 1)


def test_of_a_folder_it_is_known_whether_others_can_replace_files_in_it(tmp_path: Path) -> None:
    assert folder_facts([str(tmp_path / "new")]).shared == {}
    tmp_path.chmod(0o777)
    assert folder_facts([str(tmp_path / "new")]).shared == {str(tmp_path): str(tmp_path)}
    tmp_path.chmod(0o1777)
    assert folder_facts([str(tmp_path / "new")]).shared == {}


def test_a_folder_that_may_not_be_listed_is_not_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").touch()
    assert folder_facts((), [str(tmp_path)]).taken == {str(tmp_path / "there")}

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.listdir", refuse)
    facts = folder_facts([str(tmp_path / "there")], [str(tmp_path)])
    assert (facts.taken, facts.closed) == ({str(tmp_path / "there")}, {})
    assert facts.free.keys() == {str(tmp_path)}
