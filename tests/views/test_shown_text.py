"""Sizes, names and texts as they are shown: short, distinct, harmless."""

from __future__ import annotations

import doctest
import re

from hypothesis import given
from hypothesis import strategies as st

from vmsnap_nb.views import shown_text


def test_the_examples_are_right() -> None:
    assert doctest.testmod(shown_text).failed == 0


@given(st.integers(min_value=0, max_value=1 << 66))
def test_a_size_is_short_and_near(size: int) -> None:
    number, unit = shown_text.human_size(size).split(" ")
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert abs(float(number) * factor - size) <= max(0.006 * size, 0.5)
    assert len(number) <= 4 or unit == "EiB"


@given(st.text(), st.integers(min_value=3, max_value=40))
def test_a_clipped_text_fits(text: str, most: int) -> None:
    text = shown_text.shown(text)
    short = shown_text.clip(text, most)
    assert shown_text.width(short) <= most
    assert short == text or "…" in short


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1, unique=True))
def test_names_are_distinct_and_harmless(files: list[str]) -> None:
    names = shown_text.distinct_names((f"/very/deep/{'x' * (n % 3)}/{name}", "same") for n, name in enumerate(files))
    assert len(set(names.values())) == len(files)
    for name in names.values():
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff\ufffe\uffff]", name)


def test_names_that_differ_only_where_they_are_cut_are_numbered() -> None:
    paths = [f"/i/{'a' * 40}{middle}{'z' * 40}" for middle in "12"]
    first, second = shown_text.distinct_names((path, path[3:]) for path in paths).values()
    assert first.partition(" ")[0] == second.partition(" ")[0]
    assert (first[-2:], second[-2:]) == ("#1", "#2")
