"""Addresses on the network: their forms, and what is one image."""

from __future__ import annotations

import pytest

from vmsnap_nb.model.address import address, address_of, plain_address

SAME = [
    [
        *("nbd://Box/disk", "nbd://box:10809/disk", "nbd+tcp://box/disk", "nbd:box:10809:exportname=disk"),
        'json:{"driver":"nbd","server":{"type":"inet","host":"box","port":"10809"},"export":"disk"}',
        'json:{"driver":"raw","file":{"driver":"nbd","host":"box","port":"10809","export":"disk"}}',
        "json:{'file.driver': 'nbd', 'file.server.host': 'box', 'file.server.type': 'inet', 'file.export': 'disk'}",
    ],
    [
        *("nbd+unix:///a%20b?socket=/run/x", "nbd:unix:/run/x:exportname=a b"),
        'json:{"driver":"nbd","server":{"type":"unix","path":"/run/x"},"export":"a b"}',
        'json:{"driver":"nbd","path":"/run/x","export":"a b"}',
    ],
    ["nbd+unix://?socket=/run/x", "nbd+unix:///?socket=/run/x", "nbd:unix:/run/x"],
    ["iscsi://box/iqn.x:y/1", 'json:{"driver":"iscsi","portal":"box:3260","target":"iqn.x:y","lun":1}'],
    ["https://box/a.img", 'json:{"driver":"https","url":"https://box:443/a.img"}'],
    ["ssh://me@box/a.img", "ssh://me@box:22/a.img"],
    ["rbd:pool/a:mon_host=x\\:1\\;y\\:2", "rbd:pool/a:id=me:mon_host=y\\:2\\;x\\:1"],
]
UNKNOWN = [
    "nbd:///disk",
    "nbd+unix:///disk",
    "nbd+unix:///disk?socket=relative",
    "nbd://box:port/disk",
    "nbd://[box/disk",
    "nbd+other://box/disk",
    "rbd:pool/a",
    "fat:/folder",
    "json:{",
    "json:{}",
    'json:{"driver":"nbd","export":"disk"}',
    'json:{"driver":"nbd","server":{"type":"inet","host":"box","port":"x"}}',
    'json:{"driver":"nbd","server":{"type":"inet","host":7,"port":"1"}}',
    'json:{"driver":"quorum","children":[]}',
]


def test_forms_of_an_address_are_one_image_and_others_are_others() -> None:
    places = [{address_of(form) for form in forms} for forms in SAME]
    assert all(len(place) == 1 for place in places), [p for p in places if len(p) > 1]
    assert None not in set.union(*places)
    assert len(set.union(*places)) == len(SAME)
    others = {"nbd://box/other", "nbd://box:1/disk", "nbd://box2/disk", "nbd+unix:///disk?socket=/run/x"}
    assert set.union(*places).isdisjoint(map(address_of, others))


@pytest.mark.parametrize("written", UNKNOWN)
def test_where_no_server_is_named_nothing_is_known(written: str) -> None:
    assert address_of(written) is None


@pytest.mark.parametrize(
    ("protocol", "name", "hosts", "place"),
    [
        ("nbd", "a b/c", [{"name": "::1", "port": "5"}], ("nbd", "::1", 5, "a b/c")),
        ("nbd", "", [{"transport": "unix", "socket": "/run/ü x"}], ("nbd", "unix:/run/ü x", "")),
        ("nbd", "x", [{"transport": "tcp", "name": "box"}], ("nbd", "box", 10809, "x")),
        ("gluster", "vol/a", [{"name": "box"}, {"name": "box2"}], ("gluster", "box", 24007, "vol/a")),
        ("rbd", "pool/a", [{"name": "x", "port": "1"}, {"name": "y"}], ("rbd", "x:1", "y", "pool/a")),
        ("nbd", "x", [], None),
        ("rbd", "pool/a", [], None),
    ],
)
def test_what_libvirt_says_of_a_disk(protocol: str, name: str, hosts: list[dict[str, str]], place: object) -> None:
    assert address_of(address(protocol, name, hosts)) == place


def test_a_long_form_has_a_short_one() -> None:
    for form in (form for forms in SAME[:3] for form in forms):
        assert address_of(plain_address(form)) == address_of(form)
        assert not plain_address(form).startswith("json:")
    assert plain_address("json:{}") == "json:{}"
