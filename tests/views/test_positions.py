"""Where things of a picture are: nothing runs through a label, and a fold says only what it is."""

from __future__ import annotations

import itertools
import re
from typing import Literal

import pytest
from support.forests import forest, handout, image
from support.merges import FACTS, commit, pull

from vmsnap_nb.views.content import text_width
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.note_lines import note_lines
from vmsnap_nb.views.positions import Room, place_figure
from vmsnap_nb.views.svg import figure_svg
from vmsnap_nb.views.text import figure_text
from vmsnap_nb.words.message import t

HEAD = 4.5  # half of the width of an arrow's head


@pytest.mark.parametrize("room", ["wide", "narrow", "tight"])
@pytest.mark.parametrize("style", ["change", "handout"])
@pytest.mark.parametrize("merge", ["commit", "one", "pull"])
def test_no_arrow_crosses_a_label(merge: str, style: Literal["change", "handout"], room: Room) -> None:
    tree = handout()
    below = "RootBase" if merge == "commit" else "Snap-2"
    plan = pull(tree, "/i/Snap-4") if merge == "pull" else commit(tree, "/i/Snap-3", f"/i/{below}", facts=FACTS)
    picture = place_figure(figure_of(plan, Options(style=style)), room)
    moves = [route for route in picture.routes if route.kind == "move"]
    assert len(moves) >= (1 if merge == "one" else 3)
    for move, other in itertools.product(moves, moves):
        (x, y), half = move.label_at, text_width(move.label) / 2
        for (at, top), (_, end) in (other.corners[:2], other.corners[-2:]):
            crosses = min(end, top) < y < max(end, top) + 1 and x - half - HEAD < at < x + half + HEAD
            assert not crosses, (move.label, other.label)
        assert move.whole


def test_a_fold_in_a_picture_needs_no_dots() -> None:
    chain = forest(image("base"), *(image(f"o{n}", f"o{n - 1}" if n > 1 else "base") for n in range(1, 31)))
    figure = figure_of(chain, Options())
    assert "more layers …" in figure_text(figure)
    assert re.search(r">\d+ more ?<", figure_svg(figure))


def test_what_is_still_read_stays_on_the_row_of_its_base() -> None:
    """Files that a merge left invalid are below it, whatever their names."""
    left = (image("a", "base", status="invalid"), image("b", "a", status="invalid"))
    figure = figure_of(forest(image("base"), *left, image("c", "base")), Options())
    assert {box.path: box.row for box in figure.blocks[0].boxes} == {"/i/base": 0, "/i/c": 0, "/i/a": 1, "/i/b": 1}


def test_notes_below_a_picture_are_sentences_without_stray_signs() -> None:
    one = note_lines(["merged into another image, and the images below have changed; QEMU refuses to open it"], 60)
    assert len(one) == 2
    assert one[0].startswith("Merged into")
    assert min(map(len, one)) > max(map(len, one)) / 2  # no last line of one word
    two = note_lines([t("{image}: the file does not exist", image="x"), t("no images")], 60)
    assert two == ["• x: the file does not exist", "• No images"]
    assert note_lines(["a b c d e f"], 3)[1:] == ["c d", "e f"]  # with a bullet only if there are several
    svg, text = figure_svg(figure_of(forest(), Options())), forest().to_text()
    assert ">No images<" in svg
    assert text == "No images"
