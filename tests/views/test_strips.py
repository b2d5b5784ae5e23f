"""Block maps shown: the frame against the pattern that the guest reads, text and picture against the frame."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.maps import UNIT, blockmap
from support.pictures import SVG

import vmsnap_nb as vs
from vmsnap_nb.lab.scenarios import PATTERN_SIZE, build_scenario, pattern_of
from vmsnap_nb.model.blockmap import BlockMap, Extent, LayerMap
from vmsnap_nb.views.strips import Strips, colours_of
from vmsnap_nb.views.strips_svg import strips_svg
from vmsnap_nb.views.svg import least_width


@pytest.mark.system
def test_the_frame_says_from_which_layer_each_part_is_read(tmp_path: Path) -> None:
    """Every layer of the scenario has a pattern of its own, so what is read tells whose it is."""
    build_scenario("merge", tmp_path / "m")
    forest = vs.scan(tmp_path / "m")
    blocks = forest.blockmap("Snap-4")
    frame = blocks.to_frame()
    seen = frame[(frame["kind"] == "data") & ~frame["hidden"]]
    assert len(seen) == 6  # the last layer has two parts
    for row in seen.itertuples():
        command = f"read -q -P {pattern_of(int(row.layer))} {row.start} {row.length}"
        argv = ["qemu-io", "-r", "-f", "qcow2", "-c", command, forest.find("Snap-4")]
        assert subprocess.run(argv, capture_output=True, check=False).returncode == 0, row
    hidden = frame[frame["hidden"]]
    assert list(hidden["image"]) == ["RootBase", "Snap-1", "Snap-2", "Snap-3"]
    assert set(hidden["start"]) == {0}
    assert list(hidden["covered_by"]) == [1, 2, 3, 4]
    assert int(seen["length"].sum()) == 6 * PATTERN_SIZE
    lines = blocks.to_text().splitlines()
    assert lines[1].startswith("guest reads   |401234....")
    assert lines[2].startswith("4 Snap-4      |#....#....")
    assert lines[6].startswith("0 RootBase    |x#....")


def strip(text: str, name: str) -> str:
    return next(line.split("|")[1] for line in text.splitlines() if "|" in line and name in line.split("|")[0])


def test_signs_say_seen_hidden_zero_and_nothing() -> None:
    text = blockmap("ddd.0...", ".d0....0").to_text(cells=8)
    assert strip(text, "guest reads") == "01......"
    assert strip(text, "0 ") == "#xx.0..."
    assert strip(text, "1 ") == ".#0....0"
    coarse = blockmap("dd..", ".d..").to_text(cells=2)
    assert strip(coarse, "guest reads") == "*."
    assert strip(coarse, "0 ") == "%."


def test_what_is_new_since_an_earlier_map_is_marked() -> None:
    before, now = blockmap("dd..0...", ".d......"), blockmap("ddd.dd..", ".dd.....", "......d.")
    marked = now.since(before)
    assert [[(extent.start // UNIT, extent.length // UNIT) for extent in layer] for layer in marked.new] == [
        [(2, 1), (4, 1), (5, 1)],
        [(2, 1)],
        [(6, 1)],
    ]
    assert marked.since(marked).new == ((), (), ())
    text = marked.to_text(cells=8)
    assert [strip(text, f"{layer} ") for layer in range(3)] == ["#x+.++..", ".#+.....", "......+."]
    assert "+ new data" in text
    assert "12 KiB new" in text
    parts = [part.get("class") for part in ET.fromstring(marked.to_svg()).iter(f"{SVG}rect")]
    assert parts.count("new") == 5  # one of them in the legend
    assert 'class="new"' in marked.to_graphviz().source
    assert "+" not in now.since(now).to_text().partition("one character")[0]
    assert "new data" not in now.to_text()


def test_a_narrow_map_has_its_words_above_the_strips() -> None:
    blocks = blockmap("ddd.dd..", ".dd.....", "......d.")
    wide, narrow = (strips_svg(blocks, narrow=narrow) for narrow in (False, True))
    assert least_width(narrow) < 348 < least_width(wide)
    said = [[text.text for text in ET.fromstring(svg).iter(f"{SVG}text")] for svg in (wide, narrow)]
    assert ["2  2" in said[0], "2  2: 4 KiB seen" in said[1]] == [True, True]
    html = blocks._repr_mimebundle_()["text/html"]
    assert f"@container (max-width: {least_width(wide)}px)" in html
    assert narrow in html


def test_the_least_data_of_a_great_disk_is_shown() -> None:
    size = 1 << 40
    blocks = BlockMap((LayerMap("/i/base", size, (Extent(size // 2, UNIT),)),))
    assert strip(blocks.to_text(), "0 base").count("#") == 1
    parts = [one for one in ET.fromstring(blocks.to_svg()).iter(f"{SVG}rect") if one.get("class")]
    assert len(parts) == 2  # what the guest reads, and what the layer holds


def test_every_part_of_the_picture_says_what_it_is() -> None:
    root = ET.fromstring(blockmap("ddd.0...", ".d0....0").to_svg())
    assert root.get("role") == "img"
    assert "the guest reads 4 KiB from 0, 4 KiB from 1" in str(root.get("aria-label"))
    parts = [one for one in root.iter(f"{SVG}rect") if one.get("class")]
    titles = [str(one.findtext(f"{SVG}title")) for one in parts]
    assert {one.get("class") for one in parts} == {"seen", "hidden", "zero"}
    assert any("hidden data" in title and "0" in title for title in titles)
    heights = {kind: {one.get("height") for one in parts if one.get("class") == kind} for kind in ("seen", "hidden")}
    assert not heights["seen"] & heights["hidden"]  # colour is not the only sign


@pytest.mark.parametrize("narrow", [False, True])
def test_a_tooltip_says_where_the_data_is_and_not_where_its_cells_are(narrow: bool) -> None:
    """Two blocks that are not where a cell begins, on a disk that is not cut."""
    lower = "".join("d" if n in {0, 301} else "." for n in range(4001)) + "d"
    blocks = blockmap(lower, "." * 301 + "d" + "." * 3700)
    svg = ET.fromstring(strips_svg(blocks, narrow=narrow))
    titles = [str(one.findtext(f"{SVG}title")) for one in svg.iter(f"{SVG}rect") if one.get("class")]
    places = [title.partition(":")[0] for title in titles]
    first, middle = "0 B to 4 KiB", "4 KiB at 1.18 MiB"
    assert [place for place in places if place != places[-1]] == [first, middle, middle, first, middle]
    assert places[-1] == "4 KiB at 15.6 MiB"


@pytest.mark.parametrize("name", ["<x>", 'a"b', "虚拟机", "it's & so"])
def test_a_hostile_name_is_shown_as_it_is(name: str) -> None:
    blocks = BlockMap((LayerMap(f"/i/{name}", 8 * UNIT, (Extent(0, UNIT),)),))
    bundle = blocks._repr_mimebundle_()
    assert set(bundle) == {"image/svg+xml", "text/html", "text/plain"}
    assert any(name in str(text.text) for text in ET.fromstring(bundle["image/svg+xml"]).iter(f"{SVG}text"))
    assert name in bundle["text/plain"]


def test_an_empty_disk_is_said_to_be_one() -> None:
    assert BlockMap(()).to_text() == "An empty disk"
    assert list(BlockMap(()).to_frame().columns) == list(blockmap("d").to_frame().columns)
    ET.fromstring(BlockMap(()).to_svg())


@pytest.mark.system
def test_a_chain_gives_its_block_map(tmp_path: Path) -> None:
    build_scenario("merge", tmp_path / "m")
    forest = vs.scan(tmp_path / "m")
    path = forest.find("Snap-2")
    found = vs.chain(path).blockmap()
    assert found == forest.chain(path).blockmap() == forest.blockmap(path)
    assert [layer.path for layer in found.layers] == [forest.find(name) for name in ("RootBase", "Snap-1", "Snap-2")]


@pytest.mark.system
def test_the_strips_for_graphviz_say_what_the_svg_says(tmp_path: Path) -> None:
    build_scenario("merge", tmp_path / "m")
    blocks = vs.scan(tmp_path / "m").blockmap(tmp_path / "m" / "Snap-4.qcow2")
    drawn = ET.fromstring(blocks.to_graphviz().pipe(format="svg"))
    found = [
        group for group in drawn.iter(f"{SVG}g") if group.get("class") in {"node seen", "node hidden", "node zero"}
    ]
    titles = {
        element.get("{http://www.w3.org/1999/xlink}title") for group in found for element in group.iter(f"{SVG}a")
    }
    same = {
        rect.findtext(f"{SVG}title") for rect in ET.fromstring(blocks.to_svg()).iter(f"{SVG}rect") if rect.get("class")
    }
    assert len(found) == 6 + 10
    assert {str(title).partition(": ")[2] for title in titles} == {str(title).partition(": ")[2] for title in same}
    written = [element.text for element in drawn.iter(f"{SVG}text")]
    assert {"guest reads", "64 KiB seen, 64 KiB hidden", "64 MiB"} <= set(written)
    hostile = blockmap("d..").to_graphviz()
    assert ET.fromstring(hostile.pipe(format="svg")) is not None


@pytest.mark.system
def test_hostile_names_in_strips_for_graphviz() -> None:
    name = '/i/<x> & "quoted" \\N 虚拟机'
    blocks = BlockMap((LayerMap(name, 4 * UNIT, (Extent(0, UNIT),)),))
    drawn = ET.fromstring(blocks.to_graphviz().pipe(format="svg"))
    assert any('<x> & "quoted" \\N 虚' in (element.text or "") for element in drawn.iter(f"{SVG}text"))
    assert b"An empty disk" in BlockMap(()).to_graphviz().pipe(format="svg")


MIB = 1 << 20


def scattered(*names: str) -> BlockMap:
    """Layers of 1 GiB with data at the beginning and in the middle."""
    extents = (Extent(0, 4 * MIB), Extent(500 * MIB, 8 * MIB))
    return BlockMap(tuple(LayerMap(f"/i/{name}", 1024 * MIB, extents) for name in names))


def test_the_axis_is_cut_to_where_data_is() -> None:
    blocks = scattered("base")
    strips = Strips.of(blocks, 256, cut=True)
    assert [(span.start, span.end) for span in strips.spans] == [(0, 4 * MIB), (500 * MIB, 508 * MIB)]
    svg = ET.fromstring(blocks.to_svg())
    assert len([one for one in svg.iter(f"{SVG}g") if one.get("class") == "cut"]) == 2  # between, and at the end
    said = [str(text.text) for text in svg.iter(f"{SVG}text")]
    assert {"0", "500 MiB", "508 MiB", "1 GiB"} <= set(said)
    titles = {str(one.findtext(f"{SVG}title")).partition(":")[0] for one in svg.iter(f"{SVG}rect") if one.get("class")}
    assert titles == {"0 B to 4 MiB", "500 MiB to 508 MiB"}
    full = BlockMap((LayerMap("/i/a", 8 * UNIT, (Extent(0, 8 * UNIT),)),))
    assert len(Strips.of(full, 256, cut=True).spans) == 1


def test_the_cuts_of_a_narrow_map_leave_out_what_is_written_between_its_strips() -> None:
    blocks = scattered("base", "top")
    cuts = [one.find(f"{SVG}path") for one in ET.fromstring(strips_svg(blocks, narrow=True)).iter(f"{SVG}g")]
    paths = [str(path.get("d")) for path in cuts if path is not None]
    assert len(paths) == 2
    for path in paths:
        lines = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", path)
        assert len(lines) == 2 * 3  # twice through what the guest reads and each layer
        assert all(float(end) - float(top) < 18 for _, top, end in lines)


def test_a_colour_belongs_to_the_image_not_to_its_place() -> None:
    names = ["RootBase", "Snap-1", "Snap-2", "Snap-3"]
    colours = dict(zip(names, colours_of(names), strict=True))
    assert len(set(colours.values())) == 4
    assert dict(zip(names[:2], colours_of(names[:2]), strict=True)) == {name: colours[name] for name in names[:2]}
    assert colours_of(["Snap-2"]) == [colours["Snap-2"]]
    assert len(colours_of([f"{n}" for n in range(30)])) == 30  # more layers than colours


def test_the_legend_is_drawn() -> None:
    svg = ET.fromstring(scattered("base", "top").to_svg())
    legend = [one for one in svg.iter(f"{SVG}g") if one.get("class") == "legend"]
    assert len(legend) == 3
    said = {str(text.text) for text in svg.iter(f"{SVG}text")}
    assert {"data that the guest reads", "hidden data: a layer above covers it", "zeros"} <= said


def test_lines_of_the_text_are_not_wrapped() -> None:
    html = blockmap("d.")._repr_mimebundle_()["text/html"]
    assert 'style="white-space: pre; overflow-x: auto"' in html.partition("<pre")[2].partition(">")[0]


def test_a_layer_says_how_much_of_it_is_seen_and_how_much_is_hidden_but_never_none() -> None:
    lines = blockmap("dd..", "d...", "d...", "....").to_text().splitlines()
    said = [line.rpartition("|")[2].strip() for line in lines[2:6]]
    assert said == ["no data", "4 KiB seen", "4 KiB hidden", "4 KiB seen, 4 KiB hidden"]


def test_the_strips_of_a_narrow_map_take_the_whole_width_of_a_column() -> None:
    svg = ET.fromstring(strips_svg(blockmap("dd.." * 32), narrow=True))
    wide = float(svg.attrib["width"])
    boxes = [one for one in svg.iter(f"{SVG}rect") if one.get("fill") == "none" and one.get("rx") == "2"]
    assert max(float(one.attrib["x"]) + float(one.attrib["width"]) for one in boxes) > 0.9 * wide
    assert 400 <= wide < 470  # 424 pixels: a panel's tab in a window of 600
