"""Pictures: they say what the text says, of hostile names as well; roles, titles, shapes and styles."""

from __future__ import annotations

import re
import subprocess
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.any_forest import forests
from support.forests import figure_2, forest, image, thousand
from support.pictures import SVG, is_a, texts
from support.shown import HOSTILE, things

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.views import shown_text
from vmsnap_nb.views.content import arrange, narrow_width, natural_width, picture_text
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Box, Line, Options
from vmsnap_nb.views.looks import look_of
from vmsnap_nb.views.svg import figure_svg


def said(line: str) -> str:
    """A line as a picture has it: white space in a row counts once."""
    return re.sub(r"\s+", " ", line).strip()


@pytest.mark.system
@given(forests(most=8))
@settings(max_examples=40)
def test_the_picture_of_any_forest_says_what_the_text_says(tree: Forest) -> None:
    figure = figure_of(tree, Options())
    drawn = [said(text) for text in texts(figure_svg(figure))]
    for block in figure.blocks:
        for box in block.boxes:
            for line in box.lines:
                assert said(picture_text(line)) in {*drawn, ""}
                closes = line.role == "status" and any(arrow.wrong for arrow in block.arrows)  # and the arrow says it
                assert picture_text(line) or closes or line.text == "(qcow2)"  # which is the usual


@pytest.mark.system
@pytest.mark.parametrize("name", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_name_is_in_picture_html_and_text_as_it_is(name: str) -> None:
    path = f"/i/{name}"
    tree = forest(image(path), image("over", path), image("other"))
    shown = shown_text.isolate(name)
    source = tree.to_graphviz()
    assert shown in "".join(texts(source.pipe(format="svg")))
    assert shown in texts(figure_svg(figure_of(tree, Options())))
    root = ET.fromstring(figure_svg(figure_of(tree, Options())))
    titles = [one.text for one in root.iter(f"{SVG}title")]
    assert shown_text.isolate(path) in titles
    assert sum(is_a(g, "arrow") for g in root.iter(f"{SVG}g")) == 1
    assert shown in tree.to_text()
    seen = _Seen()
    seen.feed(tree._repr_mimebundle_()["text/html"])
    assert any(shown in text for text in seen.texts)
    assert "script" not in seen.tags


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.system
def test_a_name_of_255_bytes_is_shortened_and_its_title_has_all_of_it() -> None:
    name = "a" * 120 + "虚" * 45
    tree = forest(image(name))
    root = ET.fromstring(figure_svg(figure_of(tree, Options())))
    assert [one.text for one in root.iter(f"{SVG}title")] == [f"/i/{name}"]
    assert max(map(shown_text.width, tree.to_text().splitlines())) < 50


@pytest.mark.system
def test_control_characters_and_line_ends_are_shown_as_escapes() -> None:
    tree = forest(image("/i/a\nb\x1b[31m\udcfe"))
    expected = r"a\nb\x1b[31m\xfe"
    assert expected in tree.to_text()
    assert expected in "".join(texts(tree.to_graphviz().pipe(format="svg")))
    assert expected in tree._repr_mimebundle_()["text/html"]


@pytest.mark.system
@pytest.mark.parametrize("kind", things())
def test_every_kind_has_a_picture_with_roles_titles_and_no_id(kind: str) -> None:
    svg = things()[kind]._repr_mimebundle_()["image/svg+xml"]
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert not [one for one in root.iter() if "id" in one.attrib]
    boxes = [g for g in root.iter(f"{SVG}g") if is_a(g, "box")]
    assert boxes
    for box in boxes:
        title = box.find(f"{SVG}title")
        assert title is not None
        assert title.text
        assert re.fullmatch(r"\d+-\d+", box.get("data-box", ""))


@pytest.mark.system
def test_shapes_differ_and_not_by_colour_alone() -> None:
    """Without colours and words, the boxes of different states still look different."""
    tree = forest(
        image("ok", writable=False),
        image("gone", status="missing"),
        image("out", status="outside"),
        image("held", held="write"),
        image("ring", "ring"),
    )
    root = ET.fromstring(figure_svg(figure_of(tree, Options(details="none"))))
    looks = set()
    for group in root.iter(f"{SVG}g"):
        if is_a(group, "box"):
            shapes = [one for one in group if one.tag in {f"{SVG}rect", f"{SVG}path"}]
            outline = next(one for one in shapes if is_a(one, "outline"))
            looks.add((len(shapes), outline.get("stroke-dasharray"), shapes[-1].tag))
    assert len(looks) == 5


@pytest.mark.system
def test_saved_memory_that_a_plan_removes_looks_as_images_that_it_removes() -> None:
    memory = Box("m", (Line("m", "name"),), "m", shape="memory", path="m")
    looks = {fate: look_of(replace(memory, fate=fate)) for fate in ("", "comes", "goes")}
    for fate, shape in (("comes", "new"), ("goes", "gone")):
        wanted = look_of(Box("i", (), "i", shape=shape))
        assert (looks[fate].colour, looks[fate].dashes) == (wanted.colour, wanted.dashes) != (looks[""].colour, ())
        assert looks[fate].extra == looks[""].extra


def test_the_styles_of_two_figures_on_a_page_do_not_meet() -> None:
    one, two = (things()[kind]._repr_mimebundle_()["image/svg+xml"] for kind in ("forest", "chain"))
    scopes = [str(ET.fromstring(svg).get("class")) for svg in (one, two)]
    assert scopes[0] != scopes[1]
    for svg, scope in zip((one, two), scopes, strict=True):
        style = ET.fromstring(svg).find(f"{SVG}style")
        assert style is not None
        css = re.sub(r"@media [^{]*\{", "", str(style.text))
        rules = [rule for rule in css.split("}") if rule.strip()]
        for rule in rules:
            assert all(part.strip().startswith(f".{scope} ") for part in rule.split("{")[0].split(","))
        assert all(f"--jp-{name}" in str(style.text) for name in ("ui-font-color1", "layout-color1"))


def test_a_picture_needs_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", None)
    assert set(figure_2()._repr_mimebundle_()) == {"image/svg+xml", "text/html", "text/plain"}


def test_marimos_style_sheet_neither_hides_the_picture_nor_frames_its_boxes() -> None:
    html = figure_2()._repr_mimebundle_()["text/html"]
    assert not re.search(r"<div[^>]* hidden", html)
    assert "outline: none" in html


def test_a_forest_of_1000_images_is_drawn_in_less_than_a_second() -> None:
    tree = thousand(3)
    for options in (Options(), Options(fold=None)):
        before = time.process_time()
        svg = figure_svg(figure_of(tree, options))
        assert time.process_time() - before < 1
        assert svg.count('class="box ') > 40


@given(st.text(max_size=60), st.floats(40, 200))
@settings(max_examples=200)
def test_a_text_that_is_broken_into_lines_is_still_the_text(text: str, wide: float) -> None:
    box = Box("key", (Line(text or "a", "name"), Line(text)), "title")
    items, high = arrange(box, wide)
    assert {"".join(item.texts) for item in items} == {text or "a", *([picture_text(Line(text))] if text else [])}
    assert max(item.top + item.high for item in items) < high


def test_a_name_leaves_room_for_the_sign_in_the_corner() -> None:
    name = Line("Overlay-2", "name")
    plain, broken = (Box("/i/o", (name,), "", shape=shape) for shape in ("image", "broken"))
    wide = natural_width(plain)
    assert natural_width(broken) > wide
    wraps = [item.texts for box in (plain, broken) for item in arrange(box, wide)[0]]
    assert wraps == [("Overlay-2",), ("Overlay-", "2")]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a-database-with-a-long-name", ("a-", "database-", "with-a-", "long-", "name")),
        ("averylongnamewithoutanysign", ("averylong", "namewith", "outanysig", "n")),
        ("web-server.before-upgrade", ("web-", "server.", "before-", "upgrade")),
    ],
)
def test_a_word_that_fits_into_a_line_is_not_broken(text: str, lines: tuple[str, ...]) -> None:
    ((item,), _) = arrange(Box("/i/o", (Line(text, "name"),), ""), 84)
    assert item.texts == lines


