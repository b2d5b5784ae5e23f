"""Hosts, guests and jobs show what they are, never for long, and never with an error."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import vmsnap_nb as vs
from vmsnap_nb.live.cards import read_card
from vmsnap_nb.views.cards import Card

pytestmark = pytest.mark.system


def test_a_host_shows_its_guests_and_versions() -> None:
    host = vs.connect("test:///default", readonly=True)
    html = host._repr_html_()
    for part in ("Host test:///default", "read-only", "libvirt", "<caption", ">test<", "running"):
        assert part in html
    assert "running" in host.guest("test")._repr_html_()
    host.close()
    assert host.closed
    assert "closed" in host._repr_html_()


def test_states_are_words_of_the_language() -> None:
    host = vs.connect("test:///default", readonly=True)
    vs.set_language("zh")
    try:
        for html in (host._repr_html_(), host.guest("test")._repr_html_()):
            assert "运行中" in html
            assert ">running<" not in html
    finally:
        vs.set_language(None)
    host.close()


def test_guests_are_asked_for_by_name() -> None:
    guests = vs.connect("test:///default", readonly=True).guests()
    assert guests["test"].name == "test"
    assert "test" in guests
    assert guests[0] in guests
    assert "other" not in guests
    with pytest.raises(vs.NotFoundError, match=r"did you mean test\? Available: test"):
        guests["tests"]


def test_a_guest_that_is_gone_says_so() -> None:
    host = vs.connect("test:///default")
    host.connection.defineXML(
        "<domain type='test'><name>short</name><memory>1024</memory><os><type>hvm</type></os></domain>"
    )
    guest = host.guest("short")
    guest.undefine()
    assert repr(guest) == "<Guest short: gone>"
    assert "not read" in guest._repr_html_()


def test_what_does_not_answer_is_not_waited_for() -> None:
    def read() -> Iterator[Card]:
        yield Card("what was in time")
        time.sleep(2)
        yield Card("what was late")

    began = time.monotonic()
    html = read_card(read, "slow", patience=0.1)
    assert "no response within 0.1 s" in html
    assert "what was in time" in html
    assert time.monotonic() - began < 1.5
