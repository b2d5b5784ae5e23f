"""Entries of the journal: what is written is read again, as are entries of an earlier version; nothing else is."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.journal import (
    KINDS,
    Began,
    Entry,
    FileFact,
    InsideEntry,
    MergeEntry,
    PullEntry,
    RecordEntry,
    RevertEntry,
    SnapshotEntry,
    Switch,
    UnknownEntry,
    entry_of,
    kind_of,
    revert_places,
    text_of,
)

# Files as earlier versions have written them, byte for byte, and what they mean.
WRITTEN: list[tuple[str, str, Entry]] = [
    (
        "/i/.vmsnap-merge-6a043319480616d0.json",
        (
            '{\n "version": 1,\n "base": "/i/base.qcow2",\n "top": "/i/b.qcow2",\n "merged": [\n  "/i/a.qcow2",\n'
            '  "/i/b.qcow2"\n ],\n "children": [\n  "/i/c.qcow2"\n ],\n "phase": "copied",\n "remove": true,\n'
            ' "active": false,\n "by_libvirt": true\n}\n'
        ),
        MergeEntry(
            base="/i/base.qcow2",
            top="/i/b.qcow2",
            merged=("/i/a.qcow2", "/i/b.qcow2"),
            children=("/i/c.qcow2",),
            phase="copied",
            remove=True,
            by_libvirt=True,
        ),
    ),
    (
        "/i/.vmsnap-merge-6504698851f111c4.json",
        (
            '{\n "version": 1,\n "base": "/i/\\u5feb\\u7167\\udcff",\n "top": "/i/b",\n "merged": [\n  "/i/b"\n ],\n'
            ' "children": [],\n "phase": "copying",\n "remove": false,\n "active": false,\n "by_libvirt": false\n}\n'
        ),
        MergeEntry(base="/i/快照\udcff", top="/i/b", merged=("/i/b",)),
    ),
    (
        "/i/.vmsnap-merge-6504698851f111c4.json",
        (
            '{\n "version": 2,\n "base": "/i/\\u5feb\\u7167\\udcff",\n "top": "/i/b",\n "merged": [\n  "/i/b"\n ],\n'
            ' "children": [],\n "phase": "copying",\n "remove": false,\n "active": true,\n "by_libvirt": false,\n'
            ' "files": [\n  {\n   "path": "/i/b",\n   "device": 1,\n   "inode": 2,\n   "size": 3,\n   "mtime_ns": 4\n'
            '  }\n ],\n "began": {\n  "user": "root",\n  "uid": 0,\n  "pid": 7,\n  "host": "h",\n'
            '  "at": "2026-11-29T12:00:00+00:00"\n }\n}\n'
        ),
        MergeEntry(
            base="/i/快照\udcff",
            top="/i/b",
            merged=("/i/b",),
            active=True,
            files=(FileFact(path="/i/b", device=1, inode=2, size=3, mtime_ns=4),),
            began=Began(user="root", uid=0, pid=7, host="h", at="2026-11-29T12:00:00+00:00"),
        ),
    ),
    (
        "/i/.vmsnap-pull-9860aefd52987ff7.json",
        (
            '{\n "version": 1,\n "image": "/i/active.qcow2",\n "written": "base.qcow2",\n "format": "qcow2",\n'
            ' "base": "/i/low.qcow2"\n}\n'
        ),
        PullEntry(image="/i/active.qcow2", written="base.qcow2", format="qcow2", base="/i/low.qcow2"),
    ),
    (
        "/i/.vmsnap-pull-9860aefd52987ff7.json",
        (
            '{\n "version": 1,\n "image": "/i/active.qcow2",\n "written": "json:{\\"file.filename\\":\\"/x\\"}",\n'
            ' "format": null,\n "base": null\n}\n'
        ),
        PullEntry(image="/i/active.qcow2", written='json:{"file.filename":"/x"}'),
    ),
    (
        "/i/.vmsnap-inside-9860aefd52987ff7.json",
        (
            '{\n "version": 1,\n "image": "/i/active.qcow2",\n "name": "snap1",\n "change": "delete",\n'
            ' "table": 65536,\n "names": [\n  "snap1"\n ],\n "files": [],\n "began": null\n}\n'
        ),
        InsideEntry(image="/i/active.qcow2", name="snap1", change="delete", table=65536, names=("snap1",)),
    ),
    (
        "/i/.vmsnap-revert-0c0c.json",
        (
            '{\n "version": 1,\n "folder": "/i",\n "guest": "demo",\n "uuid": "0c0c",\n "name": "snap1",\n'
            ' "to": "off",\n "kept": "kept1",\n "discards": [\n  "/i/top"\n ]\n}\n'
        ),
        RevertEntry(folder="/i", guest="demo", uuid="0c0c", name="snap1", to="off", kept="kept1", discards=("/i/top",)),
    ),
    (
        "/i/.vmsnap-revert-0c0c.json",
        (
            '{\n "version": 1,\n "folder": "/i",\n "guest": "demo",\n "uuid": "0c0c",\n "name": "snap1",\n'
            ' "to": "as-taken",\n "kept": null,\n "discards": []\n}\n'
        ),
        RevertEntry(folder="/i", guest="demo", uuid="0c0c", name="snap1", to="as-taken"),
    ),
    (
        "/i/.vmsnap-record-1be62af1f023fc5d.json",
        (
            '{\n "version": 1,\n "folder": "/i",\n "guest": "demo",\n "uuid": "0c0c",\n "name": "snap1",\n'
            ' "xml": "<domainsnapshot/>",\n "current": true\n}\n'
        ),
        RecordEntry(folder="/i", guest="demo", uuid="0c0c", name="snap1", xml="<domainsnapshot/>", current=True),
    ),
    (
        "/i/.vmsnap-snapshot-0c0c.json",
        (
            '{\n "version": 1,\n "guest": "demo",\n "uuid": "0c0c",\n "name": "snap1",\n "disks": [\n  {\n'
            '   "target": "vda",\n   "source": "/i/top",\n   "file": "/j/new"\n  }\n ]\n}\n'
        ),
        SnapshotEntry(
            guest="demo", uuid="0c0c", name="snap1", disks=(Switch(target="vda", source="/i/top", file="/j/new"),)
        ),
    ),
]
SAMPLES = {entry.kind: (path, json.loads(text)) for path, text, entry in reversed(WRITTEN)}

_NO_TEXT = (None, 3, True, [], {}, "\ud800")
_NO_TRUTH = (None, 0, 1, "true", [])
_NO_PATH = (*_NO_TEXT, "", "relative", "/i/a\0")
_NO_PATHS = (None, "/i/b.qcow2", {"/i/b.qcow2": 1}, *([bad] for bad in _NO_PATH))
_NO_TEXTS = (None, "/i/top", {}, *([bad] for bad in _NO_TEXT))
_FILE = {"path": "/i/a", "device": 1, "inode": 2, "size": 3, "mtime_ns": 4}
_NO_FILES = (None, {}, [3], [{}], *([{**_FILE, **bad}] for bad in ({"inode": "2"}, {"path": "relative"}, {"x": 1})))
_NO_BEGIN = (3, [], {}, {"uid": 0})
MALFORMED: dict[str, dict[str, tuple[Any, ...]]] = {
    "inside": {
        "image": (*_NO_PATH, "/i/other"),
        "name": _NO_TEXT,
        "change": (None, "", "commit", 1, ["delete"]),
        "table": (None, "65536", True, 1.0, []),
        "names": _NO_TEXTS,
        "files": _NO_FILES,
        "began": _NO_BEGIN,
    },
    "merge": {
        "base": (*_NO_PATH, "/i/other"),
        "top": (*_NO_PATH, "/i/a.qcow2"),
        "merged": (*_NO_PATHS, [], ["/i/b.qcow2", "/i/a.qcow2"], ["/i/b.qcow2"]),
        "children": _NO_PATHS,
        "phase": (None, "", "marking", 1, True, ["copied"]),
        "remove": _NO_TRUTH,
        "active": _NO_TRUTH,
        "by_libvirt": _NO_TRUTH,
        "guest": _NO_TEXT,
        "uuid": _NO_TEXT,
        "files": _NO_FILES,
        "began": _NO_BEGIN,
    },
    "pull": {
        "image": (*_NO_PATH, "/i/other"),
        "written": _NO_TEXT,
        "format": _NO_TEXT[1:],
        "base": _NO_PATH[1:],
        "files": _NO_FILES,
        "began": _NO_BEGIN,
    },
    "record": {
        "folder": (*_NO_PATH, "/elsewhere"),
        "guest": _NO_TEXT,
        "uuid": (*_NO_TEXT, "0d0d", "../0c0c"),
        "name": (*_NO_TEXT, "snap2"),
        "xml": _NO_TEXT,
        "current": _NO_TRUTH,
    },
    "revert": {
        "folder": (*_NO_PATH, "/elsewhere"),
        "guest": _NO_TEXT,
        "uuid": (*_NO_TEXT, "0d0d", "../0c0c"),
        "name": _NO_TEXT,
        "to": (None, "", "asleep", 1, ["off"]),
        "kept": _NO_TEXT[1:],
        "discards": _NO_TEXTS,
        "files": _NO_FILES,
    },
    "snapshot": {
        "guest": _NO_TEXT,
        "uuid": (*_NO_TEXT, "0d0d", "../0c0c"),
        "name": _NO_TEXT,
        "files": _NO_FILES,
        "disks": (
            *(None, [], {}, "vda", [None], [{}], [["vda", "/i/top", "/j/new"]]),
            [{"target": "vda", "source": "/i/top"}],
            [{"target": "vda", "source": "/j/top", "file": "/j/new"}],
            [{"target": "vda", "source": "/i/top", "file": "/j/new", "more": ""}],
            *([{"target": bad, "source": "/i/top", "file": "/j/new"}] for bad in _NO_TEXT),
            *([{"target": "vda", "source": "/i/top", "file": bad}] for bad in _NO_PATH),
        ),
        "made": _NO_PATHS,
    },
}


@pytest.mark.parametrize(("path", "text", "entry"), WRITTEN)
def test_the_first_version_is_read_and_still_written(path: str, text: str, entry: Entry) -> None:
    assert entry.path == path
    assert entry_of(path, text) == entry
    assert entry_of(path, text_of(entry)) == entry


def test_each_kind_of_entry_and_each_field_has_its_case() -> None:
    assert SAMPLES.keys() == MALFORMED.keys() == KINDS.keys()
    assert {kind: {field.name for field in fields(cls)} for kind, cls in KINDS.items()} == {
        kind: set(cases) for kind, cases in MALFORMED.items()
    }


@pytest.mark.parametrize(
    ("kind", "field", "bad"),
    [(kind, field, bad) for kind, cases in MALFORMED.items() for field, values in cases.items() for bad in values],
)
def test_a_malformed_field_is_refused(kind: str, field: str, bad: object) -> None:
    path, values = SAMPLES[kind]
    assert entry_of(path, json.dumps(values)) is not None
    assert not isinstance(entry_of(path, json.dumps({**values, field: bad})), Entry)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_field_has_its_default_or_there_is_no_entry(kind: str) -> None:
    path, values = SAMPLES[kind]
    whole = entry_of(path, json.dumps(values))
    assert isinstance(whole, KINDS[kind])
    for field in fields(whole):
        rest = {name: value for name, value in values.items() if name != field.name}
        expected = None if field.default is MISSING else replace(whole, **{field.name: field.default})
        assert entry_of(path, json.dumps(rest)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_is_not_known_is_refused(kind: str) -> None:
    path, values = SAMPLES[kind]
    assert entry_of(path, json.dumps({**values, "since": "yesterday"})) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [None, True, 1.0, "1", [1], 0, -1])
def test_a_version_that_is_none_is_refused(kind: str, version: object) -> None:
    path, values = SAMPLES[kind]
    assert entry_of(path, json.dumps({**values, "version": version})) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_version_is_reported_and_not_acted_on(kind: str) -> None:
    path, values = SAMPLES[kind]
    for text in (json.dumps({**values, "version": 4}), '{"version": 4, "what": "nobody knows"}'):
        entry = entry_of(path, text)
        assert entry == UnknownEntry(path=path, version=4)
        assert not isinstance(entry, Entry)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[1]", "null", '"version"', '{"version": 1}', "[" * 100_000, '{"version": 1' + "0" * 5000]
)
def test_what_is_no_entry(kind: str, text: str) -> None:
    path, values = SAMPLES[kind]
    assert entry_of(path, text) is None
    assert entry_of(path, json.dumps(values)[:-1]) is None, "not written to its end"


def test_an_entry_is_read_in_its_own_place_alone() -> None:
    for path, text, _ in WRITTEN:
        folder, _, name = path.rpartition("/")
        for other in (
            f"{folder}/copy-of-{name}",
            f"{path}.partial",
            path.replace(".json", "0.json"),
        ):
            assert entry_of(other, text) is None
        moved = UnknownEntry(path=f"/elsewhere/{name}", version=json.loads(text)["version"], folder=folder)
        assert entry_of(moved.path, text) == replace(moved, is_elsewhere=True)
        assert entry_of(moved.path, text, lambda _: True) == moved
        for kind in KINDS:
            if kind_of(path) != kind:
                assert entry_of(f"{folder}/.vmsnap-{kind}-0c0c.json", text) is None


def test_the_same_merge_or_pull_has_the_same_place() -> None:
    _, _, entry = WRITTEN[0]
    assert isinstance(entry, MergeEntry)
    assert replace(entry, phase="copying", children=(), remove=False, active=True).path == entry.path
    assert replace(entry, merged=("/i/b.qcow2",)).path != entry.path
    pull = PullEntry(image="/i/a", written="b")
    assert replace(pull, written="c", base="/i/c").path == pull.path
    assert pull.before.path == "/i/b"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/i/.vmsnap-merge-00.json", "merge"),
        (".vmsnap-revert-0c0c.json", "revert"),
        (".vmsnap-revert-0c0c.json.partial", None),
        (".vmsnap-reverted.json", None),
        ("vmsnap-pull-00.json", None),
        ("", None),
    ],
)
def test_the_name_of_a_file_tells_the_kind(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_the_revert_of_a_guest_may_be_wherever_it_has_or_had_images() -> None:
    domain = Domain("demo", "0c0c", disks=(Disk("vda", "/a/top"), Disk("vdb", "/b/data"), Disk("vdc", "nbd://h/x")))
    held = (SnapshotDisk("vda", "external", "/c/base", "/a/top"), SnapshotDisk("vdb", "no"))
    record = SnapshotRecord("demo", "snap1", disks=held)
    assert revert_places(domain, [record]) == tuple(f"/{folder}/.vmsnap-revert-0c0c.json" for folder in "abc")


# --- a kind of entry that is to come ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    inode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyEntry(Entry):
    """Has each type of field that an entry may have."""

    kind = "copy"  # type: ignore[assignment]

    began: float
    ranges: tuple[tuple[int, int], ...]
    part: Part
    parts: tuple[Part, ...] = ()
    phase: Literal["one", 2] = 2

    @property
    def path(self) -> str:
        return "/i/.vmsnap-copy-0.json"


@pytest.mark.parametrize(
    ("bad", "value"),
    [
        ("began", 1),
        ("ranges", [[1]]),
        ("ranges", [[1, 2, 3]]),
        ("ranges", [[1, "2"]]),
        ("ranges", [1, 2]),
        ("part", None),
        ("part", {}),
        ("part", {"name": "a", "inode": "7"}),
        ("part", {"name": "a", "other": 1}),
        ("parts", [{"name": 3}]),
        ("phase", 2.0),
        ("phase", True),
    ],
)
def test_fields_of_a_new_kind_are_checked_by_their_types(
    monkeypatch: pytest.MonkeyPatch, bad: str, value: object
) -> None:
    monkeypatch.setitem(KINDS, "copy", CopyEntry)  # type: ignore[arg-type]
    entry = CopyEntry(began=1.5, ranges=((1, 2), (3, 4)), part=Part(name="a"), parts=(Part(name="b", inode=7),))
    assert entry_of(entry.path, text_of(entry)) == entry
    assert entry_of(entry.path, json.dumps({**json.loads(text_of(entry)), bad: value})) is None


# --- anything at all ----------------------------------------------------------------------------------------

_TEXTS = st.text() | st.sampled_from(["/i", "/i/a", "/i/b", "copied", "off", "0c0c"])
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3))
_PATHS = st.lists(_TEXTS.map(lambda name: f"/i/{name}"), min_size=1, max_size=3)


@st.composite
def _objects(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A sample in which some fields are replaced by anything."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    path, values = SAMPLES[kind]
    return path, {**values, **draw(st.dictionaries(st.sampled_from([*values]), _JSON | _PATHS, max_size=3))}


@given(st.sampled_from([path for path, _, _ in WRITTEN]), st.text() | _JSON.map(json.dumps))
def test_no_text_raises(path: str, text: str) -> None:
    assert entry_of(path, text) is None or isinstance(entry_of(path, text), UnknownEntry)


@given(_objects())
def test_no_object_raises_and_what_is_read_is_whole(given_: tuple[str, dict[str, Any]]) -> None:
    path, values = given_
    entry = entry_of(path, json.dumps(values))
    if isinstance(entry, Entry):
        assert entry.path == path
        assert entry.is_sound
        assert {**json.loads(text_of(entry)), **values} == {**json.loads(text_of(entry)), "version": 1}
        assert entry_of(path, text_of(entry)) == entry
