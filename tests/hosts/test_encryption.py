"""Guests on encrypted disks: what libvirt cannot start afterwards, or qemu-img cannot open, is refused before."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.devices import MakeDevice
from support.disks import read_by_qemu_io
from support.hosts import IMAGES, define, encrypted_disk, file_disk, part_of_file, qemu_img
from support.images import MIB, create, write
from support.refusals import refused

import vmsnap_nb as vs
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.system.libvirt.snapshots import read_saved_state

pytestmark = pytest.mark.hosts

MakeGuest = Callable[..., Guest]


@pytest.fixture
def host(connection: Any) -> Iterator[Host]:
    with vs.connect("qemu:///system") as opened:
        yield opened


@pytest.fixture
def encrypted(host: Host, connection: Any) -> MakeGuest:
    """Return a function that makes a guest with an encrypted disk: inside qcow2, or as a raw one."""

    def make(path: Path = IMAGES / "secret.img", *, format: str = "qcow2", block: bool = False) -> Guest:
        disk = encrypted_disk(connection, path, format=format, block=block)
        define(connection, "demo", disk)
        return host.guest("demo")

    return make


def refusals(plan: Plan) -> list[str]:
    return [concern.what for concern in plan.concerns if concern.level == "refuse"]


def starts(guest: Guest) -> bool:
    try:
        guest.start(wait=False)
    except VmsnapError:
        return False
    guest.destroy()
    return True


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_what_would_need_the_key_is_refused_while_the_guest_is_off(encrypted: MakeGuest, format: str) -> None:
    guest = encrypted(format=format)
    assert guest.chain()[0].encryption == "luks"
    assert starts(guest)
    plan = guest.snapshot("s1", kind="external-disk")
    assert any("encrypted" in what and "cannot start demo" in what for what in refusals(plan))
    assert any(one.name == "not-encrypted" for one in plan.concerns)
    if format == "qcow2":
        plan = guest.snapshot("s1", kind="internal-disk")
        assert any("has no key" in what for what in refusals(plan))
    assert starts(guest)


def test_a_snapshot_of_a_running_guest_is_taken_with_a_warning_and_merged_while_it_runs(encrypted: MakeGuest) -> None:
    guest = encrypted()
    guest.start(wait=False)
    plan = guest.snapshot("s1", kind="external-disk")
    assert not plan.refused, plan.concerns
    assert [one.name for one in plan.concerns if one.level == "warn"] == ["not-encrypted"]
    assert plan.run(progress=False).as_predicted
    guest.destroy()
    assert starts(guest)  # libvirt has written the key of each layer into the definition
    for plan in (guest.commit(), guest.delete_snapshot("s1")):
        assert any("does not have its key" in what for what in refusals(plan))
    back = guest.revert("s1")
    assert any("cannot start demo" in what for what in refusals(back))
    assert "encrypt.key-secret" in next(one.remedy for one in back.concerns if one.level == "refuse")
    guest.start(wait=False)
    merged = guest.delete_snapshot("s1")
    assert not merged.refused, merged.concerns
    assert merged.run(progress=False).as_predicted
    guest.destroy()
    assert guest.chain().top == str(IMAGES / "secret.img")
    assert starts(guest)


def test_the_remedy_of_a_refused_revert_copies_what_the_image_holds(encrypted: MakeGuest) -> None:
    guest = encrypted()
    guest.start(wait=False)
    assert guest.snapshot("s1", kind="external-disk").run(progress=False).as_predicted
    guest.destroy()
    remedy = next(one.remedy for one in guest.revert("s1").concerns if one.level == "refuse")
    command = remedy[remedy.index("qemu-img") :].replace("KEY", "abc123").replace("NEW", str(IMAGES / "new"))
    subprocess.run(command, shell=True, check=True)
    assert vs.chain(IMAGES / "new.qcow2")[0].encryption is None


def test_nothing_is_kept_inside_an_overlay_on_an_encrypted_image_while_the_guest_is_off(connection: Any) -> None:
    xml = encrypted_disk(connection, IMAGES / "secret.img")
    key = re.search("uuid='([^']*)'", xml)
    assert key is not None
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", IMAGES / "secret.img", "-F", "qcow2", "top.qcow2", "8M")
    secret = f"<encryption format='luks' engine='qemu'><secret type='passphrase' uuid='{key[1]}'/></encryption>"
    below = f"<backingStore type='file'><format type='qcow2'/><source file='{IMAGES}/secret.img'>{secret}</source>"
    disk = file_disk(IMAGES / "top.qcow2").replace("<target", f"{below}<backingStore/></backingStore><target")
    domain = define(connection, "demo", disk, running=True)
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        assert guest.snapshot("s", kind="internal-checkpoint").run(progress=False).as_predicted
        domain.destroy()
        for plan in (
            guest.snapshot("t", kind="internal-disk"),
            guest.revert("s", to="off", keep_current=False),
            guest.delete_snapshot("s"),
        ):
            assert "not-supported" in refused(plan), plan.title


def test_no_checkpoint_is_written_into_an_encrypted_image(encrypted: MakeGuest) -> None:
    guest = encrypted()
    guest.start(wait=False)
    assert any("QEMU aborts" in what for what in refusals(guest.snapshot("c1", kind="internal-checkpoint")))
    assert [step.kind for step in guest.snapshot().steps] == ["external-disk"]  # type: ignore[attr-defined]
    plan = guest.snapshot("c1", kind="external-checkpoint")
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False).as_predicted


def test_an_encrypted_device_is_read_and_nothing_is_put_on_it_while_the_guest_is_off(
    encrypted: MakeGuest, device: MakeDevice
) -> None:
    guest = encrypted(device(16 * MIB), format="raw", block=True)
    [image] = guest.chain()
    assert (image.device, image.encryption) == (True, "luks")
    assert starts(guest)
    plan = guest.snapshot("s1", kind="external-disk", disks={"vda": str(IMAGES / "s1.qcow2")})
    assert refusals(plan)


def test_snapshots_of_a_disk_with_an_external_data_file_are_decided_in_the_plan(host: Host, connection: Any) -> None:
    path = create(IMAGES / "demo.qcow2", size=MIB, data_file=IMAGES / "demo.raw")
    disk = f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda'/></disk>"
    define(connection, "demo", disk)
    guest = host.guest("demo")
    for kind in ("internal-disk", "external-disk"):
        [concern] = [one for one in guest.snapshot("s", kind=kind).concerns if one.level == "refuse"]  # type: ignore[arg-type]
        assert (concern.name, concern.waivable) == ("not-supported", kind == "external-disk")
        assert "keeps its data in an external data file" in concern.what
    assert subprocess.run(["qemu-img", "snapshot", "-c", "s", path], check=False).returncode != 0


def test_an_overlay_on_a_part_of_a_file_is_not_made_while_the_guest_is_off(host: Host, connection: Any) -> None:
    define(connection, "demo", part_of_file(IMAGES / "container", MIB))
    plan = host.guest("demo").snapshot("s1", kind="external-disk")
    assert any("uses only part of a file" in what for what in refusals(plan))
    # The remedy makes an image of that part.
    write(IMAGES / "container", "write -q -P 7 1M 64k", format="raw")
    command = next(one.remedy for one in plan.concerns if one.level == "refuse").rpartition(": ")[2]
    subprocess.run(command.replace("NEW", str(IMAGES / "new")), shell=True, check=True)
    assert vs.chain(IMAGES / "new.qcow2")[0].virtual_size == MIB
    assert read_by_qemu_io(IMAGES / "new.qcow2", "qcow2", 0, 1024) == b"\7" * 1024


def test_a_garbled_file_of_saved_memory_is_a_named_error(host: Host, connection: Any) -> None:
    path = create(IMAGES / "demo.qcow2", size=MIB)
    disk = f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda'/></disk>"
    define(connection, "demo", disk, running=True)
    guest = host.guest("demo")
    guest.save(IMAGES / "demo.mem").run(progress=False)
    saved = bytearray((IMAGES / "demo.mem").read_bytes())
    start = saved.index(b"<dom")
    for number in (0xFF, 0x00, ord("<")):
        saved[start + 4 : start + 40] = bytes([number]) * 36
        (IMAGES / "demo.mem").write_bytes(saved)
        with pytest.raises(VmsnapError):
            read_saved_state(connection, str(IMAGES / "demo.mem"), here=True)
