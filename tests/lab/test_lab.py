"""What a lab makes: bases, guests of every name, many thin ones, and the tutorial's scenarios; all without a boot."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmsnap_nb.errors import (
    ImageError,
    InvalidRequestError,
    LabError,
    NotFoundError,
    PlanRefusedError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.lab import bases
from vmsnap_nb.lab.alpine import copy_checked, find_alpine
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.lab.scenarios import PATTERN_SIZE, SCENARIOS, pattern_of
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.system


def test_the_base_is_a_protected_copy_and_checked(lab: Lab, base: Image, tmp_path: Path) -> None:
    assert (base.name, base.format, base.status, base.backing) == ("RootBase", "qcow2", "ok", None)
    assert os.stat(base.path).st_mode & 0o777 == 0o444
    assert base.virtual_size == 1 << 30
    assert Path(base.path).read_bytes() == find_alpine().disk.read_bytes()
    assert replace(lab.base("RootBase"), held="") == replace(base, held="")

    changed = tmp_path / "changed.qcow2"
    data = bytearray(find_alpine().disk.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    with pytest.raises(ImageError, match="its SHA-256 is"):
        copy_checked(changed, tmp_path / "copy.qcow2")
    assert [path.name for path in tmp_path.iterdir()] == ["changed.qcow2"]


def test_an_image_of_ones_own(lab: Lab, tmp_path: Path) -> None:
    own, above, raw, other = (tmp_path / name for name in ("own.qcow2", "above.qcow2", "raw", "other.vmdk"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", own, "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", own, above], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", other, "1M"], check=True)
    raw.write_bytes(bytes(4096))
    assert lab.base("Mine", image=own).format == "qcow2"
    assert lab.base("Raw", image=raw, format="raw").format == "raw"
    for image, said in ((above, "is based on"), (raw, "format|unknown"), (other, "vmdk")):
        with pytest.raises(InvalidRequestError, match=said):
            lab.base("No", image=image)
    with pytest.raises(NotFoundError):
        lab.base("No", image=tmp_path / "nothing")
    for name in ("Mine", "Raw"):
        with pytest.raises(InvalidRequestError, match=r"created from /.*/(own\.qcow2|raw)"):
            lab.base(name)


@pytest.mark.parametrize("change", ["qemu-img rebase -q -u -f qcow2 -F raw -b /etc/shadow own", "rm own && mkfifo own"])
def test_an_image_that_its_owner_changes_meanwhile(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A guest on such a base would read any file of this user as its disk."""
    own, copy = tmp_path / "own", bases.copy_file
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", own, "1M"], check=True)

    def late(*given: Any, **named: Any) -> str:
        subprocess.run(["sh", "-ec", change], cwd=tmp_path, check=True)
        return copy(*given, **named)

    monkeypatch.setattr(bases, "copy_file", late)
    before = sorted((lab.root / "images").iterdir())
    with pytest.raises(VmsnapError, match=r"is based on|Invalid argument"):
        lab.base("Late", image=own)
    assert sorted((lab.root / "images").iterdir()) == before


def test_a_base_that_leads_elsewhere_is_refused(lab: Lab, tmp_path: Path) -> None:
    """As in a lab out of an archive."""
    own = tmp_path / "own.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", own, "1M"], check=True)
    base = lab.base("Forged", image=own).path
    os.chmod(base, 0o600)
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", base], check=True)
    with pytest.raises(InvalidRequestError, match="it is based on /etc/shadow"):
        lab.base("Forged", image=own)
    os.unlink(base)


def test_an_image_with_a_data_file_is_no_base(lab: Lab, tmp_path: Path) -> None:
    options = f"data_file={tmp_path}/data,data_file_raw=on"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, tmp_path / "own", "1M"], check=True)
    with pytest.raises(InvalidRequestError, match="its data is in another file"):
        lab.base("Apart", image=tmp_path / "own")


def test_a_base_in_other_letters_is_no_second_copy(lab: Lab, base: Image) -> None:
    with pytest.raises(InvalidRequestError, match="its name differs only in case") as raised:
        lab.base("rootbase")
    assert "lab.base('RootBase')" in str(raised.value.next_step)
    assert not (lab.root / "images" / "rootbase.qcow2").exists()


NAMES = ("<x> & \"quotes\" 'too'", "虚拟机", "n" * 200, "🦊", "a b\\c", "עברית", "%s;$(id)", "-dash")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_a_guest_can_have(lab: Lab, base: Image, name: str) -> None:
    guest = lab.guest(name, backing=base, overlay=f"overlay of {name}"[:50])
    assert guest.name == name
    assert ET.fromstring(guest.xml()).findtext("name") == name
    assert lab.guest(name).uuid == guest.uuid
    assert guest.chain()[-1].name == f"overlay of {name}"[:50]
    if name in NAMES[:3]:  # a start takes seconds
        guest.start(wait=False)  # so the sockets and the log that are named after it can be made
        guest.destroy()
    guest.undefine()
    with pytest.raises(NotFoundError, match="the lab has no guest"):
        lab.guest(name)


@pytest.mark.parametrize("name", ["", "  ", "a/b", ".hidden", "line\nfeed", "nul\0", "n" * 201])
def test_names_that_it_cannot(lab: Lab, base: Image, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"name a guest|name must not contain a null character"):
        lab.guest(name, backing=base)


def test_a_name_too_long_for_its_socket(lab: Lab, base: Image) -> None:
    with pytest.raises(InvalidRequestError, match="path of its socket"):
        lab.guest("机" * 20, backing=base)