def test_a_number_stays_whole_and_in_the_line_of_its_unit() -> None:
    for text, lines in (
        ("61.4 MiB of 1 GiB", ("61.4 MiB of ", "1 GiB")),
        ("61.4 MiB，共 1 GiB", ("61.4 MiB，", "共 1 GiB")),
        ("2026-11-30 07:06 UTC", ("2026-11-30 ", "07:06 UTC")),
    ):
        ((item,), _) = arrange(Box("/i/o", (Line(text, "size"),), ""), 84)
        assert item.texts == lines


def test_a_name_with_a_long_word_gets_a_wider_box_in_a_narrow_column() -> None:
    names = {
        "demo.installation": ("demo.", "installation"),
        "web": ("web",),
        "RootBaseCopy": ("RootBase", "Copy"),
        "images/RootBase": ("images/", "RootBase"),
    }
    for name, lines in names.items():
        box = Box("/i/o", (Line(name, "name"),), "")
        assert arrange(box, narrow_width(box))[0][0].texts == lines
    assert narrow_width(Box("/i/o", (Line("n" * 40, "name"),), "")) < 115  # of such, five still fit


def test_a_line_does_not_end_within_the_beginning_of_a_path() -> None:
    ((item,), _) = arrange(Box("/i/o", (Line("with the file /installed", "detail"),), ""), 84)
    assert item.texts == ("with the ", "file ", "/installed")
