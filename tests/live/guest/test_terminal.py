"""The serial console of a guest: keys go to its shell, what it writes comes at once, and Ctrl-C ends what runs."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.labs import start_paused
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import GuestNotReadyError, InvalidRequestError, ReadOnlyError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.guest.serial import SerialConsole
from vmsnap_nb.words.message import t

pytestmark = pytest.mark.guest


class Reader:
    """Reads a console in a thread, until it ends."""

    def __init__(self, console: SerialConsole) -> None:
        self.console = console
        self.seen = b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while data := self.console.read():
            self.seen += data

    def shows(self, text: bytes) -> bool:
        return eventually(lambda: text in self.seen)


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    guest = lab.guest("screen", backing=base)
    guest.start()
    yield guest
    guest.destroy()


def test_keys_go_to_the_guest_and_ctrl_c_ends_what_runs_there(guest: Guest) -> None:
    with guest.commands.open_terminal() as console:
        reader = Reader(console)
        console.type(b"stty size; echo in-$((40 + 2)); sleep 600\r")
        assert reader.shows(b"\nin-42\r\n")
        assert b"\n24 80\r\n" in reader.seen
        console.type(b"\x03")
        assert reader.shows(b"^C")  # what is typed before is thrown away with the command
        console.type(b"echo status $?\r")
        assert reader.shows(b"\nstatus 130\r\n")
        assert guest.commands.resize_terminal(33, 101)
        console.type(b"stty size\r")
        assert reader.shows(b"\n33 101\r\n")
        with pytest.raises(GuestNotReadyError, match="session exists") as refused:
            guest.commands.open_terminal()
        assert refused.value.next_step == "close the other terminal of this guest, for example virsh console"
        with pytest.raises(InvalidRequestError, match="at most 1048576 bytes"):
            console.type(bytes((1 << 20) + 1))
        console.stop_waiting()
        reader.thread.join(5)
        assert not reader.thread.is_alive()
    with guest.commands.open_terminal() as console, vs.connect(guest.host.uri, readonly=True) as other:
        with pytest.raises(ReadOnlyError):
            other.guest(guest.name).commands.open_terminal()
        reader = Reader(console)
        guest.destroy()
        reader.thread.join(10)
        assert not reader.thread.is_alive()
        assert console.ended
    with pytest.raises(GuestNotReadyError, match="it is not running"):
        guest.commands.open_terminal()
    assert not guest.commands.resize_terminal(10, 10)


def test_of_a_console_that_is_no_terminal_it_says_what_to_change(lab: Lab, base: Image, tmp_path: Path) -> None:
    guest = lab.guest("logged", backing=base)
    xml = ET.fromstring(guest.handle.definition())
    devices = xml.find("devices")
    assert devices is not None
    for kind in ("serial", "console"):
        for device in devices.findall(kind):
            devices.remove(device)
    log = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(log, "source", path=str(tmp_path / "log"))
    guest.handle.define(ET.tostring(xml, encoding="unicode"), t("log the console"))
    start_paused(guest)
    try:
        with pytest.raises(GuestNotReadyError, match="connected to file, not to a pseudoterminal") as refused:
            guest.commands.open_terminal()
        assert "virsh -c" in str(refused.value.next_step)
        assert "edit logged" in str(refused.value.next_step)
    finally:
        guest.destroy()


def test_a_guest_that_writes_without_an_end_waits_for_its_reader(guest: Guest) -> None:
    with guest.commands.open_terminal() as console:
        console.type(b"yes\r")
        assert eventually(lambda: len(console._buffer) > 100_000)
        reader = Reader(console)
        assert eventually(lambda: len(reader.seen) > 300_000)
        console.type(b"\x03echo status $?\r")
        assert reader.shows(b"\nstatus 130\r\n")
        console.stop_waiting()
