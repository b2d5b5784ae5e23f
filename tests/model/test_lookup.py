"""Images are asked for by themselves, by path or by name; anything else is an error that names what is close."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.reference import Reference

BASE, SNAP_1, SNAP_2, OTHER = "/i/Base.qcow2", "/i/Snap-1.qcow2", "/i/Snap-2.qcow2", "/j/Other.raw"
METHODS = ("parent", "children", "descendants", "users", "writers", "depth", "lineage", "status", "active", "chain")


def on(path: str, below: str) -> Image:
    return Image(path, "qcow2", backing=Reference(below, "absolute", below, "qcow2"))


@pytest.fixture
def forest() -> Forest:
    images = Image(BASE, "qcow2"), on(SNAP_1, BASE), on(SNAP_2, SNAP_1), Image(OTHER, "raw")
    return Forest({image.path: image for image in images}, (Use("demo", "vda", SNAP_2, "running"),))


def ways(forest: Forest) -> list[object]:
    """All ways to ask for Snap-1."""
    return [
        SNAP_1,
        PurePosixPath(SNAP_1),
        "Snap-1",
        "Snap-1.qcow2",
        "/i/Snap-1",
        "/i/../i/Snap-1.qcow2",
        forest[SNAP_1],
    ]


@pytest.mark.parametrize("method", METHODS)
def test_each_question_takes_an_image_a_path_or_a_name(forest: Forest, method: str) -> None:
    ask = getattr(forest, method)
    for way in ways(forest):
        assert ask(way) == ask(SNAP_1), way


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", ["/i/nowhere.qcow2", "nowhere", "", 5, None, ["Snap-1"], b"Snap-1", Image("/k/x")])
def test_each_question_raises_for_anything_else(forest: Forest, method: str, wrong: object) -> None:
    with pytest.raises(NotFoundError):
        getattr(forest, method)(wrong)


def test_what_is_asked_for_is_what_is_there(forest: Forest) -> None:
    for way in ways(forest):
        assert forest.children(way) == (SNAP_2,)  # type: ignore[arg-type]
        assert forest[way].path == SNAP_1  # type: ignore[index]
        assert way in forest
        assert way in forest.chain("Snap-2")
        assert forest.chain("Snap-2")[way] is forest[SNAP_1]  # type: ignore[index]
    assert "Other" in forest
    assert "Other" not in forest.chain("Snap-2")
    for wrong in ("/i/nowhere.qcow2", "nowhere", "", 5, None, ["Snap-1"]):
        assert wrong not in forest
        assert wrong not in forest.chain("Snap-2")


def test_a_chain_has_places_slices_and_a_length(forest: Forest) -> None:
    chain = forest.chain("Snap-2")
    assert len(chain) == 3
    assert chain[0].path == BASE
    assert chain[-1].path == SNAP_2
    assert chain[1:] == chain.layers[1:]
    assert chain[::-1][0].path == SNAP_2
    assert [chain.active(layer) for layer in ("Base", 1, chain[2])] == [False, False, True]
    with pytest.raises(IndexError):
        chain[3]
    with pytest.raises(NotFoundError, match=r"find the layer Other\n.*3 images of the chain"):
        chain["Other"]
    assert not Chain(forest, "/i/gone.qcow2").layers


def test_close_names_are_named(forest: Forest) -> None:
    with pytest.raises(
        NotFoundError, match=r"next: did you mean Snap-1 or Snap-2\? Available: Base, Other, Snap-1, Snap"
    ):
        forest["snap1"]
    with pytest.raises(NotFoundError, match=r"next: did you mean Base\? Available: Base, Snap-1, Snap-2"):
        forest.chain("Snap-2")["base"]
    with pytest.raises(NotFoundError, match=r"next: available: "):
        forest["quite different"]
    assert there_are("x", ()) == "create one first"
    assert there_are(3, ["13", "b"], most=1).endswith("Available: 13")


def test_a_name_of_several_images_is_refused_and_its_path_is_not(forest: Forest) -> None:
    twice = forest.edited(put=[Image("/j/Base.qcow2", "qcow2")])
    with pytest.raises(NotFoundError, match=r"several images have that name: /i/Base.qcow2, /j/Base.qcow2"):
        twice["Base"]
    assert "Base" in twice
    assert twice["/j/Base.qcow2"].path == "/j/Base.qcow2"
    assert twice.chain("Snap-2")["Base"].path == BASE  # in the chain only one has it


def test_a_layer_is_found_by_another_path_of_its_file() -> None:
    base, link = Image(BASE, "qcow2", identity=(1, 2)), Image("/links/b.qcow2", "qcow2", identity=(1, 2))
    top = on(SNAP_1, BASE)
    chain = Forest({image.path: image for image in (base, link, top)}).chain("Snap-1")
    assert chain["/links/b.qcow2"] is base
    assert link in chain


def test_plans_can_ask_for_what_is_not_there(forest: Forest) -> None:
    assert forest.known_children("/i/new.qcow2") == ()
    assert forest.known_lineage("/i/new.qcow2") == ()
    assert forest.known_users("/i/new.qcow2") == ()
    assert forest.known_writers("/i/new.qcow2") == ()
    gone = forest.edited(drop=[BASE])
    assert gone.known_children(BASE) == (SNAP_1,)
