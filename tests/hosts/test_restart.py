"""libvirt is restarted in the middle of a plan, as by an update of its package, is killed, or hangs: QEMU goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.content import content
from support.faulty import faulty
from support.hosts import IMAGES, SystemLibvirt, define, file_disk
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import LibvirtError
from vmsnap_nb.live import connection as live_connection
from vmsnap_nb.system.libvirt import connection as connections

pytestmark = pytest.mark.hosts


@pytest.mark.parametrize("verb", ["commit", "pull"])
def test_in_the_middle_of_a_merge(system: SystemLibvirt, connection: Any, verb: str) -> None:
    create(IMAGES / "base.qcow2", size=64 * MIB)
    middle = create(IMAGES / "middle.qcow2", "base.qcow2")
    write(middle, "write -q -P 2 0 32M")
    top = create(IMAGES / "top.qcow2", "middle.qcow2")
    write(top, "write -q -P 3 1M 2M")
    before = content(top)
    define(connection, "demo", file_disk(top), running=True)
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        slow = {"base": "base", "bandwidth": 16 * MIB}
        plan = guest.commit(top="middle", **slow) if verb == "commit" else guest.pull(**slow)  # type: ignore[arg-type]
        job = plan.start()
        while job.running and not job.progress.done:
            time.sleep(0.01)
        system.restart()
        with pytest.raises(LibvirtError) as raised:
            job.wait(60)
    assert "ended" not in str(raised.value)
    assert "libvirt is running there" in str(raised.value)
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        assert guest.running
        deadline = time.monotonic() + 60
        while (left := guest.unfinished()) and time.monotonic() < deadline:
            with contextlib.suppress(LibvirtError):
                assert left[0].run(progress=False).as_predicted
        assert left == ()
        assert [image.name for image in guest.chain()] == ["base", "top"]
        assert guest.concerns() == ()
        guest.destroy()
    assert content(top) == before


@pytest.mark.parametrize("top", ["top", "middle"])
def test_libvirt_that_is_killed_before_it_says_whether_a_commit_began(
    system: SystemLibvirt, connection: Any, top: str
) -> None:
    """QEMU begins it all the same, when nobody of us or of libvirt knows; so the journal must."""
    create(IMAGES / "base.qcow2", size=16 * MIB)
    create(IMAGES / "middle.qcow2", "base.qcow2")
    write(IMAGES / "middle.qcow2", "write -q -P 2 0 2M")
    last = create(IMAGES / "top.qcow2", "middle.qcow2")
    write(last, "write -q -P 3 1M 2M")
    before = content(last)
    define(connection, "demo", file_disk(last), running=True)
    qemu, daemon = (
        int(path.read_text()) for path in (Path("/run/libvirt/qemu/demo.pid"), system.folder / "libvirtd.pid")
    )

    def perform_and_kill(step: Any, perform: Callable[[Any], Any]) -> Any:
        os.kill(qemu, signal.SIGSTOP)
        threading.Timer(1.0, lambda: os.kill(daemon, signal.SIGKILL)).start()
        try:
            return perform(step)
        finally:
            os.kill(qemu, signal.SIGCONT)

    with vs.connect("qemu:///system") as host:
        with pytest.raises(LibvirtError):
            faulty(host.guest("demo").commit(top=top, base="base"), "LiveCommit", perform_and_kill).run(progress=False)
        system.restart()
        assert [path.name for path in IMAGES.glob(".vmsnap-merge*")]
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        for force in (False, True):
            if force:
                guest.destroy()
            deadline = time.monotonic() + 20
            while (ready := [plan for plan in guest.unfinished() if not plan.refused]) and time.monotonic() < deadline:
                with contextlib.suppress(LibvirtError):
                    assert ready[0].run(progress=False).as_predicted
        assert guest.unfinished() == ()
        assert guest.concerns() == ()
        assert content(guest.chain().top or "") == before


def test_limits_of_time_hold_while_libvirt_hangs(
    system: SystemLibvirt, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(IMAGES / "top.qcow2", size=MIB)
    define(connection, "demo", file_disk(IMAGES / "top.qcow2"), running=True).resume()
    daemon = int((system.folder / "libvirtd.pid").read_text())
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        monkeypatch.setattr(connections, "_SECONDS", 1)  # instead of 15
        asks: list[Callable[[], object]] = [
            lambda: guest.shutdown(timeout=1),
            lambda: guest.execute("true", timeout=1),
            lambda: guest.wait_ready(timeout=1),
            lambda: guest.start(timeout=1),
            lambda: vs.connect("qemu:///system"),
        ]
        # Those without a limit of their own have one all the same.
        monkeypatch.setattr(live_connection, "_SECONDS_TO_ANSWER", 1.0)  # instead of 15
        monkeypatch.setattr(live_connection, "_TRUSTED", 0.0)
        asks += [
            *(lambda: guest.state, guest.unfinished, guest.snapshots, guest.chain, guest.concerns, guest.xml),
            *(guest.console, guest.destroy, guest.suspend, lambda: guest.snapshot("a"), lambda: guest.restore("/x")),
            *(host.domains, host.survey, lambda: host.guest("demo")),
        ]
        os.kill(daemon, signal.SIGSTOP)
        try:
            for ask in asks:
                began = time.monotonic()
                with pytest.raises(LibvirtError, match="libvirt did not respond within 1") as raised:
                    ask()
                assert raised.value.next_step
                assert time.monotonic() - began < 1.8
            assert repr(guest) == "<Guest demo: unknown>"
        finally:
            os.kill(daemon, signal.SIGCONT)
        assert guest.state == "running"
        guest.destroy()
