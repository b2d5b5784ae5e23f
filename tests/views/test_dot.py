"""What Graphviz is given, and how it lays figures out."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support import ROOT, TESTS
from support.forests import figure_2
from support.pictures import SVG, is_a
from support.shown import things

from vmsnap_nb.errors import MissingPartError


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

    def span(title: str, kind: str = "polygon") -> tuple[float, float]:
        points = next(at[title].iter(f"{SVG}{kind}")).get("points", "").split()
        xs = [float(point.split(",")[0]) for point in points]
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
    assert "pip install graphviz" in figure_2()._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    ("program", "mode", "said"),
    [
        ("#!/bin/sh\nexec /bin/sleep 60", 0o755, "dot did not end within 0.2 s"),
        ("#!/bin/sh\necho no fonts >&2; exit 3", 0o755, "no fonts"),
        ("no program", 0o755, "Exec format error"),
        ("#!/bin/sh", 0o644, "Permission denied"),
    ],
)
def test_with_a_dot_that_does_not_work_the_html_shows_the_text_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, mode: int, said: str
) -> None:
    (tmp_path / "dot").write_text(program)
    (tmp_path / "dot").chmod(mode)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("vmsnap_nb.views.svg._SECONDS", 0.2 if "sleep" in program else 60.0)
    bundle = figure_2()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert said in bundle["text/html"]
