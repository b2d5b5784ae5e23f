"""A header that does not tell the format of its backing file: what a guest says of it, and what libvirt does."""

from __future__ import annotations

import shlex
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from merging import MIB, create, run

from vmsnap_nb.errors import ImageError, LibvirtError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.system.libvirt_library import library

pytestmark = pytest.mark.system


def forget_format(path: Path) -> None:
    """Turn the header extension with the backing format into one that nobody knows."""
    data = path.read_bytes()
    place = data.index(struct.pack(">II", 0xE2792ACA, len("qcow2")))
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack(">I", 0x12345678))


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
    guest._raise_concerns()
    guest._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)


def test_what_libvirt_refuses_is_foretold_and_mended_by_the_line_that_is_said(guest: Guest, short: Path) -> None:
    forget_format(short / "two.qcow2")
    [concern] = guest.concerns()
    assert (concern.name, concern.level) == ("backing-format-missing", "refuse")
    assert concern.images == (str(short / "two.qcow2"), str(short / "it's one.qcow2"))
    assert "NO BACKING FORMAT" in guest.chain().to_text()
    assert "NO BACKING FORMAT" in guest.chain().to_graphviz().source
    with pytest.raises(ImageError, match="does not tell the format of it's one") as said:
        guest.start(wait=False)
    assert said.value.next_step == concern.remedy
    # libvirt itself, when it is left to it.
    with pytest.raises(LibvirtError, match="was not specified in the image metadata"):
        guest.start(wait=False, force=True)
    line = concern.remedy.partition(": ")[2]
    assert run("sh", "-c", line).returncode == 0, shlex.split(line)
    assert guest.concerns() == ()
    assert "NO BACKING FORMAT" not in guest.chain().to_text()
    start(guest)
    assert guest.running


def test_what_stands_on_nothing_is_guessed_and_that_is_only_a_warning(guest: Guest, short: Path) -> None:
    forget_format(short / "it's one.qcow2")
    [concern] = guest.concerns()
    assert (concern.name, concern.level) == ("backing-format-missing", "warn")
    assert "guesses it" in concern.what
    assert "NO BACKING FORMAT" in guest.chain().to_text()
    start(guest)
    assert guest.running
    assert guest.concerns() == ()  # it runs already
