"""Figures as SVG and PNG values."""

from __future__ import annotations

import struct
import sys

import pytest
from support.forests import figure_2
from support.shown import things

from vmsnap_nb.errors import InvalidRequestError, MissingPartError
from vmsnap_nb.views.pictures import png_of


def test_svg_is_the_figure_of_the_display_and_shows_itself() -> None:
    svg = figure_2().to_svg()
    assert svg == figure_2()._repr_mimebundle_()["image/svg+xml"]
    assert svg in svg._repr_html_()  # type: ignore[attr-defined]
    plan = things()["plan"]
    assert plan.to_svg(style="handout").count(">before<") == 1
    assert ">before<" not in plan.to_svg()


def test_png_is_drawn_in_the_colours_of_paper_at_the_size_asked_for() -> None:
    png = figure_2().to_png(zoom=2)
    assert png.startswith(b"\x89PNG")
    wide, high = struct.unpack(">II", png[16:24])
    svg = figure_2().to_svg()
    for size, name in ((wide, "width"), (high, "height")):
        drawn = int(svg.partition(f' {name}="')[2].partition('"')[0])
        assert abs(size - 2 * drawn) <= 2
    assert png._repr_png_() == bytes(png)  # type: ignore[attr-defined]
    assert len(png) > 2 * len(png_of('<svg xmlns="http://www.w3.org/2000/svg" width="800" height="300"/>', zoom=2))


def test_without_its_package_a_png_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingPartError, match=r"vmsnap_nb\[png\]"):
        figure_2().to_png()
    assert figure_2().to_svg()


@pytest.mark.parametrize("zoom", [1e-9, 1e4, 2**63, 1e300])
def test_no_picture_takes_all_memory(zoom: float) -> None:
    with pytest.raises(InvalidRequestError, match="zoom") as caught:
        figure_2().to_png(zoom=zoom)
    assert "536,870,912 pixels" in str(caught.value.why)
