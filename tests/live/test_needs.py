"""What needs an image, beyond the disks of guests: all of libvirt's words of it are known, and keep it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.guests import discard
from support.images import create
from support.labs import start_paused

from vmsnap_nb.errors import ImageError, InUseError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """Return a guest that is paused at its start."""
    guest = lab.guest("needer", backing=base, boot="disk")
    start_paused(guest)
    yield guest
    discard(guest)


def needed_by(lab: Lab, name: str) -> str:
    text = lab.survey().to_frame().set_index("image").loc[name, "needed_by"]
    assert isinstance(text, str)
    return text


def lost(plan: LivePlan) -> list[str]:
    """What the plan would take from whom."""
    return [concern.what for concern in plan.concerns if concern.name == "state-lost" and concern.level == "refuse"]


def folder(guest: Guest) -> Path:
    return Path(guest.chain()["RootBase"].path).parent


def with_disk(xml: str, path: Path) -> str:
    """The definition with another image as its first disk."""
    root = ET.fromstring(xml)
    source = root.find("devices/disk/source")
    assert source is not None
    source.set("file", str(path))
    return ET.tostring(root, encoding="unicode")


def test_the_definition_of_the_next_start(lab: Lab, guest: Guest) -> None:
    other, above = folder(guest) / "needer-other.qcow2", folder(guest) / "needer-above.qcow2"
    create(other, backing=folder(guest) / "RootBase.qcow2")
    create(above, backing=other)
    lab.connection.defineXML(with_disk(guest.handle.definition(), other))
    assert needed_by(lab, "needer") == "needer (vda)"
    assert "next start of needer (vda)" in needed_by(lab, "needer-other")
    assert "next start of needer (vda)" in lab.survey().chain("needer-other").to_text()
    for plan in (lab.survey().commit("needer-other", remove=True), lab.survey().commit("needer-above")):
        assert any("the next start of needer" in what for what in lost(plan)), plan.title
    guest.destroy()
    # It is the disk now, and the overlay would be corrupted.
    with pytest.raises(ImageError, match="needer-above is based on that image"):
        guest.start(wait=False)


def test_the_target_of_a_block_job(lab: Lab, guest: Guest) -> None:
    copy = folder(guest) / "needer-copy.qcow2"
    libvirt = library()
    xml = f"<disk type='file'><source file='{copy}'/><driver type='qcow2'/></disk>"
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB | libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW
    guest.handle.domain.blockCopy("vda", xml, flags=flags)
    try:
        assert "block job of needer (vda)" in needed_by(lab, "needer-copy")
        assert "block job of needer (vda)" in lab.survey().chain("needer-copy").to_text()
        plan = lab.survey().commit("needer-copy", "RootBase", remove=True)
        assert any("a block job of needer" in what for what in lost(plan))
    finally:
        guest.handle.domain.blockJobAbort("vda", 0)


def test_the_snapshot_of_another_guest_on_an_image_in_a_folder_that_no_guest_uses(
    lab: Lab, base: Image, guest: Guest, tmp_path: Path
) -> None:
    guest.destroy()
    branch = tmp_path / "branch.qcow2"
    assert guest.snapshot("s", kind="external-disk", disks={"vda": str(branch)}).run(progress=False).as_predicted
    # The guest is taken back by hand: only the record names the overlay now.
    lab.connection.defineXML(with_disk(guest.handle.definition(), folder(guest) / "needer.qcow2"))
    other = lab.guest("neighbour", backing=base, boot="disk")
    try:
        lab.connection.defineXML(with_disk(other.handle.definition(), folder(guest) / "needer.qcow2"))
        assert "snapshot s of needer" in needed_by(lab, "needer")
        assert "snapshot s of needer" in needed_by(lab, "branch")
        for plan in (lab.survey().commit("needer", "RootBase"), other.commit(base="RootBase")):
            assert any("snapshot s of needer needs" in what for what in lost(plan)), plan.title
        against = {concern.name: concern for concern in other.concerns()}
        assert "snapshot s of needer" in against["shared-base"].what
        with pytest.raises(ImageError, match="snapshot s of needer"):
            other.start(wait=False)
    finally:
        lab.connection.defineXML(with_disk(other.handle.definition(), folder(guest) / "neighbour.qcow2"))
        discard(other)


def test_a_guest_does_not_start_without_a_layer_that_its_saved_memory_names(lab: Lab, base: Image) -> None:
    guest = lab.guest("stuck", backing=base, boot="disk").start(wait=False)
    layer = folder(guest) / "stuck.qcow2"
    try:
        guest.snapshot("s", kind="external-disk", metadata=False).run(progress=False)
        guest.save().run(progress=False)
        moved = layer.rename(layer.with_suffix(".away"))
        against = [concern for concern in guest.concerns() if concern.name == "managed-save"]
        assert [concern.images for concern in against] == [(str(layer),)]
        assert "virsh managedsave-remove stuck" in against[0].remedy
        with pytest.raises((ImageError, InUseError), match="its managed save needs"):
            guest.start(wait=False)
        moved.rename(layer)
        assert guest.start(wait=False).running
    finally:
        discard(guest)
