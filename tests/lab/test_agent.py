"""The QEMU guest agent in the lab's guests: carried along, and file systems frozen and thawed by it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import libvirt
import pytest
from support.refusals import refused

from vmsnap_nb.errors import GuestNotReadyError, ImageError, LibvirtError, MissingPartError
from vmsnap_nb.lab.agent import find_agent
from vmsnap_nb.lab.alpine import find_alpine
from vmsnap_nb.lab.cpio import unpack
from vmsnap_nb.lab.elf import read_needs
from vmsnap_nb.lab.initrd import build_initrd
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.guest import agent as guest_agent
from vmsnap_nb.system.guest.port import COMMAND_PORT
from vmsnap_nb.system.libvirt.domains import channels

TO_AGENT = "for p in /proc/[0-9]*; do grep -q -a '^./ld.so' $p/cmdline && kill -{} ${{p#/proc/}}; done; true"
"""Sends the agent a signal, by the guest's own command line."""


def wait_for_agent(guest: Guest) -> None:
    deadline = time.monotonic() + 60
    while not guest_agent.agent_answers(guest.handle.domain):
        assert time.monotonic() < deadline
        time.sleep(0.2)


# -- the files -----------------------------------------------------------------------------------------------------


@pytest.mark.system
def test_what_a_program_needs_is_what_its_loader_loads() -> None:
    for program in (sys.executable, shutil.which("qemu-img"), shutil.which("sh")):
        assert program is not None
        needs = read_needs(Path(program).read_bytes())
        listed = subprocess.run([needs.loader, "--list", program], capture_output=True, text=True, check=True).stdout
        loaded = {line.split()[0] for line in listed.splitlines()}
        assert needs.libraries
        assert set(needs.libraries) <= loaded
        assert needs.machine == 62


@pytest.mark.system
def test_the_agent_comes_with_all_that_its_loader_asks_for(tmp_path: Path) -> None:
    agent = find_agent()
    for name, data in {"qemu-ga": agent.program, "ld.so": agent.loader, **agent.libraries}.items():
        (tmp_path / name).write_bytes(data)
    loader = tmp_path / "ld.so"
    loader.chmod(0o755)
    listed = subprocess.run(
        [loader, "--library-path", tmp_path, "--list", tmp_path / "qemu-ga"], capture_output=True, text=True, check=True
    ).stdout
    places = {words[0]: words[2] for words in map(str.split, listed.splitlines()) if words[1] == "=>"}
    # Each comes from there, and nothing is there that is not asked for.
    libraries = {name: place for name, place in places.items() if place.startswith(str(tmp_path)) and "/ld" not in name}
    assert set(libraries) == set(agent.libraries)


@pytest.mark.system
def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="qemu-ga is not installed") as none:
        find_agent([tmp_path])
    assert "apt install qemu-guest-agent" in str(none.value)

    real = find_agent().program
    (tmp_path / "qemu-ga").write_bytes(real)
    (tmp_path / "qemu-ga").chmod(0o755)
    with pytest.raises(MissingPartError, match=r"needs the library lib.*which was not found in") as alone:
        find_agent([tmp_path], [tmp_path / "empty"])
    assert "qemu-guest-agent" in (alone.value.next_step or "")

    data = bytearray(real)
    data[18] = 183  # ARM's 64-bit processors
    (tmp_path / "qemu-ga").write_bytes(data)
    with pytest.raises(MissingPartError, match="another processor"):
        find_agent([tmp_path])
    (tmp_path / "qemu-ga").write_text("#!/bin/sh\n")
    with pytest.raises(MissingPartError, match="not an ELF file"):
        find_agent([tmp_path])


