"""What a plan may do with the files of a user who has not all rights."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from support.forests import forest, image
from support.merges import commit
from support.readings import reading

from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.plans.checks.access import Access, unresolved, with_access
from vmsnap_nb.plans.machine import Machine
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


def test_what_another_machine_must_do_is_planned_there() -> None:
    """The remedy is said once, however many files it is about."""
    plan = PullRequest(into="/i/top").plan(
        reading(forest(image("base"), image("middle", "base"), image("top", "middle")))
    )
    why = {f"/i/{name}": "it is on another machine" for name in ("base", "middle", "top")}
    plan = replace(plan, machine=Machine(name="box", uri="qemu+ssh://box/system", here=False))
    with pytest.raises(PlanRefusedError) as caught:
        with_access(plan, Access(unread=why, unwritten=why, elsewhere=True)).check()
    assert str(caught.value.why).count("no-permission") > 1
    assert caught.value.next_step == (
        "create the plan on that machine, using an account with access, such as root: "
        "ssh -- box 'vmsnap-nb plan --help'"
    )


def test_the_work_on_a_long_chain_grows_with_its_length() -> None:
    def work(count: int) -> int:
        """How many functions are called to look at a merge of so many layers."""
        tree = forest(image("l0"), *(image(f"l{number}", f"l{number - 1}") for number in range(1, count)))
        plan = commit(tree, f"/i/l{count - 1}", "/i/l0")
        calls = 0

        def count_calls(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count_calls)
        try:
            assert list(unresolved(plan)) == []
        finally:
            sys.setprofile(None)
        return calls

    assert work(400) < 5 * work(100)
