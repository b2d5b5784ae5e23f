"""The figure of a panel: what is selected, and what a saved notebook shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.forests import figure_2, image
from support.forests import forest as forest_of

import vmsnap_nb as vs
from vmsnap_nb.lab.scenarios import build_scenario
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.panels import ChainView
from vmsnap_nb.panels.source import own_images
from vmsnap_nb.views.svg import least_width

pytestmark = pytest.mark.system


def test_a_selection_that_vanished_clears(forest: LiveForest, images: dict[str, Path]) -> None:
    view = ChainView(forest, selected=str(images["second"]))
    view.show(forest)
    assert view.selected == str(images["second"])
    images["second"].unlink()
    view.show(forest.refresh())
    assert view.selected is None


def test_what_the_javascript_says_is_plain_text(forest: LiveForest) -> None:
    """A front end that writes its own JSON, as marimo does, takes other kinds of strings for objects."""
    assert {type(word) for word in ChainView(forest).words.values()} == {str}


def test_every_box_has_its_path(forest: LiveForest, images: dict[str, Path]) -> None:
    view = ChainView(forest)
    assert set(view.boxes.values()) == {str(path) for path in images.values()}
    assert all(f'data-box="{box}"' in view.svg for box in view.boxes)


def test_a_saved_notebook_has_a_picture_and_text(forest: LiveForest) -> None:
    bundle = ChainView(forest)._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<svg" in data["text/html"]
    assert "Snap-2" in data["text/plain"]
    assert "--->" in data["text/plain"] or "<---" in data["text/plain"]


def test_a_narrow_view_has_narrower_boxes_for_the_same_images(tmp_path: Path) -> None:
    build_scenario("merge", tmp_path / "m")
    forest = vs.scan(tmp_path / "m")
    view = ChainView(forest)
    assert len(view.boxes) == 5
    least = view.least
    view.is_narrow = True
    assert len(view.boxes) == 5
    assert least_width(view.svg) < 470 < least == view.least  # 470 pixels: a cell of JupyterLab in a window of 600
    view.show(forest.commit("Snap-3", "Snap-1"))
    assert least_width(view.svg) < 470 < view.least
    view.show_map(forest.blockmap("Snap-4"))
    narrow = view.svg
    view.is_narrow = False
    assert view.svg != narrow


def test_what_concerns_a_guest_is_its_own_and_what_only_it_needs() -> None:
    uses = (Use("mine", "vda", "/i/Overlay-1C"), Use("other", "vda", "/i/Overlay-2A"))
    tree = forest_of(*figure_2(), image("Overlay-1X", "Overlay-1A"), uses=uses)
    own = {"RootBase", *(f"Overlay-1{end}" for end in ("", "A", "B", "C", "X"))}
    assert own_images(tree, "mine") == {f"/i/{name}" for name in own}
    assert own_images(tree, "nobody") == frozenset()
