"""Verbs of guests, labs and folders take an image by itself, by path or by name, and a guest for its image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import MIB, create

import vmsnap_nb as vs
from vmsnap_nb.lab.card import lab_card
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.cards import read_card

pytestmark = pytest.mark.system


@pytest.fixture
def guest(lab: Lab, short: Path) -> Iterator[vs.Guest]:
    """A guest on Base <- Middle, and an overlay of its own."""
    middle = create(short / "Middle.qcow2", create(short / "Base.qcow2", size=16 * MIB))
    guest = lab.guest("named", backing=middle, boot="disk", protect=False)
    top = guest.chain().top
    yield guest
    guest.undefine()
    os.unlink(top)


def test_layers_are_named_in_every_way(guest: vs.Guest) -> None:
    chain = guest.chain()
    base, middle, top = chain
    wanted = guest.commit(top=middle.path, base=base.path)
    for high, low in (("Middle", "Base"), (middle, base), (chain[1], chain[0].path), (Path(middle.path), "Base.qcow2")):
        assert guest.commit(top=high, base=low).steps == wanted.steps
    assert guest.pull(base=base).steps == guest.pull(base="Base").steps
    assert guest.shorten(keep=[base]).steps == guest.shorten(keep="Base").steps
    assert chain["named"] == top
    with pytest.raises(vs.NotFoundError, match=r"find the layer Midle\n.*\n.*did you mean Middle\?"):
        guest.commit(base="Midle")


def test_a_forest_plans_for_an_image(guest: vs.Guest, short: Path) -> None:
    forest = vs.scan(short)
    middle = forest["Middle"]
    assert forest.commit(middle).steps == forest.commit("Middle").steps
    assert forest.pull(middle).steps == forest.pull("Middle").steps
    assert forest.blockmap(middle).layers == forest.blockmap("Middle").layers
    with pytest.raises(vs.InvalidRequestError, match="keep must be a whole number of images, 1 or more"):
        forest.shorten("Middle", keep=0)
    with pytest.raises(vs.InvalidRequestError, match="keep must be a whole number of images, 1 or more"):
        guest.shorten(keep=1.5)  # type: ignore[arg-type]


def test_a_guest_stands_for_the_image_that_it_writes_to(
    guest: vs.Guest, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    top = guest.chain().top
    assert vs.chain(guest).top == top
    assert vs.chain(guest.chain()[-1]).top == top
    for plan in (lab.survey().overlay("more", backing=guest), vs.create_overlay("more", guest)):
        assert plan.after[plan.creates[0]].backing == vs.Reference(top, "absolute", top, "qcow2")
    assert lab.plan_guest("other", guest).steps[0].image.endswith("/other.qcow2")
    for wrong in (5, None, ["a"], vs.scan(os.path.dirname(top))):
        with pytest.raises(vs.NotFoundError, match="not an image"):
            vs.chain(wrong)  # type: ignore[arg-type]
    with pytest.raises(vs.NotFoundError, match="is not an image, a guest, a path or a name"):
        lab.plan_guest("other", 5)  # type: ignore[arg-type]


def test_a_file_is_found_without_its_suffix(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(short / "Top.qcow2", create(short / "Base.qcow2", size=MIB))
    monkeypatch.chdir(short)
    assert [layer.name for layer in vs.chain("Top")] == ["Base", "Top"]
    assert vs.create_overlay("New", "Top").creates == (str(short / "New.qcow2"),)
    with pytest.raises(vs.NotFoundError, match=r"did you mean Top.qcow2\? Check the path"):
        vs.chain("top.qcow")
    (short / "Top.img").touch()
    with pytest.raises(vs.NotFoundError, match="several images have that name"):
        vs.chain("Top")


@pytest.mark.parametrize(
    ("name", "made"),
    [("a", "a.qcow2"), ("a.b", "a.b"), ("a.img", "a.img"), (".a", ".a.qcow2"), ("a b", "a b.qcow2"), ("a.", "a.")],
)
def test_a_new_image_without_a_suffix_is_a_qcow2(short: Path, name: str, made: str) -> None:
    base = create(short / "Base.qcow2", size=MIB)
    forest = vs.scan(short)
    wanted = (str(short / made),)
    assert forest.overlay(name, base).creates == wanted
    assert forest.overlay([short / name], base).creates == wanted
    assert vs.create_overlay(short / name, base, size="10 GiB").creates == wanted


def test_memory_of_a_guest_is_a_size(lab: Lab, short: Path) -> None:
    base = create(short / "Base.qcow2", size=MIB)
    plan = lab.plan_guest("sized", base, memory="1 GiB")
    assert "<memory unit='MiB'>1024</memory>" in plan.commands[-1].replace('"', "'")
    for wrong in (1.5, "five", 8, True):
        with pytest.raises(vs.InvalidRequestError):
            lab.plan_guest("sized", base, memory=wrong)  # type: ignore[arg-type]
    with pytest.raises(vs.InvalidRequestError, match="cpus must be a whole number of processors, 1 or more"):
        lab.plan_guest("sized", base, cpus=0)


def test_a_lab_shows_a_card(guest: vs.Guest, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # libvirt may look for its QEMUs when it is first asked for their version.
    html = read_card(lambda: lab_card(lab, lab.acceleration), "", patience=60)
    for part in (f"Lab {lab.root}", ">named<", "shut off", "space used", "free", "libvirt", "QEMU", "acceleration"):
        assert part in html
    monkeypatch.setattr(lab._machine, "_acceleration", None)
    assert "not known yet" in lab._repr_html_()
    assert lab._machine._acceleration is None  # to show it boots nothing
