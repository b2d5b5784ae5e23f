"""Guests that boot from their own disk, and guests with a QEMU guest agent: images of the user's own."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from vmsnap_nb.errors import GuestError, GuestNotReadyError
from vmsnap_nb.lab.alpine import find_alpine
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.system import guest_agent
from vmsnap_nb.system.libvirt_domains import channels

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
    deadline = time.monotonic() + 30
    while WORDS.decode().strip() not in guest.console():
        assert time.monotonic() < deadline, guest.console()
        time.sleep(0.1)
    with pytest.raises(GuestNotReadyError, match="no QEMU guest agent"):
        guest.execute("true")
    with pytest.raises(GuestError, match="still running after"):
        guest.shutdown(timeout=1)  # it does not hear the power button
    guest.destroy()
    assert guest.state == "shut off"


@pytest.fixture
def with_agent(short: Path) -> Path:
    """A raw image of the Alpine Linux, into which this machine's guest agent was put with its libraries."""
    image = short / "agent.img"
    subprocess.run(["qemu-img", "convert", "-O", "raw", find_alpine().disk, image], check=True)
    agent = shutil.which("qemu-ga", path="/usr/sbin:/usr/bin")
    assert agent is not None, "install qemu-guest-agent"
    libraries = [
        word for line in subprocess.check_output(["ldd", agent], text=True).splitlines() for word in line.split()
    ]
    files = [agent, *(word for word in libraries if word.startswith("/"))]
    loader = next(word for word in files if "ld-linux" in word)
    lines = ["mkdir /opt/agent", *(f"write {Path(file).resolve()} /opt/agent/{Path(file).name}" for file in files)]
    lines += [f"sif /opt/agent/{Path(file).name} mode 0100755" for file in (agent, loader)]
    subprocess.run(["debugfs", "-w", "-f", "-", image], input="\n".join(lines), text=True, check=True)
    return image


def test_the_guest_agent_is_preferred_where_it_answers(lab: Lab, with_agent: Path) -> None:
    lab.base("WithAgent", image=with_agent, format="raw")
    with_agent.unlink()
    guest = lab.guest("agent", backing="WithAgent", boot="kernel").start()
    assert not channels(guest.xml())[guest_agent.AGENT_PORT]
    # mktemp and a pipe: the agent's own guest-exec runs what follows.
    guest.execute(
        "cd /opt/agent && port=$(grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name) && "
        'port=/dev/$(basename "$(dirname "$port")") && '
        "setsid ./ld-linux-x86-64.so.2 --library-path . ./qemu-ga -m virtio-serial -p $port -t /run >/dev/null 2>&1 &"
    ).check()
    deadline = time.monotonic() + 60
    while not guest_agent.agent_answers(guest._domain):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert channels(guest.xml())[guest_agent.AGENT_PORT]

    done = guest.execute("echo out; echo err >&2; tr '\\0' ' ' </proc/$PPID/cmdline; cat; exit 5")
    assert (done.exit_status, done.stderr) == (5, "err\n")
    assert done.stdout.startswith("out\n")
    assert "vmsnap" not in done.stdout  # not the listener on the other port
    assert guest.execute("printf 'a\\0b\\377'; sleep 600 &").stdout_bytes == b"a\0b\xff"
    assert len(guest.execute("head -c 300000 /dev/zero").stdout_bytes) == 300_000
    with pytest.raises(GuestError, match="longer than 1 s"):
        guest.execute("sleep 321", timeout=1)
    assert guest.execute("ps | grep '[s]leep 321'").exit_status == 1
    assert guest.wait_ready(timeout=10) is guest
    guest.destroy()
