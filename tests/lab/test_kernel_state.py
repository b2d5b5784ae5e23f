"""Guests start from the memory of a kernel that has booted; whatever fails there, they boot."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vmsnap_nb.errors import GuestNotReadyError
from vmsnap_nb.lab import kernel_state
from vmsnap_nb.lab.kernel_state import start_from_state
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest

BOOTED = "Linux version"
"""What a kernel says first as it boots."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, lab: Lab, base: Image) -> Path:
    """A cache in which the memory is saved."""
    if lab.acceleration.kind == "kvm":
        pytest.skip("with KVM guests boot at once")
    path = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("VMSNAP_CACHE", str(path))
        lab.guest("state-1", backing=base).start().destroy()
    return path


@pytest.fixture(autouse=True)
def cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for each test."""
    shutil.copytree(saved, tmp_path / "cache")
    monkeypatch.setenv("VMSNAP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def states(cache: Path) -> list[Path]:
    return sorted((cache / "kernels").iterdir())


def said(guest: Guest, command: str) -> str:
    return guest.execute(command).check().stdout.strip()


def test_each_guest_has_its_own_disk_name_time_and_random_bytes(lab: Lab, base: Image, cache: Path) -> None:
    seen = set()
    for name, size in (("state-1", None), ("state-2", "3G")):
        guest = lab.guest(name, backing=base)
        if size:
            subprocess.run(["qemu-img", "resize", "-q", guest.chain().top, size], check=True)
        guest.start()
        now, host, bytes_, disk = said(
            guest, "date +%s; hostname; head -c 16 /dev/urandom | od -An -tx8; cat /sys/block/vda/size"
        ).splitlines()
        assert abs(int(now) - time.time()) < 30
        assert host == name
        assert int(disk) * 512 == guest.chain()[name].virtual_size
        seen.add(bytes_)
        assert said(guest, f"echo {name} > /mine; cat /mine") == name
        assert BOOTED not in guest.console()
        guest.destroy()
    assert len(seen) == 2
    [state] = states(cache)
    assert state.stat().st_mode & 0o077 == 0


def damage(state: Path) -> None:
    os.truncate(state, 1 << 20)


def forget_mark(state: Path) -> None:
    state.write_bytes(b"no memory")


def open_to_others(state: Path) -> None:
    state.chmod(0o666)


def link(state: Path) -> None:
    state.rename(state.parent.parent / "elsewhere")
    state.symlink_to(state.parent.parent / "elsewhere")


@pytest.mark.parametrize("spoil", [damage, forget_mark, open_to_others, link])
def test_a_memory_that_cannot_be_used_starts_no_guest(
    lab: Lab, base: Image, cache: Path, spoil: Callable[[Path], None]
) -> None:
    guest = lab.guest("state-3", backing=base)
    [state] = states(cache)
    spoil(state)
    assert not start_from_state(guest.handle.domain, None, 100.0)
    assert not guest.running
    assert [path for path in states(cache) if path != state] == []


def test_a_guest_boots_where_its_memory_cannot_be_used(lab: Lab, base: Image, cache: Path) -> None:
    damage(states(cache)[0])
    guest = lab.guest("state-3", backing=base).start(timeout=50)  # in which nothing is saved
    assert said(guest, "hostname") == "state-3"
    assert BOOTED in guest.console()
    assert states(cache) == []
    guest.destroy()


def test_an_interrupt_while_it_is_saved_ends_the_guest(
    lab: Lab, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMSNAP_CACHE", str(tmp_path / "new"))

    def interrupted(path: str) -> str:
        assert guest.running
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel_state, "read_console", interrupted)
    guest = lab.guest("state-4", backing=base)
    with pytest.raises(KeyboardInterrupt):
        guest.start()
    assert not guest.running
    assert states(tmp_path / "new") == []


def test_a_guest_that_is_ended_while_it_is_saved_stays_off(
    lab: Lab, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMSNAP_CACHE", str(tmp_path / "new"))
    guest = lab.guest("state-4", backing=base)

    def ended(path: str) -> str:
        guest.destroy()
        return ""

    monkeypatch.setattr(kernel_state, "read_console", ended)
    with pytest.raises(GuestNotReadyError, match="it is not running"):
        guest.start()
    assert not guest.running
    assert states(tmp_path / "new") == []


def test_a_guest_that_was_started_meanwhile_goes_on(lab: Lab, base: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = lab.guest("state-5", backing=base)
    copy = kernel_state.copy_saved

    def start_then_copy(path: str, target: int, xml: str) -> None:
        guest.handle.domain.create()
        copy(path, target, xml)

    monkeypatch.setattr(kernel_state, "copy_saved", start_then_copy)
    assert not start_from_state(guest.handle.domain, None, 100.0)
    assert guest.running
    guest.destroy()


def test_what_a_kernel_sees_of_its_hardware_decides(lab: Lab, base: Image) -> None:
    xml = lab.guest("state-1", backing=base).handle.definition()
    key = kernel_state._key(xml)
    assert key is not None
    assert key == kernel_state._key(lab.guest("state-2", backing=base).handle.definition())
    for old, new in (("</memory>", "0</memory>"), (">1</vcpu>", ">2</vcpu>"), ("norandmaps", "quiet"), ("vda", "vdb")):
        assert kernel_state._key(xml.replace(old, new)) not in (key, None), new
    other = xml.replace("<devices>", "<devices><hostdev mode='subsystem' type='usb'/>")
    for changed in (other, xml.replace("type='qemu'", "type='kvm'"), xml.replace("initrd>", "dtb>")):
        assert kernel_state._key(changed) is None


def test_only_those_used_last_are_kept(cache: Path) -> None:
    for number in range(6):
        old = cache / "kernels" / f"{number:064x}"
        old.touch(0o600)
        os.utime(old, (number, number))
    kernel_state._remove_old(cache / "kernels")
    assert [path.name for path in states(cache)][:-1] == [f"{number:064x}" for number in (3, 4, 5)]
