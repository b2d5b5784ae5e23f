"""References between images: parsed as QEMU parses them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmsnap_nb.model.address import address_of
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.reference import Reference, parse_reference

FILE = {"driver": "file", "filename": "/i/base.qcow2"}


def resolved(written: str, folder: str = "/images/vm", format: str | None = None) -> tuple[str, str | None, str | None]:
    reference = parse_reference(written, folder=folder, format=format)
    assert reference.written == written
    assert reference.key == (reference.path or written)
    return reference.kind, reference.path, reference.format


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("base.qcow2", "/images/vm/base.qcow2"),
        ("./base.qcow2", "/images/vm/base.qcow2"),
        ("../base.qcow2", "/images/base.qcow2"),
        ("../../../../base", "/base"),
        ("sub//dir/./base", "/images/vm/sub/dir/base"),
        ("./nbd:base", "/images/vm/nbd:base"),
        ("sub/a:b", "/images/vm/sub/a:b"),
        ("with space.img", "/images/vm/with space.img"),
        ("\"quoted\" 'name'", "/images/vm/\"quoted\" 'name'"),
        ("two\nlines", "/images/vm/two\nlines"),
        ("虚拟机/快照.qcow2", "/images/vm/虚拟机/快照.qcow2"),
        ("%20", "/images/vm/%20"),
        ("json", "/images/vm/json"),
        (".hidden", "/images/vm/.hidden"),
        ("a..b", "/images/vm/a..b"),
        ("\udcff\udcfe", "/images/vm/\udcff\udcfe"),
    ],
)
def test_a_relative_name_is_beside_the_image(written: str, path: str) -> None:
    assert resolved(written, format="raw") == ("relative", path, "raw")
    assert resolved(written, folder="/images/vm")[2] is None


@pytest.mark.parametrize(
    ("written", "path"),
    [("/i/base", "/i/base"), ("//i///base", "/i/base"), ("/i/../j/base", "/j/base"), ("/i/a:b", "/i/a:b"), ("/", "/")],
)
def test_an_absolute_name_stays_absolute(written: str, path: str) -> None:
    assert resolved(written) == ("absolute", path, None)


def test_relative_in_the_root_folder() -> None:
    assert resolved("base", folder="/") == ("relative", "/base", None)


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("file:/i/base", "/i/base"),
        ("file:///i/base", "/i/base"),
        ("file:/i/a b%20c", "/i/a b%20c"),
        ("file:base", None),  # QEMU takes it from the folder in which it was started
        ("file:", None),
    ],
)
def test_what_follows_file_is_a_name(written: str, path: str | None) -> None:
    assert resolved(written, format="qcow2") == ("file:", path, "qcow2")


@pytest.mark.parametrize(
    "written",
    [
        "nbd://box:10809/disk",
        "nbd:unix:/run/nbd.sock",
        "nbd+unix:///disk?socket=/run/nbd.sock",
        "ssh://user@box/disk",
        "https://box/disk.qcow2",
        "rbd:pool/disk",
        "gluster://box/volume/disk",
        "iscsi://box/target/0",
        "fat:/etc",
        "fat:rw:/etc",
        "blkdebug::/i/base",
        "blkverify:/i/base:/i/copy",
        "a:b",
        "C:\\disk.img",
        ":x",
    ],
)
def test_protocols_are_remote(written: str) -> None:
    assert resolved(written) == ("remote", None, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"driver": "qcow2", "file": FILE}, ("json:", "/i/base.qcow2", "qcow2")),
        (
            {"driver": "qcow2", "file.driver": "file", "file.filename": "/i/base.qcow2"},
            ("json:", "/i/base.qcow2", "qcow2"),
        ),
        ({"file": {"filename": "/i/base.qcow2"}}, ("json:", "/i/base.qcow2", None)),
        ({"file.filename": "/i/x/../base.qcow2"}, ("json:", "/i/base.qcow2", None)),
        ({"driver": "raw", "offset": 512, "file": FILE}, ("json:", "/i/base.qcow2", "raw")),
        (FILE, ("json:", "/i/base.qcow2", None)),
        ({"driver": "qcow2", "file": {"driver": "copy-on-read", "file": FILE}}, ("json:", "/i/base.qcow2", "qcow2")),
        (
            {"driver": "raw", "file": {"driver": "host_device", "filename": "/dev/vg/lv"}},
            ("json:", "/dev/vg/lv", "raw"),
        ),
        ({"file": {"filename": "nbd://box/disk"}}, ("json:", None, None)),  # a file of that name, and relative
        ({"driver": "qcow2", "file": {"driver": "file", "filename": "base.qcow2"}}, ("json:", None, "qcow2")),
        ({"driver": "qcow2", "file": {"driver": "nbd", "server.type": "inet"}}, ("remote", None, "qcow2")),
        ({"driver": "raw", "file": {"driver": "https", "url": "https://box/x"}}, ("remote", None, "raw")),
        (
            {"driver": "raw", "file": {"driver": "ssh", "path": "/x", "server": {"host": "box"}}},
            ("remote", None, "raw"),
        ),
        ({"driver": "rbd", "pool": "p", "image": "i"}, ("remote", None, None)),
        ({"driver": "quorum", "children.0": "x"}, ("remote", None, None)),
        ({"driver": ["file"], "filename": "/i/x"}, ("remote", None, None)),
        ({"driver": "qcow2", "file": "node-name"}, ("remote", None, None)),
        ({"driver": "raw", "file": {"driver": "file", "filename": 5}}, ("json:", None, "raw")),
        ({"driver": "raw", "file": {"driver": "file", "filename": "/a\0b"}}, ("json:", None, "raw")),
        ({"driver": "raw", "file": {"driver": "file", "filename": "/\ud800"}}, ("json:", None, "raw")),
        ({}, ("json:", None, None)),
    ],
)
def test_json_leads_to_the_file_that_it_describes(
    options: dict[str, object], expected: tuple[str, str | None, str | None]
) -> None:
    assert resolved("json:" + json.dumps(options)) == expected


def test_json_as_qemu_writes_and_reads_it() -> None:
    # QEMU's own reader has strings in single quotes, too (qobject/json-lexer.c).
    assert resolved("json:{'driver':'raw','file.filename':'/i/a\"b'}") == ("json:", '/i/a"b', "raw")
    assert resolved("json:{'file.filename':'/i/it\\'s'}") == ("json:", "/i/it's", None)
    # The header's own format comes before the one in the JSON.
    assert resolved('json:{"driver":"qcow2","file.filename":"/i/b"}', format="raw") == ("json:", "/i/b", "raw")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "{'a':", "{" * 5000, "[" * 5000, '{"a":1}x', '{"driver":}'])
def test_broken_json_leads_nowhere(text: str) -> None:
    assert resolved("json:" + text) == ("json:", None, None)


@given(st.text(), st.sampled_from(["", "/", "file:", "json:", "json:{'file.filename':'", "nbd:", "../"]))
def test_any_text_has_a_reference(text: str, start: str) -> None:
    reference = parse_reference(start + text, folder="/images")
    assert reference.written == start + text
    if reference.path is not None:
        assert reference.path.startswith("/")
        assert "/../" not in reference.path + "/"
        assert not reference.path.startswith("//")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_json_has_a_reference(value: object) -> None:
    assert parse_reference("json:" + json.dumps(value), folder="/images").kind in {"json:", "remote"}


def test_what_is_built_equals_what_is_constructed() -> None:
    reference = parse_reference("a", folder="/")
    assert reference == Reference("a", "relative", "/a")
    assert hash(reference) == hash(Reference("a", "relative", "/a"))
    assert repr(reference) == repr(Reference("a", "relative", "/a"))
    image = Image.build({"path": "/x", "backing": reference})
    assert image == Image("/x", backing=reference)
    assert dataclasses.replace(image, format="raw") == Image("/x", "raw", backing=reference)
    assert dataclasses.asdict(image) == dataclasses.asdict(Image("/x", backing=reference))
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.path = "/y"  # type: ignore[misc]
    assert InternalSnapshot.build({"id": "1", "name": "a"}) == InternalSnapshot("1", "a")


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({"driver": "qcow2", "file": {"driver": "file", "filename": "/a"}}, True),
        ({"driver": "raw", "file.driver": "host_device", "file.filename": "/dev/sdb"}, True),
        (
            {"driver": "qcow2", "file": {"driver": "file", "filename": "/a", "locking": "off"}, "cache.direct": True},
            True,
        ),
        ({"driver": "file", "filename": "/a"}, True),
        ({"driver": "raw", "offset": 0, "file": {"driver": "file", "filename": "/a"}}, False),
        ({"driver": "raw", "size": 512, "file": {"driver": "file", "filename": "/a"}}, False),
        ({"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": "/a"}}, False),
        ({"driver": "qcow2", "encrypt.key-secret": "s", "file": {"driver": "file", "filename": "/a"}}, False),
        ({"driver": "throttle", "file": {"driver": "file", "filename": "/a"}}, False),
        ({"driver": "raw", "file": {"driver": "qcow2", "file": {"driver": "file", "filename": "/a"}}}, False),
        ({"driver": "qcow2", "data-file": {"driver": "file", "filename": "/b"}, "file.filename": "/a"}, False),
        ({"driver": "nbd", "host": "box"}, False),
    ],
)
def test_a_reference_is_plain_if_nothing_is_lost_when_it_is_written_anew(options: object, plain: bool) -> None:
    assert parse_reference("json:" + json.dumps(options), folder="/i").is_plain is plain
    assert parse_reference("/i/a", folder="/i").is_plain


@pytest.mark.parametrize("level", ["", "file.", "file.file."])
def test_a_file_of_which_a_part_is_read_has_no_format_of_that_part(level: str) -> None:
    depth = level.count(".")
    node: dict[str, object] = {"driver": "file", "filename": "/a.ova"}
    for at in range(depth, -1, -1):
        node = {"driver": "vmdk" if at < depth else "raw", "file": node, **({"offset": 512} if at == depth else {})}
    written = "json:" + json.dumps(node)
    assert parse_reference(written, folder="/", format="vmdk").format == "raw"
    assert parse_reference(written.replace("offset", "node-name"), folder="/", format="vmdk").format == "vmdk"


KEYS = st.sampled_from(
    [
        "driver",
        "file",
        "filename",
        "file.driver",
        "server",
        "server.0.host",
        "host",
        "port",
        "type",
        "path",
        "export",
        "portal",
        "target",
        "lun",
        "url",
    ]
)
VALUES = st.recursive(
    st.sampled_from(["file", "qcow2", "raw", "nbd", "ssh", "iscsi", "/a/b", "unix", "box:abc", "nbd://[", None, 5, 1.5])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@example({"driver": "raw", "file": {"driver": "iscsi", "portal": "box:abc", "target": "t"}})
@example({"driver": ["raw"]})
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_whatever_is_written_as_json_is_read(options: dict[str, object]) -> None:
    reference = parse_reference(f"json:{json.dumps(options)}", folder="/i")
    assert reference.path is None or reference.path.startswith("/")
    assert isinstance(reference.is_plain, bool)
    assert isinstance(reference.is_certain, bool)
    hash(address_of(reference.written))
    assert reference.key
