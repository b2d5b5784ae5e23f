"""What AppArmor would deny a block job: foreseen from the rules that libvirt's own helper makes for a running guest.

No kernel with AppArmor is needed: what libvirt says of its drivers, and where the rules lie, is put in its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.apparmor import real_rules
from support.guests import discard
from support.labs import start_paused

from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live import reading
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.system.libvirt import security

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def guest(lab: Lab, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    guest = lab.guest("confined", backing=base)
    guest.snapshot("one", kind="external-disk", metadata=False).run(progress=False)
    monkeypatch.setattr(security, "RULES", str(tmp_path))
    monkeypatch.setattr(reading, "secmodels", lambda _: ("apparmor", "dac"))
    rules(tmp_path, guest).write_text(real_rules(guest.uuid, guest.chain().top))
    start_paused(guest)
    yield guest
    guest.destroy()
    discard(guest)


def rules(folder: Path, guest: Guest) -> Path:
    return folder / f"libvirt-{guest.uuid}.files"


def denials(plan: Plan) -> list[str]:
    return [one.what for one in plan.concerns if one.name == "no-permission" and one.level == "refuse"]


def test_a_block_job_that_apparmor_would_deny(guest: Guest, tmp_path: Path) -> None:
    chain = [image.path for image in guest.chain()]
    plan = guest.commit(base=chain[1])
    (what,) = denials(plan)
    assert chain[1] in what
    remedy = next(one.remedy for one in plan.concerns if one.name == "no-permission")
    assert "pull" in remedy
    assert "shut" in remedy
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    # The ways that work: an image that was written to since the start, a pull, and qemu-img with the guest off.
    assert denials(guest.pull(base=chain[0])) == []
    guest.snapshot("two", kind="external-disk", metadata=False).run(progress=False)
    assert denials(guest.commit(base=guest.chain()[2])) == []
    assert denials(guest.commit(top=guest.chain()[2], base=chain[1])) != []
    guest.destroy()
    assert denials(guest.commit(base=chain[1])) == []


def test_rules_that_are_not_known(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = guest.chain()[1].path
    rules(tmp_path, guest).unlink()
    assert denials(guest.commit(base=base)) == []  # it has no profile
    os.mkfifo(rules(tmp_path, guest))
    (what,) = denials(guest.commit(base=base))
    assert "cannot be read" in what
    monkeypatch.setattr(reading, "secmodels", lambda _: ("selinux", "dac"))
    assert denials(guest.commit(base=base)) == []
    monkeypatch.setattr(reading, "secmodels", lambda _: ("apparmor",))
    monkeypatch.setattr(reading, "unconfined", lambda *_: True)
    assert denials(guest.commit(base=base)) == []


def test_the_drivers_of_a_real_libvirt(lab: Lab) -> None:
    asked = []

    class Connection:
        def getCapabilities(self) -> str:  # noqa: N802 - libvirt's name
            asked.append(1)
            return str(lab.connection.getCapabilities())

    connection = Connection()
    assert security.secmodels(connection) == security.secmodels(connection) == security.secmodels(lab.connection)
    assert len(asked) == 1, "they do not change while it is connected"
