"""Chains on which no guest starts, for want of a layer or a format: what a guest says of it, and what libvirt does."""

from __future__ import annotations

import os
import shlex
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.forests import forest, image
from support.images import MIB, create
from support.labs import start_paused

from vmsnap_nb.errors import ImageError, LibvirtError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.power import Power
from vmsnap_nb.model.guest import Disk, Domain, Use
from vmsnap_nb.model.need import Need, NeedKind
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.needed import written_by
from vmsnap_nb.plans.checks.start import layers, snapshots_of_others
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.system


def forget_format(path: Path) -> None:
    """Turn the header extension with the backing format into one that nobody knows."""
    data, times = path.read_bytes(), path.stat()
    place = data.index(struct.pack(">II", 0xE2792ACA, len("qcow2")))
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack(">I", 0x12345678))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # that it has changed is said of an overlay, too


@pytest.fixture
def guest(lab: Lab, short: Path) -> Iterator[Guest]:
    """A guest on base <- it's one <- two, and an overlay of its own."""
    base = create(short / "base.qcow2", size=16 * MIB)
    two = create(short / "two.qcow2", create(short / "it's one.qcow2", base))
    guest = lab.guest("formats", backing=two, boot="disk", protect=False)
    yield guest
    guest.destroy()
    own = guest.domain().disks[0].source
    guest.undefine()
    Path(own or "").unlink()


def start(guest: Guest) -> None:
    """Start it paused: its disk is empty."""
    guest.power._raise_concerns(guest.concerns())
    start_paused(guest)


def test_what_libvirt_refuses_is_foretold_and_mended_by_the_line_that_is_said(guest: Guest, short: Path) -> None:
    forget_format(short / "two.qcow2")
    [concern] = guest.concerns()
    assert (concern.name, concern.level) == ("backing-format-missing", "refuse")
    assert concern.images == (str(short / "two.qcow2"), str(short / "it's one.qcow2"))
    assert "NO BACKING FORMAT" in guest.chain().to_text()
    assert "NO BACKING" in guest.chain().to_graphviz().source  # and the rest in the next line of the box
    with pytest.raises(ImageError, match="does not record the format of its backing file it's one") as said:
        guest.start(wait=False)
    assert said.value.next_step == concern.remedy
    # libvirt itself, when it is left to it.
    with pytest.raises(LibvirtError, match="was not specified in the image metadata"):
        guest.start(wait=False, force=True)
    line = concern.remedy.partition(": ")[2]
    assert run("sh", "-c", line).returncode == 0, shlex.split(line)
    # The corrected header has a later time than the overlay recorded, if a second has passed.
    assert {concern.name for concern in guest.concerns()} <= {"disk-changed"}
    assert "NO BACKING FORMAT" not in guest.chain().to_text()
    start(guest)
    assert guest.running


def test_a_layer_that_is_not_there_is_foretold_and_the_line_that_is_said_tells_where_it_is(
    guest: Guest, short: Path
) -> None:
    (short / "base.qcow2").rename(short / "moved base")
    [concern] = guest.concerns()
    assert (concern.name, concern.level, concern.images) == ("missing-base", "refuse", (str(short / "base.qcow2"),))
    with pytest.raises(ImageError, match=r"from disk vda: .*base.qcow2 does not exist") as said:
        guest.start(wait=False)
    with pytest.raises(LibvirtError, match="No such file"):
        guest.start(wait=False, force=True)
    line = (said.value.next_step or "").partition(": ")[2].replace("ITS-PATH", f"'{short}/moved base'")
    assert run("sh", "-c", line).returncode == 0, line
    assert {concern.name for concern in guest.concerns()} <= {"disk-changed"}
    start(guest)
    assert guest.running


def test_chains_that_no_qemu_opens() -> None:
    uses = (Use("g", "vda", "/i/top"), Use("g", "vdb", "/i/free"))
    free = image("free")
    merged = forest(image("a"), image("b", "a", status="invalid"), image("top", "b"), free, uses=uses)
    ring = forest(image("a", "b"), image("b", "a"), image("top", "a"), free, uses=uses)
    gone = forest(image("top", status="missing"), free, uses=uses)
    found = {name: list(layers(tree, uses)) for name, tree in (("b", merged), ("a", ring), ("top", gone))}
    assert [(concern.name, *concern.images) for [concern] in found.values()] == [
        ("missing-base", "/i/b"),
        ("loop", "/i/a"),
        ("missing-base", "/i/top"),
    ]
    assert list(layers(forest(free, image("top", "free")), uses)) == []
    damaged = image("b", status="corrupt", corrupt=True)  # QEMU still opens it for reading
    assert list(layers(forest(damaged, image("top", "b"), free), uses)) == []
    assert [one.name for one in layers(forest(replace(damaged, path="/i/top"), free), uses)] == ["damaged-image"]
    truncated = forest(replace(damaged, corrupt=False), image("top", "b"), free)
    assert [one.name for one in layers(truncated, uses)] == ["damaged-image"]
    assert list(layers(gone, [Use("g", "sda", "/i/top", readonly=True)])) == []


