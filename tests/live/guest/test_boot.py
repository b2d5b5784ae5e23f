"""Guests that boot from their own disk, and commands by the QEMU guest agent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vmsnap_nb.errors import GuestError, GuestNotReadyError, InvalidRequestError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.system.guest import agent as guest_agent

pytestmark = pytest.mark.guest

WORDS = b"booted from its own disk\r\n"

# 16-bit code that a BIOS loads to 0x7c00: writes the words after it to the first serial port, then halts.
CODE = bytes.fromhex(
    "31c0 8ed8"  # xor ax, ax; mov ds, ax
    "be 227c fc"  # mov si, 0x7c22 (the words); cld
    "ac 84c0 7412"  # next: lodsb; test al, al; jz halt
    "88c3 bafd03"  # mov bl, al; mov dx, 0x3fd (the line's state)
    "ec a820 74fb"  # wait: in al, dx; test al, 0x20 (room for a byte); jz wait
    "baf803 88d8 ee ebe9"  # mov dx, 0x3f8; mov al, bl; out dx, al; jmp next
    "f4 ebfd"  # halt: hlt; jmp halt
)


def test_a_disk_that_boots_by_itself(lab: Lab, short: Path) -> None:
    assert len(CODE) == 0x22
    image = short / "boots.img"
    image.write_bytes((CODE + WORDS).ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    base = lab.base("Boots", image=image, format="raw")
    assert (base.format, base.writable, base.virtual_size) == ("raw", False, 512 + (1 << 20))
    guest = lab.guest("by-itself", backing="Boots", memory=32)
    assert "<kernel>" not in guest.xml()
    assert [layer.format for layer in guest.chain()] == ["raw", "qcow2"]
    guest.start()
    deadline = time.monotonic() + 90
    while WORDS.decode().strip() not in guest.console():
        assert time.monotonic() < deadline, guest.console()
        time.sleep(0.1)
    with pytest.raises(GuestNotReadyError, match="the QEMU guest agent"):
        guest.execute("true")
    with pytest.raises(GuestError, match="still running after"):
        guest.shutdown(timeout=1)  # it does not hear the power button
    guest.destroy()
    assert guest.state == "shut off"


def test_the_guest_agent_runs_commands_as_well(first: Guest) -> None:
    domain = first.handle.domain
    deadline = time.monotonic() + 60
    while not guest_agent.agent_answers(domain):
        assert time.monotonic() < deadline
        time.sleep(0.2)

    def run(command: str, timeout: float = 60) -> Completed:
        return guest_agent.run_by_agent(domain, command, timeout=timeout)

    done = run("echo out; echo err >&2; cat; pwd; exit 5")
    assert (done.exit_status, done.stdout, done.stderr) == (5, "out\n/root\n", "err\n")
    assert run("kill -9 $$").exit_status == 137
    assert run("printf 'a\\0b\\377'; sleep 600 &").stdout_bytes == b"a\0b\xff"  # the background goes on
    assert len(run("head -c 300000 /dev/zero").stdout_bytes) == 300_000
    with pytest.raises(GuestError, match="longer than 5 s"):
        run("sleep 321 & sleep 321", timeout=5)
    gone = "for n in $(seq 50); do ps | grep -q '[s]leep 321' || exit 0; sleep 0.1; done; exit 1"
    assert first.execute(gone).exit_status == 0
    assert first.execute("ls -d /tmp/vmsnap-*").stdout == ""
    with pytest.raises(InvalidRequestError):
        run("echo \0")


def test_who_waits_in_vain_hears_the_last_reason(first: Guest) -> None:
    first.handle.domain.suspend()
    try:
        with pytest.raises(GuestNotReadyError, match=r"in time; the last attempt failed: \S.*"):
            first.wait_ready(timeout=3)
    finally:
        first.handle.domain.resume()
    assert first.wait_ready(timeout=90) is first
