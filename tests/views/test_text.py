"""Figures as text: aligned, whatever is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.any_forest import forests

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.views import shown_text
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Figure, Line, Options
from vmsnap_nb.views.text import figure_text
from vmsnap_nb.words.language import LANGUAGES, set_language


def in_plain_letters(figure: Figure) -> Figure:
    """The same figure with x for every column of every text."""
    blocks = tuple(
        dataclasses.replace(
            block,
            boxes=tuple(
                dataclasses.replace(
                    box, lines=tuple(Line("x" * shown_text.width(line.text), line.role) for line in box.lines)
                )
                for box in block.boxes
            ),
        )
        for block in figure.blocks
    )
    return dataclasses.replace(figure, blocks=blocks, notes=())


@pytest.fixture(params=LANGUAGES)
def spoken(request: pytest.FixtureRequest) -> Iterator[None]:
    set_language(request.param)
    yield
    set_language(None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(forests(), st.sampled_from(["all", "none"]), st.sampled_from([None, 2, 8]))
def test_any_forest_is_aligned_and_whole_and_its_chains_are_of_one_height(
    spoken: None, tree: Forest, details: str, fold: int | None
) -> None:
    figure = dataclasses.replace(figure_of(tree, Options(details=details, fold=fold, keep=2)), notes=())
    lines = figure_text(figure).splitlines()
    plain = figure_text(in_plain_letters(figure)).splitlines()
    assert [shown_text.width(line) for line in lines] == [len(line) for line in plain]
    for line, same in zip(lines, plain, strict=True):
        assert line == line.rstrip()
        assert all(char in line for char in set(same) - {"x", " "})
    chains_are_boxes_of_one_height(tree)
    every_file_is_drawn_once_and_has_its_row(tree)


def chains_are_boxes_of_one_height(tree: Forest) -> None:
    for path in tree.images:
        chain = tree.chain(path)
        figure = dataclasses.replace(figure_of(chain, Options(fold=None)), notes=())
        lines = figure_text(figure).splitlines()
        assert len({shown_text.width(line) for line in lines}) == 1
        assert len(figure.blocks[0].boxes) == len(chain)


def every_file_is_drawn_once_and_has_its_row(tree: Forest) -> None:
    figure = figure_of(tree, Options(fold=None))
    drawn = [box.path for block in figure.blocks for box in block.boxes]
    files = {tree.same_file(path)[0] for path in tree.images}
    assert sorted(map(str, drawn)) == sorted(files)
    assert list(tree.to_frame().index) == list(tree.images)
    names = [box.lines[0].text for block in figure.blocks for box in block.boxes]
    assert len(set(names)) == len(names)