def test_what_stands_on_nothing_is_guessed_and_that_is_only_a_warning(guest: Guest, short: Path) -> None:
    forget_format(short / "it's one.qcow2")
    [concern] = guest.concerns()
    assert (concern.name, concern.level) == ("backing-format-missing", "warn")
    assert "guesses it" in concern.what
    assert "NO BACKING FORMAT" in guest.chain().to_text()
    start(guest)
    assert guest.running
    assert guest.concerns() == ()  # it runs already


class Deaf:
    """libvirt's handle of a guest, which does not hear some times why QEMU has ended."""

    def __init__(self, domain: Any, times: int, said: str) -> None:
        self._domain, self._times, self._said = domain, times, said

    def __getattr__(self, name: str) -> Any:
        return getattr(self._domain, name)

    def create(self) -> None:
        self._times -= 1
        if self._times >= 0:
            error = library().libvirtError("start")
            error.err = (library().VIR_ERR_OPERATION_FAILED, library().VIR_FROM_QEMU, self._said)
            raise error
        self._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)


@pytest.mark.parametrize(
    "said", ["failed to connect to monitor socket: Connection refused", "operation failed: domain is no longer running"]
)
def test_what_libvirt_was_too_late_to_hear_is_asked_once_more(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    domain = guest.handle.domain
    monkeypatch.setattr(guest, "power", Power(replace(guest.handle, found=Deaf(domain, 2, said)), guest.commands))
    with pytest.raises(LibvirtError, match=said):
        guest.start(wait=False)
    assert not guest.running
    monkeypatch.setattr(guest, "power", Power(replace(guest.handle, found=Deaf(domain, 1, said)), guest.commands))
    assert guest.start(wait=False).state == "paused"


def test_a_guest_does_not_start_on_an_image_that_overlays_are_based_on(guest: Guest, short: Path) -> None:
    disk = guest.chain().top
    overlay = short / "sibling.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk, str(overlay))
    # Beside the disk, or in another folder that was read: by whatever name the overlay refers to it.
    [concern] = [found for found in guest.concerns() if found.name == "shared-base"]
    assert (concern.level, concern.images[0]) == ("refuse", disk)
    assert str(overlay) in concern.images
    with pytest.raises(ImageError, match="sibling is based on that image") as said:
        guest.start(wait=False)
    assert "its own overlay" in (said.value.next_step or "")
    assert not guest.running
    overlay.unlink()
    assert guest.concerns() == ()


def test_a_guest_does_not_start_on_a_file_that_holds_the_data_of_an_image(guest: Guest, short: Path) -> None:
    disk, other = guest.chain().top, create(short / "other.qcow2", size=MIB, data_file=short / "other.raw")
    run("qemu-img", "amend", "-f", "qcow2", "-o", f"data_file={disk}", str(other))
    with pytest.raises(ImageError, match=r"holds the data of the image .*other.qcow2, and formats would write to it"):
        guest.start(wait=False)
    assert not guest.running
    other.unlink()
    assert guest.concerns() == ()


@pytest.mark.parametrize("kind", ["managed save", "saved memory", "nvdimm", "named", "definition"])
def test_what_another_guest_needs_is_not_written_to(kind: NeedKind) -> None:
    world = forest(image("base"), image("top", "base"))
    need = Need(kind, "/i/top", "other", "/i/memory", layers=("/i/top", "/i/base"))
    world = world.edited(needs=[replace(need, layers=("/i/x", "/i/top")) if kind == "definition" else need])
    [concern] = written_by(world, "own", "/i/top")
    assert (concern.name, concern.waivable, concern.holders) == ("shared-base", True, ("other",))
    assert not [*written_by(world, "other", "/i/top")]  # it goes on with that itself


def test_a_guest_does_not_start_on_the_state_of_another_ones_snapshot() -> None:
    disk = SnapshotDisk("vda", "external", "/i/top", "/i/over")
    world = forest(image("base"), image("top", "base")).edited(records=[SnapshotRecord("other", "s", disks=(disk,))])
    own = Domain("own", "0c0c0c0c-1111-2222-3333-444444444444", disks=(Disk("vda", "/i/top", "qcow2"),))
    [concern] = snapshots_of_others(world, own)
    assert (concern.name, concern.waivable, concern.holders) == ("shared-base", True, ("other",))
    assert not [*snapshots_of_others(world, replace(own, disks=(replace(own.disks[0], readonly=True),)))]
