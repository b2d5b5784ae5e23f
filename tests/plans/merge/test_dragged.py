"""Which merge is meant by dragging one image onto another, on made-up images."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.readings import maps, reading

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.plans.concern import Concern, refuse, warn
from vmsnap_nb.plans.merge.dragged import Dragged, dragged, verdicts
from vmsnap_nb.plans.merge.request import CommitRequest, PullRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.words.message import t

CHAIN = forest(image("base"), image("mid", "base"), image("top", "mid"), image("side", "base"))
FACTS = replace(reading(CHAIN), maps=maps(base=(0,), mid=(1, 2), top=(3,), side=()).maps)


def plan_of(meant: Dragged) -> Plan:
    if meant.way == "commit":
        return CommitRequest(top=meant.top, base=meant.base).plan(FACTS)
    return PullRequest(into=meant.top, base=meant.base or None).plan(FACTS)


@pytest.mark.parametrize(
    ("source", "target", "meant"),
    [
        ("top", "base", Dragged("commit", "/i/top", "/i/base")),
        ("top", "mid", Dragged("commit", "/i/top", "/i/mid")),
        ("mid", "top", Dragged("pull", "/i/top", "/i/base")),
        ("base", "top", Dragged("pull", "/i/top", "")),
        ("side", "top", None),
        ("mid", "side", None),
        ("top", "top", None),
    ],
)
def test_down_is_a_commit_and_up_is_a_pull(source: str, target: str, meant: Dragged | None) -> None:
    assert dragged(CHAIN, f"/i/{source}", f"/i/{target}") == meant


def test_each_other_image_says_what_a_drop_on_it_does_and_why_it_is_refused() -> None:
    found = {path: (does, why) for path, does, why in verdicts(CHAIN, "/i/mid", plan_of)}
    assert list(found) == ["/i/side", "/i/base", "/i/top"]
    assert found["/i/side"] == ("", "neither image is based on the other")
    does, why = found["/i/base"]
    assert does == "commit 128 KiB"
    assert "side" in why
    assert found["/i/top"] == ("pull 128 KiB", "")


def test_what_nobody_measured_has_no_size() -> None:
    def unknown(meant: Dragged) -> Plan:
        request = (
            CommitRequest(top=meant.top, base=meant.base) if meant.way == "commit" else PullRequest(into=meant.top)
        )
        return request.plan(reading(CHAIN))

    found = {path: does for path, does, _ in verdicts(CHAIN, "/i/mid", unknown)}
    assert found == {"/i/side": "", "/i/base": "commit", "/i/top": "pull"}


def test_a_merge_that_cannot_be_planned_says_why() -> None:
    def fails(meant: Dragged) -> Plan:
        raise InvalidRequestError(t("merge"), why=t("it is {way}", way=meant.way))

    found = {path: (does, why) for path, does, why in verdicts(CHAIN, "/i/top", fails)}
    assert found == {
        "/i/side": ("", "neither image is based on the other"),
        "/i/base": ("", "it is commit"),
        "/i/mid": ("", "it is commit"),
    }


def test_only_what_refuses_is_a_reason() -> None:
    def plan(*concerns: Concern) -> Plan:
        return Plan(title=t("a plan"), before=CHAIN, steps=(), after=CHAIN, concerns=concerns)

    note, first, second = (
        make("in-use", t(word)) for make, word in ((warn, "careful"), (refuse, "no"), (refuse, "and"))
    )
    assert [why for path, _, why in verdicts(CHAIN, "/i/side", lambda _: plan(note)) if path == "/i/base"] == [""]
    both = verdicts(CHAIN, "/i/side", lambda _: plan(note, first, second))
    assert [why for path, _, why in both if path == "/i/base"] == ["no"]
