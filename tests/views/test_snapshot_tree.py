"""Lists of snapshots as a tree and as a table."""

from __future__ import annotations

from support.snapshots import WHEN, domain, drifted, record, world

from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.snapshot import SnapshotList, SnapshotLists


def test_the_frame_of_snapshots_has_its_documented_columns() -> None:
    guest, tree = drifted()
    frame = list_snapshots(guest, tree).to_frame()
    columns = [
        "kind",
        "state",
        "created",
        "parent",
        "current",
        "disks",
        "files",
        "memory_file",
        "exclusive",
        "freed_if_deleted",
        "description",
        "status",
    ]
    assert list(frame.columns) == columns
    assert frame.index.name == "name"
    assert str(frame.dtypes["created"]) == "datetime64[us, UTC]"
    assert str(frame.dtypes["current"]) == "boolean"
    assert frame.loc["a", "created"] == WHEN
    assert frame.loc["c", "files"] == "/i/top.c.qcow2"
    empty = SnapshotList("demo").to_frame()
    assert list(empty.columns) == columns
    assert list(map(str, empty.dtypes)) == list(map(str, frame.dtypes))
    many = SnapshotLists((list_snapshots(guest, tree), SnapshotList("none"))).to_frame()
    assert (many.index.name, list(many.columns)) == ("guest", ["name", *columns])
    assert set(many.index) == {"demo"}


def test_the_tree_of_snapshots_says_where_you_are() -> None:
    guest, tree = drifted()
    found = list_snapshots(guest, tree, gone={"/i/d.mem"})
    text = found.to_text()
    for words in ("(current)", "you are here", "demo: shut off", "STALE", "FILE MISSING", "UNTRACKED", "managed save"):
        assert words in text
    assert text.index("d   ") < text.index("you are here")
    assert "has no snapshots" in SnapshotList("demo").to_text()
    hostile = list_snapshots(guest, tree.edited(records=(record('<x>&"\\N 快照', current=True),)))
    assert '<x>&"\\N 快照' in hostile.to_text()


def test_a_long_line_of_snapshots_folds_its_middle() -> None:
    guest = domain()
    names = [f"s{n:03}" for n in range(300)]
    records = [record(name, parent=names[n - 1] if n else None, current=n == 299) for n, name in enumerate(names)]
    text = list_snapshots(guest, world(guest, *records, tags=tuple(names))).to_text()
    assert "more in between" in text
    assert "you are here" in text
    assert len(text.splitlines()[1]) < 250


def test_tables_say_in_words_what_frames_have_as_terms() -> None:
    guest, tree = drifted()
    taken = record("off", "external", state="shutoff")
    found = list_snapshots(guest, tree.edited(records=(taken,)))
    assert list(found.to_frame().loc["off", ["kind", "state"]]) == ["external-disk", "shutoff"]
    table = found._repr_mimebundle_()["text/html"].partition("<table>")[2]
    assert ">external disk<" in table
    assert ">shut off<" in table
    assert "external-disk" not in table
