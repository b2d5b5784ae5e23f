"""Frames, pictures, HTML and the bundle; hostile names and random forests in all of them."""

from __future__ import annotations

import dataclasses
import doctest
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from forests import figure_2, forest, image
from hypothesis import given, settings
from hypothesis import strategies as st
from test_figures import overlay_plan, thousand

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disk, Disks, Use
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.overlay import plan_guests
from vmsnap_nb.plans.report import Report, StepDone
from vmsnap_nb.views import words
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Figure, Line, Options
from vmsnap_nb.views.svg import figure_svg
from vmsnap_nb.views.text import figure_text

SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = {
    "angle": "<x>",
    "script": "<script>alert(1)<script>",
    "quote": 'a"b',
    "apostrophe": "it's",
    "backslash": "back\\slash",
    "escape": "\\N\\G\\E\\l",
    "last": "ends with \\",
    "bar": "a|b{c}d",
    "entity": "a&lt;b &amp; c",
    "emoji": "😀 family 👨‍👩‍👧",
    "chinese": "虚拟机",
    "hebrew": "שלום",
    "arabic": "مرحبا",
    "colon": "a:b:c",
    "dollar": "$(rm -rf)",
    "markdown": "**a** `b`",
}


def things() -> dict[str, Shown]:
    """One of each kind that can be shown."""
    plan = overlay_plan(figure_2())
    return {
        "forest": figure_2(),
        "chain": figure_2().chain("/i/Overlay-1C"),
        "disks": Disks("demo", (Disk("vda", "/i/a.qcow2", "qcow2", "virtio", capacity=1 << 30),), (3,)),
        "plan": plan,
        "report": Report(plan, tuple(StepDone(step, "done", 0.5) for step in plan.steps), plan.after),
    }


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take the program dot away."""
    monkeypatch.setenv("PATH", str(tmp_path))


# -- frames ----------------------------------------------------------------------------------------------

TEXT, INT = "string", "Int64"
COLUMNS = {
    "forest": (
        ("path", TEXT),
        {
            "image": TEXT,
            "format": TEXT,
            "backing": TEXT,
            "backing_path": TEXT,
            "backing_format": TEXT,
            "virtual_size": INT,
            "allocated": INT,
            "depth": INT,
            "children": INT,
            "snapshots": INT,
            "used_by": TEXT,
            "status": TEXT,
        },
    ),
    "chain": (
        ("layer", INT),
        {
            "image": TEXT,
            "path": TEXT,
            "format": TEXT,
            "backing": TEXT,
            "backing_format": TEXT,
            "virtual_size": INT,
            "allocated": INT,
            "active": "boolean",
            "used_by": TEXT,
            "snapshots": INT,
            "status": TEXT,
        },
    ),
    "disks": (
        ("target", TEXT),
        {
            "source": TEXT,
            "format": TEXT,
            "bus": TEXT,
            "device": TEXT,
            "depth": INT,
            "capacity": INT,
            "allocated": INT,
        },
    ),
    "plan": (
        ("step", INT),
        {"action": TEXT, "image": TEXT, "what": TEXT, "bytes": INT, "command": TEXT},
    ),
    "report": (
        ("step", INT),
        {"action": TEXT, "image": TEXT, "state": TEXT, "bytes": INT, "seconds": "Float64", "command": TEXT},
    ),
}


def empty(kind: str) -> Shown:
    plan = overlay_plan(figure_2(), steps=())
    return {
        "forest": Forest(),
        "chain": Chain(Forest(), "/i/x"),
        "disks": Disks("demo"),
        "plan": plan,
        "report": Report(plan, (), plan.after),
    }[kind]


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("filled", [True, False])
def test_a_frame_has_its_documented_columns_and_dtypes_also_when_it_is_empty(kind: str, filled: bool) -> None:
    frame = (things()[kind] if filled else empty(kind)).to_frame()
    (index, index_type), columns = COLUMNS[kind]
    assert bool(len(frame)) is filled
    assert frame.index.name == index
    assert frame.index.dtype == index_type
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == columns


@pytest.mark.parametrize("kind", ["forest", "chain", "disks", "plan", "report"])
def test_the_class_documents_the_columns_of_its_frame(kind: str) -> None:
    (index, _), columns = COLUMNS[kind]
    said = re.sub(r"\s+", " ", type(things()[kind]).__doc__ or "")
    assert f"index ``{index}``" in said
    assert f"columns ``{' '.join(columns)}``" in said


def test_a_forests_frame_holds_what_the_images_are() -> None:
    tree = forest(
        image("Base", snapshots=(InternalSnapshot("1", "s"),)),
        dataclasses.replace(image("Over.qcow2", "Base"), backing=Reference("../i/Base", "relative", "/i/Base", "raw")),
        image("/n/Remote", status="remote", format=None, virtual_size=None, allocated=None),
        uses=(Use("web", "vda", "/i/Over.qcow2"), Use("demo", "vda", "/i/Over.qcow2"), Use("demo", "vdb", "/i/Base")),
    )
    frame = tree.to_frame()
    assert list(frame.index) == ["/i/Base", "/i/Over.qcow2", "/n/Remote"]
    base, over, remote = (frame.loc[path] for path in frame.index)
    assert over["image"] == "Over"
    assert over["backing"] == "../i/Base"
    assert over["backing_path"] == "/i/Base"
    assert over["backing_format"] == "raw"
    assert over["used_by"] == base["used_by"] == "demo, web"
    assert (base["depth"], over["depth"], base["children"], over["children"]) == (1, 2, 1, 0)
    assert (base["snapshots"], over["snapshots"]) == (1, 0)
    assert base["virtual_size"] == 64 << 20
    missing = [
        "format",
        "backing",
        "backing_path",
        "backing_format",
        "virtual_size",
        "allocated",
        "snapshots",
        "used_by",
    ]
    assert remote[missing].isna().all()
    assert remote["status"] == "remote"


def test_a_chains_frame_begins_with_the_base() -> None:
    frame = figure_2().chain("/i/Overlay-2A").to_frame()
    assert list(frame.index) == [0, 1, 2]
    assert list(frame["image"]) == ["RootBase", "Overlay-2", "Overlay-2A"]
    assert list(frame["active"]) == [False, False, True]


def test_steps_are_counted_from_one_and_have_their_commands() -> None:
    frame = things()["plan"].to_frame()
    assert list(frame.index) == [1, 2]
    assert frame.loc[2, "command"] == "chmod a-w -- /i/RootBase"


def test_a_name_that_is_no_utf8_gets_its_row() -> None:
    assert list(forest(image("/i/\udcff")).to_frame().index) == ["/i/\udcff"]


def test_a_frame_can_be_summed_and_saved(tmp_path: Path) -> None:
    frame = figure_2().to_frame()
    assert frame["allocated"].sum() == 9 << 20
    frame.to_csv(tmp_path / "x.csv")
    assert len(pd.read_csv(tmp_path / "x.csv")) == 9


# -- words -----------------------------------------------------------------------------------------------


def test_the_examples_of_words_are_right() -> None:
    assert doctest.testmod(words).failed == 0


@given(st.integers(min_value=0, max_value=1 << 66))
def test_a_size_is_short_and_near(size: int) -> None:
    number, unit = words.human_size(size).split(" ")
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert abs(float(number) * factor - size) <= max(0.006 * size, 0.5)
    assert len(number) <= 4 or unit == "EiB"


@given(st.text(), st.integers(min_value=3, max_value=40))
def test_a_clipped_text_fits(text: str, most: int) -> None:
    text = words.shown(text)
    short = words.clip(text, most)
    assert words.width(short) <= most
    assert short == text or "…" in short


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1, unique=True))
def test_names_are_distinct_and_harmless(files: list[str]) -> None:
    names = words.distinct_names((f"/very/deep/{'x' * (n % 3)}/{name}", "same") for n, name in enumerate(files))
    assert len(set(names.values())) == len(files)
    for name in names.values():
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff\ufffe\uffff]", name)


def test_names_that_differ_only_where_they_are_cut_are_numbered() -> None:
    paths = [f"/i/{'a' * 40}{middle}{'z' * 40}" for middle in "12"]
    first, second = words.distinct_names((path, path[3:]) for path in paths).values()
    assert first.partition(" ")[0] == second.partition(" ")[0]
    assert (first[-2:], second[-2:]) == ("#1", "#2")


# -- random forests --------------------------------------------------------------------------------------

STATUSES = ["ok"] * 6 + ["missing", "unreadable", "not-a-file", "corrupt", "unknown", "outside", "remote", "in-use"]
NAMES = st.one_of(
    st.sampled_from(sorted(HOSTILE.values())),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255),
    st.binary(min_size=1, max_size=9)
    .map(lambda raw: raw.replace(b"/", b".").replace(b"\0", b"."))
    .map(lambda raw: raw.decode(errors="surrogateescape")),
)


@st.composite
def forests(draw: st.DrawFn, most: int = 14) -> Forest:
    """Any forest at all: loops, links, missing and remote images, names that nobody should give."""
    files = draw(st.lists(NAMES, min_size=1, max_size=most, unique=True))
    paths = [f"{draw(st.sampled_from(['/i', '/i/x', '/虚']))}/{name}" for name in files]
    images = []
    for path in paths:
        backing = None
        if draw(st.booleans()):
            target = draw(st.sampled_from([*paths, "/elsewhere/x", "nbd://host/x"]))
            backing = Reference(target, "absolute", None if target.startswith("nbd") else target, "qcow2")
        images.append(
            Image(
                path,
                draw(st.sampled_from(["qcow2", "raw", None])),
                draw(st.sampled_from(STATUSES)),  # type: ignore[arg-type]
                draw(st.sampled_from(["", "it is\nbroken <b>"])),
                draw(st.sampled_from([None, 0, 1 << 40])),
                draw(st.sampled_from([None, 0, 4096])),
                backing,
                identity=draw(st.sampled_from([None, None, None, (1, 1), (1, 2)])),
                held=draw(st.sampled_from(["", "", "write"])),  # type: ignore[arg-type]
                writable=draw(st.booleans()),
            )
        )
    uses = tuple(
        Use(f"guest {name}", "vda", path) for name, path in zip(files, paths, strict=True) if draw(st.booleans())
    )
    return Forest({one.path: one for one in images}, uses)


def in_plain_letters(figure: Figure) -> Figure:
    """The same figure with x for every column of every text."""
    blocks = tuple(
        dataclasses.replace(
            block,
            boxes=tuple(
                dataclasses.replace(
                    box, lines=tuple(Line("x" * words.width(line.text), line.role) for line in box.lines)
                )
                for box in block.boxes
            ),
        )
        for block in figure.blocks
    )
    return dataclasses.replace(figure, blocks=blocks, notes=())


@given(forests(), st.sampled_from(["all", "none"]), st.sampled_from([None, 2, 8]))
def test_the_text_of_any_forest_is_aligned(tree: Forest, details: str, fold: int | None) -> None:
    figure = dataclasses.replace(figure_of(tree, Options(details=details, fold=fold, keep=2)), notes=())
    lines = figure_text(figure).splitlines()
    plain = figure_text(in_plain_letters(figure)).splitlines()
    assert [words.width(line) for line in lines] == [len(line) for line in plain]
    for line, same in zip(lines, plain, strict=True):
        assert line == line.rstrip()
        assert all(char in line for char in set(same) - {"x", " "})


@given(forests())
def test_the_chains_of_any_forest_are_drawn_as_boxes_of_one_height(tree: Forest) -> None:
    for path in tree.images:
        chain = tree.chain(path)
        figure = dataclasses.replace(figure_of(chain, Options(fold=None)), notes=())
        lines = figure_text(figure).splitlines()
        assert len({words.width(line) for line in lines}) == 1
        assert len(figure.blocks[0].boxes) == len(chain)


@given(forests())
def test_every_file_of_any_forest_is_drawn_once_and_has_its_row(tree: Forest) -> None:
    figure = figure_of(tree, Options(fold=None))
    drawn = [box.path for block in figure.blocks for box in block.boxes]
    files = {tree.same_file(path)[0] for path in tree.images}
    assert sorted(map(str, drawn)) == sorted(files)
    assert list(tree.to_frame().index) == list(tree.images)
    names = [box.lines[0].text for block in figure.blocks for box in block.boxes]
    assert len(set(names)) == len(names)


# -- pictures --------------------------------------------------------------------------------------------


def texts(svg: str | bytes) -> list[str]:
    """All texts of an SVG, in its order; Graphviz writes several spaces as no-break spaces."""
    return ["".join(one.itertext()).replace("\xa0", " ") for one in ET.fromstring(svg).iter(f"{SVG}text")]


def is_a(group: ET.Element, kind: str) -> bool:
    return kind in group.get("class", "").split()


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
                assert said(line.text) in drawn


@pytest.mark.system
@pytest.mark.parametrize("name", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_name_is_in_picture_html_and_text_as_it_is(name: str) -> None:
    path = f"/i/{name}"
    tree = forest(image(path), image("over", path), image("other"))
    shown = words.isolate(name)
    source = tree.to_graphviz()
    assert shown in texts(source.pipe(format="svg"))
    root = ET.fromstring(figure_svg(figure_of(tree, Options())))
    titles = [one.text for one in root.iter(f"{SVG}title")]
    assert words.isolate(path) in titles
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
    assert max(map(words.width, tree.to_text().splitlines())) < 50


@pytest.mark.system
def test_control_characters_and_line_ends_are_shown_as_escapes() -> None:
    tree = forest(image("/i/a\nb\x1b[31m\udcfe"))
    expected = r"a\nb\x1b[31m\xfe"
    assert expected in tree.to_text()
    assert expected in texts(tree.to_graphviz().pipe(format="svg"))
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
            shapes = [one for one in group if one.tag in {f"{SVG}polygon", f"{SVG}polyline", f"{SVG}path"}]
            first = shapes[0]
            looks.add((len(shapes), len(first.get("points", "").split()), first.get("stroke-dasharray")))
    assert len(looks) == 5


@pytest.mark.system
def test_the_styles_of_two_figures_on_a_page_do_not_meet() -> None:
    one, two = (things()[kind]._repr_mimebundle_()["image/svg+xml"] for kind in ("forest", "chain"))
    scopes = [str(ET.fromstring(svg).get("class")) for svg in (one, two)]
    assert scopes[0] != scopes[1]
    for svg, scope in zip((one, two), scopes, strict=True):
        style = ET.fromstring(svg).find(f"{SVG}style")
        assert style is not None
        rules = [rule for rule in str(style.text).split("}") if rule.strip()]
        for rule in rules:
            assert all(part.strip().startswith(f".{scope} ") for part in rule.split("{")[0].split(","))
        assert all(f"--jp-{name}" in str(style.text) for name in ("ui-font-color1", "layout-color1"))


def test_the_source_for_graphviz_is_the_same_each_time_and_in_each_process() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from forests import figure_2\n"
        "print(figure_2().to_graphviz().source)"
    )
    here = figure_2().to_graphviz().source
    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        assert there.stdout.strip() == here.strip()


@pytest.mark.system
def test_graphviz_has_nothing_to_complain_about() -> None:
    for thing in things().values():
        done = subprocess.run(
            ["dot", "-Tsvg"], input=thing.to_graphviz().source, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""


@pytest.mark.system
def test_base_is_left_of_its_overlay_and_the_arrow_head_is_at_the_base() -> None:
    root = ET.fromstring(figure_2().chain("/i/Overlay-2A").to_graphviz().pipe(format="svg"))
    at = {str(g.findtext(f"{SVG}title")): g for g in root.iter(f"{SVG}g") if is_a(g, "box") or is_a(g, "arrow")}

    def span(title: str, kind: str = "polygon") -> tuple[float, float]:
        points = next(at[title].iter(f"{SVG}{kind}")).get("points", "").split()
        xs = [float(point.split(",")[0]) for point in points]
        return min(xs), max(xs)

    base, overlay = span("/i/RootBase"), span("/i/Overlay-2")
    head = span("/i/Overlay-2->/i/RootBase")
    assert base[1] < overlay[0]
    assert head[0] == pytest.approx(base[1], abs=1)
    assert head[1] < overlay[0]


# -- the bundle ------------------------------------------------------------------------------------------


@pytest.mark.system
@pytest.mark.parametrize("kind", things())
def test_the_bundle_has_three_types_and_obeys_include_and_exclude(kind: str) -> None:
    thing = things()[kind]
    assert set(thing._repr_mimebundle_()) == {"image/svg+xml", "text/html", "text/plain"}
    assert set(thing._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(thing._repr_mimebundle_(exclude={"text/plain"})) == {"image/svg+xml", "text/html"}
    assert set(thing._repr_mimebundle_(include=["image/svg+xml", "image/png"])) == {"image/svg+xml"}
    assert thing._repr_mimebundle_(include={"text/plain", "text/html"}, exclude={"text/html"}) == {
        "text/plain": thing.to_text()
    }


@pytest.mark.system
def test_html_has_picture_text_and_a_table_with_heads_and_caption() -> None:
    html = figure_2()._repr_mimebundle_()["text/html"]
    assert html.index("<svg") < html.index("<pre") < html.index("<table>")
    assert re.search(r"<caption[^>]*>Images</caption>", html)
    assert html.count('<th scope="row"') == 9
    assert "64 MiB" in html
    assert html.count("(Active)") == 3 + 3  # in the picture and in the text


@pytest.mark.system
def test_where_styles_and_svg_are_stripped_the_text_figure_is_what_remains() -> None:
    html = figure_2()._repr_mimebundle_()["text/html"]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert re.search(r"\.vmsnap-text \{ display: none; \}", style[1])
    assert re.search(r"\.vmsnap-picture \{ display: block !important;", style[1])
    cleaned = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    assert '<div class="vmsnap-picture" tabindex="0" hidden style="display:none">' in cleaned  # nothing now shows it
    assert re.search(r'<pre class="vmsnap-text"[^>]*>\.-', cleaned)  # and nothing hides this


def test_without_dot_the_html_shows_the_text_and_says_what_to_install(no_dot: None) -> None:
    bundle = figure_2()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "<svg" not in bundle["text/html"]
    assert "<style" not in bundle["text/html"]
    assert "&lt;---" in bundle["text/html"]
    assert "the program dot is not installed" in bundle["text/html"]
    assert "apt install graphviz" in bundle["text/html"]


def test_without_dot_a_picture_is_a_named_error(no_dot: None) -> None:
    with pytest.raises(MissingPartError) as caught:
        figure_svg(figure_of(figure_2(), Options()))
    assert "apt install graphviz" in str(caught.value)


def test_without_the_python_package_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(MissingPartError, match="pip install graphviz"):
        figure_2().to_graphviz()
    assert "pip install graphviz" in figure_2()._repr_mimebundle_()["text/html"]


def test_a_table_of_1000_rows_is_cut_and_says_so(no_dot: None) -> None:
    html = thousand(1)._repr_mimebundle_()["text/html"]
    assert html.count('<th scope="row"') == 60
    assert "940 more rows" in html


@pytest.mark.system
def test_ipython_shows_it() -> None:
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(figure_2())
    assert data["text/plain"] == figure_2().to_text()
    assert data["text/html"].startswith('<div class="vmsnap ')


def test_a_long_command_is_folded_but_never_left_out() -> None:
    xml = "\n".join(["<domain>", *(f"<a{n}/>" for n in range(40)), "</domain>"])
    plan = plan_guests(forest(image("base")), {"g": "/i/g"}, "/i/base", {"g": xml})
    text, html = plan.to_text(), plan._repr_mimebundle_()["text/html"]
    assert "<a7/>" not in text
    assert "… 43 more lines, all in commands[1]" in text
    assert plan.commands[1].count("\n") == 43
    assert "&lt;a7/&gt;" in html
    assert "and 43 more lines" in html