def test_a_plan_of_a_guest_shows_what_it_will_do(lab: Lab, base: Image) -> None:
    plan = lab.plan_guest("planned", backing="RootBase")
    overlay = str(lab.root / "images" / "planned.qcow2")
    assert plan.creates == (overlay,)
    assert [step.action for step in plan.steps] == ["create overlay", "define guest"]
    assert plan.commands[0].startswith("qemu-img create -q -f qcow2 -F qcow2 -b ")
    assert "virsh -c " in plan.commands[1]
    assert not os.path.exists(overlay)
    assert plan.run(progress=False).as_predicted
    with pytest.raises(StalePlanError):
        plan.run(progress=False)
    with pytest.raises(InvalidRequestError, match=r"already[^$]*lab\.guest\('planned'\)"):
        lab.plan_guest("planned", backing=base)
    lab.guest("planned").undefine()
    with pytest.raises(PlanRefusedError, match="file-exists"):
        lab.guest("planned", backing=base)
    with pytest.raises(NotFoundError, match="RootBase"):
        lab.guest("nobody", backing="NoSuchBase")
    with pytest.raises(InvalidRequestError):
        lab.guest("small", backing=base, memory=1)
    with pytest.raises(InvalidRequestError):
        lab.guest("boot", backing=base, boot="floppy")  # type: ignore[arg-type]


def test_many_guests_are_thin_and_those_that_are_there_are_taken(lab: Lab, base: Image) -> None:
    names = [f"thin-{number:02}" for number in range(20)]
    guests = lab.guests(names, backing=base, progress=False)
    assert [guest.name for guest in guests] == names
    forest = lab.survey()
    thin = [forest[guest.chain().top] for guest in guests]
    assert all((image.allocated or 0) <= 200_704 for image in thin)
    assert sum(image.allocated or 0 for image in thin) < (base.allocated or 0) / 10
    more = lab.guests([*names[-2:], "thin-20"], backing=base, progress=False)
    assert [guest.name for guest in more] == ["thin-18", "thin-19", "thin-20"]
    assert set(names) < set(lab.guests().to_frame().index)
    frame = lab.survey().to_frame()
    assert frame.loc[base.path, "children"] >= 21


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_scenarios_are_real_images_with_data_of_their_own(lab: Lab, name: str) -> None:
    forest = lab.scenario(name)
    folder = lab.root / "scenarios" / name
    layers = SCENARIOS[name]
    assert sorted(forest.images) == sorted(str(folder / layer.file) for layer in layers)
    for number, layer in enumerate(layers):
        image = forest[str(folder / layer.file)]
        assert (image.format, image.status, image.virtual_size) == (layer.format, "ok", 64 << 20)
        assert forest.parent(image.path) == (str(folder / layer.backing) if layer.backing else None)
        # Read through the chain by QEMU: its own marks, and those of every layer below it.
        below = [str(folder / each.file) for each in layers]
        reads = ["-c", f"read -q -P {pattern_of(number)} 0 {PATTERN_SIZE}"]
        for path in forest.lineage(image.path):
            mark = below.index(path)
            reads += ["-c", f"read -q -P {pattern_of(mark)} {(mark + 1) << 20} {PATTERN_SIZE}"]
        done = subprocess.run(
            ["qemu-io", "-r", "-f", layer.format, *reads, image.path], capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("", "")
        wrong = f"read -P {pattern_of(number) + 1} 0 {PATTERN_SIZE}"
        refuted = subprocess.run(
            ["qemu-io", "-r", "-f", layer.format, "-c", wrong, image.path], capture_output=True, text=True, check=False
        )
        assert "Pattern verification failed" in refuted.stdout + refuted.stderr


def test_the_figures_have_the_handouts_names(lab: Lab) -> None:
    def chains(name: str) -> list[list[str]]:
        return sorted([image.name for image in chain] for chain in lab.scenario(name).chains)

    assert chains("figure-1") == [["RootBase", "Overlay-1", "Overlay-1A", "Overlay-1B"]]
    assert chains("figure-2") == [
        ["RootBase", "Overlay-1", "Overlay-1A", "Overlay-1B", "Overlay-1C"],
        ["RootBase", "Overlay-2", "Overlay-2A"],
        ["RootBase", "Overlay-3", "Overlay-3A"],
    ]
    assert chains("template") == [
        ["FedoraBase", "Fedora-guest-1", "Fed-w-updates", "Fedora-guest-with-updates-1A"],
        ["FedoraBase", "Fedora-guest-2", "Fed-w-updates", "Fedora-guest-with-updates-2A"],
    ]
    assert chains("merge") == [["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]]
    with pytest.raises(NotFoundError, match="figure-1, figure-2, template, merge"):
        lab.scenario("figure-99")


def test_the_bases_of_scenarios_are_not_among_those_of_the_lab(lab: Lab) -> None:
    folder = lab.root / "scenarios" / "template"
    lab.scenario("template")
    assert str(folder / "FedoraBase.img") not in lab.survey()
    assert lab.survey(folder)[str(folder / "FedoraBase.img")].format == "raw"


def test_a_scenario_is_the_users_own_once_it_is_made(lab: Lab) -> None:
    forest = lab.scenario("merge")
    top = next(path for path in forest.images if path.endswith("Snap-4.qcow2"))
    os.unlink(top)
    assert top not in lab.scenario("merge")
    mine = Path(top).with_name("mine.txt")
    mine.write_text("mine")
    with pytest.raises(LabError, match=r"mine\.txt"):
        lab.reset_scenario("merge")
    mine.unlink()
    assert top in lab.reset_scenario("merge")
