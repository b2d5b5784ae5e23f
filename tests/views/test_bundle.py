"""What a notebook gets of a thing that can be shown."""

from __future__ import annotations

import pytest
from support.forests import figure_2
from support.shown import things


@pytest.mark.system
@pytest.mark.parametrize("kind", things())
def test_the_bundle_has_three_types_and_obeys_include_and_exclude(kind: str) -> None:
    thing = things()[kind]
    assert set(thing._repr_mimebundle_()) == {"image/svg+xml", "text/html", "text/plain"}
    assert set(thing._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(thing._repr_mimebundle_(exclude={"text/plain"})) == {"image/svg+xml", "text/html"}
    assert set(thing._repr_mimebundle_(include=["image/svg+xml"])) == {"image/svg+xml"}
    assert thing._repr_mimebundle_(include={"text/plain", "text/html"}, exclude={"text/html"}) == {
        "text/plain": thing.to_text()
    }


@pytest.mark.system
def test_a_png_is_drawn_only_for_who_asks_for_it() -> None:
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(figure_2(), include=["image/png", "text/plain"])
    assert set(data) == {"image/png", "text/plain"}
    assert data["image/png"] == figure_2().to_png()
    assert "image/png" not in figure_2()._repr_mimebundle_(include=["image/png"], exclude=["image/png"])


@pytest.mark.system
def test_ipython_shows_it() -> None:
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(figure_2())
    assert data["text/plain"] == figure_2().to_text()
    assert data["text/html"].startswith('<div class="vmsnap ')
