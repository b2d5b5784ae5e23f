"""Guests are paused and go on: by the user, and by QEMU when a disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.small_disk import resize, small_disk
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import GuestError, ReadOnlyError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    guest = lab.guest("pace", backing=base)
    yield guest
    guest.destroy()


def test_a_guest_is_paused_and_goes_on(guest: Guest) -> None:
    with pytest.raises(GuestError, match="it is off"):
        guest.suspend()
    with pytest.raises(GuestError, match="it is off"):
        guest.resume()
    guest.start(wait=False)
    guest.resume()  # it runs already
    for _ in range(2):
        guest.suspend()
        assert guest.state == "paused"
    with pytest.raises(GuestError, match="it is paused"):
        guest.shutdown()
    with pytest.raises(GuestError, match="it is paused"):
        guest.execute("true")
    guest.resume()
    assert guest.state == "running"
    with vs.connect(guest.host.uri, readonly=True) as reader, pytest.raises(ReadOnlyError):
        reader.guest(guest.name).suspend()
    guest.destroy()


def test_a_command_waits_for_a_guest_that_is_being_started(guest: Guest, lab: Lab) -> None:
    """libvirt says of it that it is paused, until QEMU has opened its disks."""
    with ThreadPoolExecutor() as thread:
        started = thread.submit(guest.start)
        assert eventually(lambda: lab.guest(guest.name).state == "paused")
        assert lab.guest(guest.name).execute("echo ready").stdout == "ready\n"
        started.result()


def test_one_that_was_paused_for_a_full_disk_says_so_until_there_is_room(guest: Guest, short: Path) -> None:
    with small_disk(short / "small", "2m") as small:
        guest.start()
        assert "ready for commands" in guest.console()
        guest.snapshot("before", kind="external-disk", disks={"vda": small / "top"}).run(progress=False)
        guest.execute("(dd if=/dev/urandom of=/much bs=1M count=8; sync; touch /run/written) >/dev/null 2>&1 &")
        assert eventually(lambda: guest.state == "paused")
        with pytest.raises(GuestError, match="paused it again: no space is left for vda") as refused:
            guest.resume()
        assert refused.value.next_step == "free space on the file system of its images"
        assert guest.state == "paused"
        resize(small, "64m")
        guest.resume()
        assert eventually(lambda: guest.execute("test -e /run/written").exit_status == 0)
        guest.destroy()
        guest.delete_snapshot("before").run(progress=False)
