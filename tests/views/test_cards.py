"""What a notebook shows of single things: escaped, short, and what is known."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

import vmsnap_nb as vs
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.shown import Carded
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.overlay.request import OverlayRequest
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.views import cards
from vmsnap_nb.views.cards import Card, card_html
from vmsnap_nb.words.message import t

BAD = "<script>x</script>&\"'"
CONCERN = vs.Concern("in-use", "refuse", t("{bad} is held", bad=BAD), t("end {bad}", bad=BAD), waivable=True)
RECORD = vs.SnapshotRecord(
    "demo", BAD, parent="a", current=True, disks=(SnapshotDisk("vda", "external", "/i/a", "/i/b"),), description=BAD
)
THINGS = [
    vs.Image(f"/i/{BAD}.qcow2", "qcow2", problem=BAD, backing=vs.Reference(BAD, "relative", f"/i/{BAD}")),
    vs.Snapshot(RECORD, "stale", BAD),
    vs.Completed(3, f"{BAD}\n\ta\n", "\x1b[31mred\x1b[0m"),
    CONCERN,
    vs.Concerns([CONCERN]),
    vs.Concerns(),
    RECORD,
    vs.Use("demo", "vda", f"/i/{BAD}"),
    vs.Disk("vda", f"/i/{BAD}"),
    vs.Domain(BAD, "0c0c", disks=(vs.Disk("vda", "/i/a"),)),
    vs.InternalSnapshot("1", BAD),
    vs.Move("/i/a", f"/i/{BAD}", 1 << 20, "commit data"),
    vs.Alternative(BAD, None, True),
    vs.Progress(1, 2, "steps", BAD),
    vs.Acceleration("tcg", BAD),
]


class Reader(HTMLParser):
    """Reads which tags there are, whether each is closed, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)
def test_names_are_escaped_and_tags_closed(thing: Carded) -> None:
    html = thing._repr_html_()
    read = Reader(html)
    assert read.open == []
    assert read.tags <= {"div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td", "pre", "br"}
    assert "\x1b" not in html
    assert BAD in read.text or thing == ()


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)
def test_a_repr_is_one_short_line(thing: object) -> None:
    assert "\n" not in repr(thing)
    assert len(repr(thing)) < 300


def test_an_image_and_a_block_map_are_short_whatever_they_hold() -> None:
    image = vs.Image(
        "/i/a\x1b", "qcow2", backing=vs.Reference("b", "relative", "/i/b"), virtual_size=1 << 30, status="corrupt"
    )
    assert repr(image) == r"<Image '/i/a\x1b': qcow2, 1 GiB, corrupt, based on '/i/b'>"
    extents = tuple(Extent(start << 20, 1 << 16) for start in range(1000))
    assert repr(vs.BlockMap((LayerMap("/i/a", 1 << 30, extents),))) == "<BlockMap of 1 GiB in 1 layer>"


def test_an_image_shows_what_is_known_of_it() -> None:
    image = vs.Image("/i/Top.qcow2", "qcow2", virtual_size=1 << 30, allocated=200704, writable=False, held="write")
    text = Reader(image._repr_html_()).text
    for part in ("Image Top", "/i/Top.qcow2", "1 GiB", "196 KiB", "write-protected", "for writing"):
        assert part in text
    assert "backing" not in text


def test_a_snapshot_shows_its_kind_and_its_time() -> None:
    record = vs.SnapshotRecord("demo", "before", created=datetime(2024, 5, 1, 12, tzinfo=UTC), memory="internal")
    snapshot = vs.Snapshot(record)
    assert repr(snapshot) == "<Snapshot before of demo: internal-checkpoint>"
    assert "2024-05-01 12:00:00 UTC" in snapshot._repr_html_()


def test_concerns_are_a_tuple_that_shows_itself() -> None:
    forest = vs.Forest({"/i/a": vs.Image("/i/a", "qcow2", virtual_size=1 << 20)})
    requests = (OverlayRequest(paths=("/i/b",), backing=base) for base in ("/i/a", "/i/gone"))
    good, bad = (request.plan(Reading(forest=forest)).concerns for request in requests)
    assert repr(good) == "<no concerns>"
    assert good == ()
    assert isinstance(bad, tuple)
    assert repr(bad) == "<1 concern: missing-base (refuse)>"
    assert repr(bad[0]).startswith("<Concern missing-base (refuse): ")
    assert "missing-base" in bad._repr_html_()


def test_concerns_name_their_place_in_the_documentation_and_link_to_it_once_it_has_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for thing in (CONCERN, vs.Concerns([CONCERN, CONCERN])):
        assert thing._repr_html_().count("<p>Documentation: troubleshooting.html#in-use</p>") == 1
    with monkeypatch.context() as patch:
        patch.setenv("VMSNAP_LANG", "zh")
        assert "<p>文档：troubleshooting.html#in-use</p>" in CONCERN._repr_html_()
    monkeypatch.setattr(cards, "DOCS", "https://docs.invalid/en/")
    assert 'href="https://docs.invalid/en/troubleshooting.html#in-use"' in CONCERN._repr_html_()
    assert "Documentation" not in vs.Concerns()._repr_html_()


def test_of_a_long_output_the_end_is_shown_and_print_shows_all() -> None:
    done = vs.Completed(0, "".join(f"line {number}\n" for number in range(1000)), "")
    text = Reader(done._repr_html_()).text
    assert "… 800 earlier lines" in text
    assert "line 999" in text
    assert "line 799\n" not in text
    assert len(repr(done)) < 400
    assert str(done).count("\n") == 999
    assert repr(vs.Completed(0, "hello\n", "")) == "Completed(exit_status=0, stdout='hello\\n', stderr='')"


def test_a_fact_of_several_lines_keeps_them() -> None:
    assert "one<br>two" in card_html(Card("x", (("a", "one\ntwo"), ("left out", ""))))
    assert "left out" not in card_html(Card("x", (("left out", ""),)))


def test_a_status_is_not_said_twice() -> None:
    gone = vs.Image("/i/a", status="missing", problem=t("the file does not exist"))
    assert dict(cards.card_of(gone).facts)["status"] == "missing"
    pool = vs.Image("/i/a", status="missing", problem=t("there is no such file in its storage pool"))
    assert dict(cards.card_of(pool).facts)["status"] == "missing: there is no such file in its storage pool"
