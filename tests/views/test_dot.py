"""What Graphviz is given, and how it lays figures out."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from support import ROOT, TESTS
from support.any_forest import forests
from support.forests import figure_2
from support.pictures import SVG, is_a
from support.shown import things

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.svg import figure_svg


def test_the_source_for_graphviz_is_the_same_each_time_and_in_each_process() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from support.forests import figure_2\n"
        "print(figure_2().to_graphviz().source)"
    )
    here = figure_2().to_graphviz().source
    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", program, str(TESTS)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
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

    def span(title: str) -> tuple[float, float]:
        shapes = [one for one in at[title].iter() if one.tag in {f"{SVG}polygon", f"{SVG}path"}]
        outline = shapes[-1] if is_a(at[title], "arrow") else shapes[0]  # an arrow's head is drawn last
        numbers = re.findall(r"-?[\d.]+", outline.get("points", "") + outline.get("d", ""))
        xs = [float(number) for number in numbers[::2]]
        return min(xs), max(xs)

    base, overlay = span("/i/RootBase"), span("/i/Overlay-2")
    head = span("/i/Overlay-2->/i/RootBase")
    assert base[1] < overlay[0]
    assert head[0] == pytest.approx(base[1], abs=1)
    assert head[1] < overlay[0]


def test_without_the_python_package_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(MissingPartError, match="pip install graphviz"):
        figure_2().to_graphviz()
    assert "<svg" in figure_2()._repr_mimebundle_()["text/html"]  # the display in a notebook does not need it


class _Label(HTMLParser):
    """The lines of a label of Graphviz."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._open = False
        self.feed(label)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = self._open and tag == "br"

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag == "br"

    def handle_data(self, data: str) -> None:
        text = data.replace("\\\\", "\\")
        self.said = [*self.said[:-1], self.said[-1] + text] if self._open else [*self.said, text]
        self._open = True


def in_graphviz(source: str) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """What the source says: the lines of each box, by its number, and the kinds of its arrows."""
    boxes = {
        found[1]: Counter(_Label(found[2]).said)
        for found in re.finditer(r'\[id="box-(\d+-\d+)".* label=<(.*)>\]$', source, re.MULTILINE)
    }
    return boxes, Counter(re.findall(r'-> .*\[class="(arrow[^"]*)"', source))


def in_svg(svg: str) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """The same of an SVG."""
    root = ET.fromstring(svg)
    groups = list(root.iter(f"{SVG}g"))
    boxes = {
        str(g.get("data-box")): Counter("".join(text.itertext()) for text in g.iter(f"{SVG}text"))
        for g in groups
        if is_a(g, "box")
    }
    return boxes, Counter(str(g.get("class")) for g in groups if is_a(g, "arrow"))


@given(forests(most=8))
@settings(max_examples=40)
def test_svg_and_graphviz_say_the_same_of_any_forest(tree: Forest) -> None:
    assert in_graphviz(tree.to_graphviz().source) == in_svg(figure_svg(figure_of(tree, Options())))


@pytest.mark.parametrize("kind", things())
def test_svg_and_graphviz_say_the_same_of_every_kind(kind: str) -> None:
    thing = things()[kind]
    boxes, arrows = in_graphviz(thing.to_graphviz().source)
    assert (boxes, arrows) == in_svg(figure_svg(figure_of(thing, Options())))
    assert arrows
    assert all(boxes.values())


@pytest.mark.parametrize("kind", ["none", "folder", "not executable", "no program", "loop", "fails", "no text"])
def test_a_graph_that_graphviz_does_not_draw_is_shown_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    dot, read = tmp_path / "dot", "#!/bin/sh\nwhile read -r line; do :; done\n"
    if kind == "folder":
        dot.mkdir()
    elif kind == "loop":
        dot.symlink_to("dot")
    elif kind != "none":
        dot.write_text({"fails": f"{read}exit 3\n", "no text": f"{read}printf '\\377'\n"}.get(kind, ""))
        dot.chmod(0o644 if kind == "not executable" else 0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    graph = figure_2().to_graphviz()
    shown = graph._repr_mimebundle_()["text/plain"]
    assert shown.startswith("cannot draw this graph with Graphviz (")
    assert shown.endswith(graph.source)
