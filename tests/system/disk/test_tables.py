"""Tables are parsed one by one or by numpy; what they say is the same."""

from __future__ import annotations

import struct
import sys
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsnap_nb.system.qcow2 import tables
from vmsnap_nb.system.qcow2.tables import (
    COMPRESSED,
    DATA,
    ZERO,
    Geometry,
    Runs,
    TableError,
    compressed_place,
    count_refcounts,
    parse_l1,
    parse_l2,
)

BITS, CLUSTER = 12, 1 << 12
PLAIN = Geometry(
    version=3,
    cluster_bits=BITS,
    size=64 << 20,
    l1_offset=3 * CLUSTER,
    l1_size=32,
    extended=False,
    data_file=False,
    refcount_offset=CLUSTER,
    refcount_clusters=1,
    refcount_bits=16,
    snapshots_offset=0,
    snapshot_count=0,
    compression="zlib",
)
COPIED, PACKED = 1 << 63, 1 << 62


def table(*entries: int) -> bytes:
    return struct.pack(f">{len(entries)}Q", *entries).ljust(CLUSTER, b"\0")


def rows(runs: Runs) -> list[tuple[int, ...]]:
    return list(zip(*runs, strict=True))


@pytest.mark.parametrize("few", [0, 1 << 20])
def test_every_kind_of_entry(few: int) -> None:
    packed = PACKED | 5 << 54 | 1234
    content = table(0, 0x5000 | COPIED, 0x6000, 0x8000 | COPIED, 1, 0x9001, packed, packed, 0)
    assert rows(parse_l2(content, PLAIN, 3, few=few)) == [
        (3 * PLAIN.span + CLUSTER, 2 * CLUSTER, DATA, 0x5000),
        (3 * PLAIN.span + 3 * CLUSTER, CLUSTER, DATA, 0x8000),
        (3 * PLAIN.span + 4 * CLUSTER, 2 * CLUSTER, ZERO, 0),
        (3 * PLAIN.span + 6 * CLUSTER, CLUSTER, COMPRESSED, packed),
        (3 * PLAIN.span + 7 * CLUSTER, CLUSTER, COMPRESSED, packed),
    ]
    assert rows(parse_l2(content, replace(PLAIN, size=1536 + CLUSTER), 0, few=few)) == [(CLUSTER, 1536, DATA, 0x5000)]
    assert rows(parse_l2(bytes(CLUSTER), PLAIN, 0, few=few)) == []


@pytest.mark.parametrize("few", [0, 1 << 20])
def test_subclusters(few: int) -> None:
    unit = CLUSTER // 32
    geometry = replace(PLAIN, extended=True, size=10 * CLUSTER)
    content = table(0, 0b11 << 32, 0x5000, 0b1101 | 0b10 << 32, 0x6000, 1 << 31, 0x7000, 2**32 - 1, PACKED, 0)
    assert rows(parse_l2(content, geometry, 0, few=few)) == [
        (0, 2 * unit, ZERO, 0),
        (CLUSTER, unit, DATA, 0x5000),
        (CLUSTER + unit, unit, ZERO, 0),
        (CLUSTER + 2 * unit, 2 * unit, DATA, 0x5000 + 2 * unit),
        (2 * CLUSTER + 31 * unit, unit + CLUSTER, DATA, 0x6000 + 31 * unit),
        (4 * CLUSTER, CLUSTER, COMPRESSED, PACKED),
    ]
    for wrong in (table(0, 1), table(0x5000, 1 | 1 << 32)):
        with pytest.raises(TableError, match="invalid subclusters"):
            parse_l2(wrong, geometry, 0, few=few)


_entry = st.one_of(
    st.sampled_from([0, 0, 1, 0x5000, 0x5000 | COPIED, 0x6000, 0x7001, PACKED | 77, 2**32 - 1, 0b101, 5 << 32, COPIED]),
    st.integers(0, 2**64 - 1),
)


@given(
    entries=st.lists(_entry, max_size=40),
    size=st.integers(1, 60 * CLUSTER // 512).map(lambda n: n * 512),
    extended=st.booleans(),
    data_file=st.booleans(),
    version=st.sampled_from([2, 3]),
)
def test_both_ways_are_the_same(entries: list[int], size: int, extended: bool, data_file: bool, version: int) -> None:
    geometry = replace(PLAIN, extended=extended, data_file=data_file, version=version, size=size)
    if data_file:  # what is at its own place is not refused
        step = 2 if extended else 1
        for number, entry in enumerate(entries[::step]):
            if entry & 0xFFF000:
                entries[number * step] = number * CLUSTER | COPIED
    found: list[object] = [None, None]
    for way, few in enumerate((0, 1 << 20)):
        with suppress(TableError):
            found[way] = rows(parse_l2(table(*entries[:512]), geometry, 0, few=few))
    assert found[0] == found[1]


def test_an_l1_table() -> None:
    content = struct.pack(">1000Q", *(0x5000 | COPIED if n in (0, 600, 999) else 0 for n in range(1000)))
    numbers, offsets = parse_l1(content, PLAIN, 3)
    assert (list(numbers), list(offsets)) == ([0, 600, 999], [0x5000] * 3)
    with pytest.raises(TableError, match="everal entries must therefore point to the same cluster"):
        parse_l1(content, PLAIN, 2)
    with pytest.raises(TableError, match="L2 table 1 is at byte 20992"):
        parse_l1(struct.pack(">2Q", 0, 0x5200), PLAIN, 2)


@pytest.mark.parametrize("bits", [9, 12, 16, 21])
def test_the_place_of_a_compressed_cluster(bits: int) -> None:
    shift = 62 - (bits - 8)
    entry = PACKED | 1 << shift | 0x12345
    assert compressed_place(entry, bits) == (0x12345, 2 * 512 - 0x12345 % 512)
    assert compressed_place(entry - (1 << 63), bits) == compressed_place(entry, bits)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_reference_counts(bits: int) -> None:
    block = bytearray(512)
    for number in (0, 3, 5):
        place = number * bits
        if bits < 8:
            block[place // 8] |= 1 << place % 8
        else:
            block[place // 8 + bits // 8 - 1] = 1
    assert [count_refcounts(bytes(block), bits, most) for most in (0, 1, 4, 5, 6, 99999)] == [0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("extended", [False, True])
def test_the_same_without_numpy(extended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = replace(PLAIN, extended=extended)
    content = table(*(0x5000 | COPIED if n in (0, 2, 70, 300, 510) else 0 for n in range(512)))
    expected = parse_l2(content, geometry, 0)
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    assert parse_l2(content, geometry, 0) == expected


def test_a_full_table_where_numpy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = table(*((number // 3 + 5) * CLUSTER | COPIED if number % 7 else 0 for number in range(512)))
    expected = parse_l2(content, PLAIN, 0)
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    monkeypatch.setattr(tables, "_has_numpy", lambda: False)
    assert rows(parse_l2(content, PLAIN, 0)) == rows(expected)
    assert len(rows(expected)) > 200
    assert "numpy" not in sys.modules
    assert "numpy" not in sys.modules


def test_a_bit_alone_is_no_data() -> None:
    assert rows(parse_l2(table(COPIED), PLAIN, 0)) == rows(parse_l2(table(COPIED), PLAIN, 0, few=0)) == []
