"""Files and changes as trees of text, as tables, and as what a notebook shows."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pytest
from support.pictures import SVG, is_a, texts
from support.shown import HOSTILE

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.files import DiskLayer, FileChange, FileChanges, FileEntry, FilePart, FileParts, Files
from vmsnap_nb.views.changes_figure import place_changes
from vmsnap_nb.views.disk_layers import layer_rows

NOON = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()) * 10**9


def entry(path: str, **fields: object) -> FileEntry:
    return FileEntry(path, **({"mtime_ns": NOON, "mode": 0o644, "uid": 0, "gid": 0} | fields))  # type: ignore[arg-type]


FILES = Files(
    "Top",
    (
        entry("/etc", kind="folder", mode=0o755),
        entry("/etc/link", kind="link", target="motd", mode=0o777, size=4),
        entry("/etc/motd", size=12),
        entry("/usr/share/快照\n\udcff\u202e", size=2048),
        entry("p2:/EFI/shim.efi", size=5, mode=None, uid=None, gid=None, volume="p2"),
    ),
    notes=("its journal has changes that are not in place",),
)
CHANGES = FileChanges(
    "Top",
    "monday",
    "now",
    (
        FileChange("/etc/added", "added", None, entry("/etc/added", size=5), "Top"),
        FileChange("/etc/motd", "changed", entry("/etc/motd", size=5), entry("/etc/motd", size=2048), "Top"),
        FileChange("/etc/shadow", "metadata", entry("/etc/shadow"), entry("/etc/shadow", mode=0o600)),
        FileChange("/gone", "removed", entry("/gone", size=7)),
        FileChange("/home/new", "renamed", entry("/home/old"), entry("/home/new")),
    ),
)


def test_a_tree_of_files() -> None:
    assert FILES.to_text().splitlines() == [
        "5 files on Top",
        "/etc/                                                drwxr-xr-x  2026-11-29 12:00:00",
        "  link                                          4 B  lrwxrwxrwx  2026-11-29 12:00:00 → motd",
        "  motd                                         12 B  -rw-r--r--  2026-11-29 12:00:00",
        "/usr/share/",
        "  快照\\n\\xff\\u202e                            2 KiB  -rw-r--r--  2026-11-29 12:00:00",
        "p2:/EFI/",
        "  shim.efi                                      5 B              2026-11-29 12:00:00",
        "",
        "* its journal has changes that are not in place",
    ]


def test_a_tree_of_changes() -> None:
    assert CHANGES.to_text().splitlines() == [
        "From monday to now: 5 changes  (+ added  ~ changed  - removed  > renamed  * metadata)",
        "/etc/",
        "  + added                                5 B  [Top]",
        "  ~ motd                                 5 B → 2 KiB  [Top]",
        "  * shadow                               -rw-r--r-- → -rw-------",
        "- /gone                                  7 B",
        "/home/",
        "  > new                                  before /home/old",
    ]


def test_frames_have_the_same_columns_and_kinds_without_rows() -> None:
    for full, bare in ((FILES, Files("x")), (CHANGES, FileChanges("x")), (FileParts("x", "/a", PARTS), FileParts("x"))):
        one, other = full.to_frame(), bare.to_frame()
        assert list(one.columns) == list(other.columns)
        assert one.dtypes.equals(other.dtypes)
        assert one.index.name == other.index.name
        assert (len(one), len(other)) == (len(full), 0)
    frame = CHANGES.to_frame()
    assert frame.loc["/etc/motd", "size_after"] == 2048
    assert frame.loc["/gone", "size_after"] is pd.NA
    assert frame.loc["/gone", "mtime_before"] == pd.Timestamp("2026-11-29 12:00", tz="UTC")


PARTS = (FilePart(0, 4096, 1, "Top", "data", 8192), FilePart(4096, 100, None, "", "zero"))


def test_a_notebook_shows_tree_table_and_notes() -> None:
    bundle = FILES._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    html = bundle["text/html"]
    assert "not in place" in html
    assert '<th scope="row"' in html
    assert "/etc/motd" in html
    assert "\u202e" not in html
    evil = Files("x", (entry('/<script>&"'),))._repr_mimebundle_()["text/html"]
    assert "<script>" not in evil
    assert set(FILES._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}


def test_empty_states() -> None:
    assert Files("Top").to_text() == "0 files on Top"
    assert FileChanges("Top", "a", "b").to_text() == "From a to b: 0 changes"
    assert repr(FileChanges("Top", "a", "b")) == "<FileChanges from a to b: nothing changed>"


def test_much_is_cut_and_says_so() -> None:
    many = Files("Top", tuple(entry(f"/f{number:04}") for number in range(1000)))
    lines = many.to_text().splitlines()
    assert len(lines) < 210
    assert lines[-1] == "… 800 more rows; to_frame() lists all"


def test_deep_paths_need_no_recursion() -> None:
    deep = "/" + "/".join(["d"] * 5000)
    assert Files("Top", (entry(deep),)).to_text().count("\n") == 2


def test_files_are_asked_by_path_and_number() -> None:
    assert FILES["/etc/motd"] is FILES[2]
    assert "/etc/motd" in FILES
    assert "/nowhere" not in FILES
    assert [one.name for one in FILES][:2] == ["etc", "link"]
    assert CHANGES["/gone"].kind == "file"
    assert entry("/a", mtime_ns=10**30).mtime is None


def rows_of(changes: FileChanges, kind: str) -> list[list[str]]:
    groups = (group for group in ET.fromstring(changes.to_svg()).iter(f"{SVG}g") if is_a(group, "row"))
    return [texts(ET.tostring(group)) for group in groups if is_a(group, kind)]


def test_a_picture_of_changes_has_a_row_for_each_with_sign_and_size() -> None:
    svg = CHANGES.to_svg()
    assert texts(svg)[:2] == ["From monday to now: 5 changes", "+ 1 added"]
    assert rows_of(CHANGES, "folder") == [["/etc/"], ["/home/"]]
    assert rows_of(CHANGES, "added") == [["+", "added", "5 B  [Top]"]]
    assert rows_of(CHANGES, "changed") == [["~", "motd", "5 B → 2 KiB  [Top]"]]
    assert rows_of(CHANGES, "removed") == [["−", "/gone", "7 B"]]
    hostile = FileChange("/<b>\u202e&快照", "added", None, entry("/x", size=1))
    assert rows_of(FileChanges("Top", "a", "b", (hostile,)), "added") == [["+", "/<b>\\u202e&快照", "1 B"]]
    bundle = CHANGES._repr_mimebundle_()
    assert bundle["image/svg+xml"] == svg
    assert svg in bundle["text/html"]
    assert "From monday to now: 5 changes  (+ added" in bundle["text/html"]


def layer(name: str, *states: str) -> DiskLayer:
    both = states or ("before", "after")
    return DiskLayer(name, f"/i/{name}", both, allocated=3 << 20, virtual_size=1 << 30)  # type: ignore[arg-type]


STACK = replace(CHANGES, layers=(layer("Base"), layer("Old", "before"), layer("Mid", "after"), layer("Top", "after")))


def boxes_of(changes: FileChanges, kind: str = "box") -> list[list[str]]:
    groups = (group for group in ET.fromstring(changes.to_svg()).iter(f"{SVG}g") if is_a(group, "box"))
    return [texts(ET.tostring(group)) for group in groups if is_a(group, kind)]


def test_the_layers_are_at_the_left_of_what_changed_the_newest_at_the_top() -> None:
    size = "3 MiB of 1 GiB"
    assert boxes_of(STACK) == [
        ["Top", size, "now", "2 changes"],
        ["Mid", size],
        ["Old", size, "monday"],
        ["Base", size],
    ]
    assert [name for name, *_ in boxes_of(STACK, "active")] == ["Top", "Mid"]
    root = ET.fromstring(STACK.to_svg())
    right = max(
        float(box[1].get("x", "")) + float(box[1].get("width", "")) for box in root.iter(f"{SVG}g") if is_a(box, "box")
    )
    rows = [row for row in root.iter(f"{SVG}g") if is_a(row, "row")]
    assert right < min(float(part.get("x", "inf")) for row in rows for part in row.iter())
    assert sum(is_a(group, "arrow") for group in root.iter(f"{SVG}g")) == 3
    assert boxes_of(CHANGES) == []
    assert STACK.to_text().splitlines()[-5:] == [
        "Layers, base first",
        "  Base  1 GiB, 3 MiB on disk",
        "  Old   1 GiB, 3 MiB on disk  monday",
        "> Mid   1 GiB, 3 MiB on disk",
        "> Top   1 GiB, 3 MiB on disk  now  2 changes",
    ]
    assert texts(replace(STACK, notes=("its journal is in use",)).to_svg())[-1] == "Its journal is in use"
    alone = replace(STACK, before="Old", after="Top")
    assert ["Top", size, "2 changes"] in boxes_of(alone)  # the heading names the state


def test_layers_in_the_middle_of_a_long_chain_are_folded() -> None:
    names = [f"layer{number}" for number in range(30)]
    long = replace(CHANGES, layers=(*map(layer, names), layer("Top", "after")))
    assert [name for name, *_ in boxes_of(long)] == ["Top", "layer29", "28 more layers", "layer0"]
    assert "\n  … 28 more layers …\n" in long.to_text()


@pytest.mark.system
def test_the_picture_for_graphviz_says_what_the_svg_says() -> None:
    hostile = [layer(name, "after") for name in HOSTILE.values()]
    changes = tuple(FileChange(f"/{name}", "added", None, entry("/x", size=1)) for name in sorted(HOSTILE.values()))
    noted = replace(STACK, notes=("a note " * 40, "它的日志" * 60))
    for thing in (STACK, noted, CHANGES, FileChanges("x"), replace(CHANGES, changes=changes, layers=tuple(hostile))):
        done = subprocess.run(
            ["dot", "-Tsvg"], input=thing.to_graphviz().source, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        found, same = ("".join("".join(texts(svg)).split()) for svg in (done.stdout, thing.to_svg()))
        assert Counter(found) == Counter(same)
    assert STACK.to_png(zoom=1)[:4] == b"\x89PNG"
    with pytest.raises(InvalidRequestError, match="zoom"):
        STACK.to_png(zoom=0)


def test_a_picture_counts_what_it_does_not_draw() -> None:
    def many(folders: int, files: int) -> FileChanges:
        paths = [f"/d{folder:02}/{file:02}" for folder in range(folders) for file in range(files)]
        return FileChanges("Top", "a", "b", tuple(FileChange(path, "added", None, entry(path)) for path in paths))

    assert len(rows_of(many(1, 7), "added")) == 7
    assert len(rows_of(many(1, 8), "added")) == 6
    assert rows_of(many(1, 8), "more") == [["… 2 more changes", "+ 2"]]
    crowd = many(90, 30)
    drawn = len(rows_of(crowd, "added"))
    counted = [int(name.split()[1]) for name, _ in rows_of(crowd, "more")]
    assert drawn + sum(counted) == 90 * 30
    assert drawn + len(counted) < 60


def test_lines_of_a_tree_are_not_wrapped() -> None:
    """A page of JupyterLab wraps other text; columns would no longer lie below each other."""
    for thing in (FILES, CHANGES):
        html = thing._repr_mimebundle_()["text/html"]
        assert 'style="white-space: pre; overflow-x: auto"' in html.partition("<pre")[2].partition(">")[0]


@pytest.mark.parametrize(
    "stack", [STACK, *(replace(CHANGES, layers=tuple(layer(f"L{n}") for n in range(count))) for count in range(2, 9))]
)
def test_each_layer_of_a_narrow_picture_points_to_the_one_below(stack: FileChanges) -> None:
    picture = place_changes(stack, narrow=True)
    boxes = {box.key: box for box in picture.boxes}
    below = {(0, place): (0, row.below) for place, row in enumerate(layer_rows(stack)[:-1])}
    assert {route.tail: route.head for route in picture.routes} == below
    for route in picture.routes:
        (x, y), (end, level) = route.corners[0], route.corners[-1]
        tail, head = boxes[route.tail], boxes[route.head]
        assert tail.left <= x <= tail.right
        assert tail.top <= y <= tail.bottom
        assert head.left <= end <= head.right
        assert head.top <= level <= head.bottom
