"""Layers that a definition lists below the image of a disk, against those that the headers name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image

from vmsnap_nb.model.listed_layers import beyond_headers, is_other_chain, of_other_chains
from vmsnap_nb.model.need import Need

CHAIN = forest(image("a"), image("b", "a"), image("c", "b"), image("top", "c"), image("x"), image("y", "x"))


@pytest.mark.parametrize(
    ("own", "listed", "other"),
    [
        ("top", ["c", "b", "a"], False),
        ("top", ["c"], False),  # what is below the end of a list libvirt looks up itself
        ("top", [], False),
        ("top", ["x"], True),
        ("top", ["c", "x"], True),
        ("top", ["y", "x"], True),
        ("b", ["c", "a"], False),  # c was merged since
        ("a", ["x"], False),  # all below was pulled up
        ("unread", ["x"], False),
        ("top", ["c", "b", "a", ""], False),  # an empty name: libvirt opens nothing below
        ("top", ["c", ""], True),
        ("top", [""], True),
        ("a", [""], False),
    ],
)
def test_a_list_is_of_other_layers(own: str, listed: list[str], other: bool) -> None:
    assert is_other_chain(CHAIN, f"/i/{own}", [name and f"/i/{name}" for name in listed]) is other


def test_what_only_a_list_has_is_needed_but_is_no_other_disk() -> None:
    need = Need("definition", "/i/x", "g", "vda", ("/i/a", "/i/x"))
    assert of_other_chains(CHAIN, [need]) == (replace(need, layers=()),)
    assert of_other_chains(CHAIN, [need], is_other=lambda *_: True) == (need,)
    gone = replace(need, path="/i/gone", layers=("/i/a", "/i/gone"))
    assert of_other_chains(CHAIN, [gone]) == ()


@pytest.mark.parametrize(
    ("own", "listed", "beyond"),
    [("top", "cba", ""), ("top", "cbax", "x"), ("a", "yx", "yx"), ("top", "c", ""), ("unread", "x", "")],
)
def test_what_a_list_has_below_the_last_header(own: str, listed: str, beyond: str) -> None:
    found = beyond_headers(CHAIN, f"/i/{own}", [f"/i/{name}" for name in listed])
    assert found == tuple(f"/i/{name}" for name in beyond)


def test_only_lists_that_do_not_agree_are_needs() -> None:
    def need(own: str, listed: str) -> Need:
        return Need("definition", f"/i/{listed}", "g", "vda", (f"/i/{own}", f"/i/{listed}"))

    other = need("top", "x")
    assert of_other_chains(CHAIN, [need("top", "c"), other, Need("boot", "/i/a", "g")]) == (
        other,
        Need("boot", "/i/a", "g"),
    )