def test_a_damaged_program_is_an_error() -> None:
    data = Path(sys.executable).read_bytes()
    end = data.index(b"\0lib")
    for size in (6, 20, 64, 200, end // 2):
        with pytest.raises(ImageError):
            read_needs(data[:size])
    with pytest.raises(ImageError, match="not an ELF file"):
        read_needs(b"")


@pytest.mark.system
def test_without_an_agent_the_initial_file_system_is_as_before() -> None:
    distribution = find_alpine().initrd.read_bytes()
    without = {entry.name: entry.data for entry in unpack(build_initrd(distribution))}
    agent = find_agent()
    with_one = {entry.name: entry.data for entry in unpack(build_initrd(distribution, agent))}
    assert {name: data for name, data in with_one.items() if not name.startswith("boot/agent/")} == {
        **without,
        "boot/agent": b"",
    }
    assert with_one["boot/agent/qemu-ga"] == agent.program
    # What has to be read and unpacked before a guest is ready: it must stay small.
    assert sum(map(len, with_one.values())) < 20 << 20


# -- in a guest ----------------------------------------------------------------------------------------------------


@pytest.mark.guest
def test_frozen_is_frozen_until_the_thaw(first: Guest) -> None:
    wait_for_agent(first)
    domain = first.handle.domain
    assert not guest_agent.is_frozen(domain)
    assert guest_agent.freeze(domain) == 1  # the root disk; what lies in memory cannot be frozen
    try:
        assert guest_agent.is_frozen(domain)
        # The lab's own port goes on, and so does reading.
        assert first.execute("cat /overlay-1; echo hello").stdout.splitlines()[-1] == "hello"
        first.execute("(echo late > /frozen; echo done > /run/new; mv /run/new /run/written) &").check()
        assert first.execute("sleep 2; ls /run/written").exit_status == 1
        with pytest.raises(GuestNotReadyError, match="disabled"):
            guest_agent.run_by_agent(domain, "true", timeout=5)
        with pytest.raises(LibvirtError, match="disabled"):
            guest_agent.freeze(domain)
    finally:
        assert guest_agent.thaw(domain) == 1
    assert not guest_agent.is_frozen(domain)
    waited = "for n in $(seq 300); do [ -e /run/written ] && break; sleep 0.1; done; cat /run/written /frozen"
    assert first.execute(waited).stdout == "done\nlate\n"
    assert guest_agent.thaw(domain) == 0


@pytest.mark.guest
def test_an_agent_that_hangs_is_not_waited_for(first: Guest) -> None:
    wait_for_agent(first)
    first.execute(TO_AGENT.format("STOP")).check()
    try:
        plan = first.snapshot(kind="external-disk", quiesce=True)
        assert refused(plan) == {"no-agent"}
    finally:
        first.execute(TO_AGENT.format("CONT")).check()
    assert refused(first.snapshot(kind="external-disk", quiesce=True)) == set()


@pytest.mark.guest
def test_an_agent_that_is_about_to_start_is_waited_for(first: Guest) -> None:
    wait_for_agent(first)
    first.execute(f"(sleep 1; {TO_AGENT.format('KILL')}) &").check()  # the guest starts it again after a second
    deadline = time.monotonic() + 60
    while channels(first.xml())[guest_agent.AGENT_PORT]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert refused(first.snapshot(kind="external-disk", quiesce=True)) == set()


@pytest.mark.guest
def test_a_port_that_libvirt_has_not_opened_yet_is_waited_for(first: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_agent(first)
    answers, refusals = guest_agent.agent_answers, iter("abc")
    monkeypatch.setattr(guest_agent, "agent_answers", lambda domain: not next(refusals, "") and answers(domain))
    assert refused(first.snapshot(kind="external-disk", quiesce=True)) == set()


@pytest.fixture
def only_agent(lab: Lab, base: Image) -> Guest:
    """A guest whose domain has no port for the lab's own commands."""
    guest = lab.guest("only-agent", backing=base)
    domain = ET.fromstring(guest.xml())
    devices = domain.find("devices")
    assert devices is not None
    for channel in devices.findall("channel"):
        target = channel.find("target")
        if target is not None and target.get("name") == COMMAND_PORT:
            devices.remove(channel)
    lab.connection.defineXML(ET.tostring(domain, encoding="unicode"))
    return guest.start()


@pytest.mark.guest
def test_a_snapshot_of_a_guest_that_was_frozen_for_it(
    lab: Lab, only_agent: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = only_agent
    assert COMMAND_PORT not in channels(guest.xml())
    with pytest.raises(GuestNotReadyError, match="the QEMU guest agent in it does not respond"):
        guest.execute("true")
    wait_for_agent(guest)
    assert guest.wait_ready(timeout=60) is guest
    done = guest.execute("echo out; exit 5")
    assert (done.exit_status, done.stdout) == (5, "out\n")

    # The data is still in the guest's memory when the snapshot is taken; the freeze writes it to the disk.
    guest.execute("(sleep 3; echo in-memory >/unsynced; echo it is written >/dev/console) &").check()
    deadline = time.monotonic() + 60
    while "it is written" not in guest.console():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    below = guest.chain().top
    guest.handle.domain.snapshotCreateXML(
        "<domainsnapshot><name>quiet</name><disks><disk name='vda' snapshot='external'>"
        f"<source file='{lab.root}/images/quiet.qcow2'/></disk></disks></domainsnapshot>",
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE,
    )
    assert not guest_agent.is_frozen(guest.handle.domain)
    assert [layer.name for layer in guest.chain()] == ["RootBase", "only-agent", "quiet"]
    assert guest.execute("echo after >/after; cat /after").stdout == "after\n"

    # The agent is not allowed to shut down; libvirt presses the power button then.
    guest.handle.domain.shutdown()
    while guest.running:
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)

    def none() -> None:
        raise MissingPartError("find an agent")

    monkeypatch.setattr("vmsnap_nb.lab.machine.find_agent", none)
    monkeypatch.setattr(lab._machine, "_boot_files", None)
    without = lab.guest("without-agent", backing=below).start()
    assert without.execute("cat /unsynced; ls /after").stdout == "in-memory\n"
    assert not channels(without.xml())[guest_agent.AGENT_PORT]
    monkeypatch.setattr("vmsnap_nb.live.commands._AGENT_STARTS", 999)  # it does not wait for one that will not come
    plan = without.snapshot(kind="external-disk", quiesce=True)
    assert [concern.name for concern in plan.concerns if concern.level == "refuse"] == ["no-agent"]
    with pytest.raises(GuestNotReadyError, match="freeze the file systems") as refused:
        guest_agent.freeze(without.handle.domain)
    assert "qemu-guest-agent" in (refused.value.next_step or "")
    without.destroy()
    with pytest.raises(GuestNotReadyError, match="freeze the file systems"):
        guest_agent.freeze(without.handle.domain)
    # The files for starting guests are the lab's, and other tests go on with it.
    monkeypatch.undo()
    monkeypatch.setattr(lab._machine, "_boot_files", None)
    lab.plan_guest("another", backing="RootBase")
    assert b"qemu-ga" in (lab.root / "boot" / "initrd").read_bytes()
