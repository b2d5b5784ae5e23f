"""A guest that is paused, and whose memory QEMU has written since: it keeps some things until the guest runs again."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from support.hosts import IMAGES, define, file_disk, qemu_img

import vmsnap_nb as vs
from vmsnap_nb.errors import GuestError, PlanRefusedError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts


def paused(connection: Any, *snapshots: str) -> Guest:
    """Return a guest that is paused at its start, with a chain."""
    qemu_img("create", "-q", "-f", "qcow2", "d.qcow2", "8M")
    domain = define(connection, "g", file_disk(IMAGES / "d.qcow2"))
    guest = vs.connect("qemu:///system").guest("g")
    for name in snapshots:
        assert guest.snapshot(name, kind="external-disk").run(progress=False).as_predicted
    domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)
    return guest


def follow(remedy: str) -> None:
    """Do what a remedy says first."""
    command = remedy.partition(": ")[2].partition(". ")[0]
    for one in command.split(" && "):
        subprocess.run(shlex.split(one), check=True, capture_output=True)


def only_refusal(plan: LivePlan) -> Any:
    [refusal] = [one for one in plan.concerns if one.level == "refuse"]
    return refusal


def test_what_qemu_refuses_after_a_checkpoint_of_a_paused_guest_is_refused_before(connection: Any) -> None:
    guest = paused(connection, "s1", "s2")
    assert guest.snapshot("c", kind="external-checkpoint").run(progress=False).as_predicted
    assert guest.state == "paused"
    wanted: dict[str, Callable[[], LivePlan]] = {
        "save": guest.save,
        "keep": lambda: guest.revert("s1"),
        "again": lambda: guest.snapshot("d", kind="external-checkpoint"),
        "lower": lambda: guest.commit(top="d.s1", base="d"),
        "top": guest.commit,
    }
    for name, plan in wanted.items():
        assert "resume g for a moment" in only_refusal(plan()).remedy, name
    with pytest.raises(library().libvirtError, match="paused due to previous migration"):
        connection.lookupByName("g").save(str(IMAGES / "not-written"))
    with pytest.raises(GuestError, match="Block node is read-only"):
        wanted["lower"]().run(progress=False, waive="not-supported")
    opened_since = (  # these write only to images that were opened since
        lambda: guest.pull(base="d.s1"),
        lambda: guest.snapshot("x", kind="external-disk"),
        lambda: guest.snapshot("i", kind="internal-checkpoint"),
    )
    for allowed in opened_since:
        assert allowed().run(progress=False).as_predicted
    follow(only_refusal(wanted["again"]()).remedy)
    assert wanted["again"]().run(progress=False).as_predicted


def test_a_dump_of_a_paused_guest_keeps_qemu_from_its_own_image(connection: Any) -> None:
    guest = paused(connection, "s1")
    connection.lookupByName("g").coreDump("/var/lib/libvirt/images/core", 0)
    plan = guest.pull()
    assert only_refusal(plan).waivable
    with pytest.raises(PlanRefusedError, match="was saved while the guest was paused"):
        plan.run(progress=False)
    follow(only_refusal(plan).remedy)
    assert guest.pull().run(progress=False).as_predicted
