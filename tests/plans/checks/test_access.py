"""What a plan may do with the files of a user who has not all rights."""

from __future__ import annotations

import pytest
from support.forests import forest, image
from support.readings import reading

from vmsnap_nb.plans.checks.access import Access, with_access
from vmsnap_nb.plans.merge.request import PullRequest

pytestmark = pytest.mark.quick


def refused(access: Access) -> list[tuple[str, tuple[str, ...]]]:
    plan = PullRequest(into="/i/top").plan(
        reading(forest(image("base"), image("middle", "base"), image("top", "middle")))
    )
    concerns = with_access(plan, access).concerns
    return [(c.name, c.images) for c in concerns if c.level == "refuse" and c.name == "no-permission"]


def test_an_image_that_may_be_read_and_not_written_is_not_pulled_into() -> None:
    assert refused(Access()) == []
    assert refused(Access(unwritten={"/i/top": "no"})) == [("no-permission", ("/i/top",))]


def test_an_image_that_may_not_be_read_either_is_named_once() -> None:
    assert refused(Access(unread={"/i/top": "no"}, unwritten={"/i/top": "no"})) == [("no-permission", ("/i/top",))]
