"""What a plan of new overlays says before anything is done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.forests import MIB, figure_2, forest, image

from vmsnap_nb.errors import InvalidRequestError, PlanRefusedError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.compare import differences
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.plans.overlay.reference import backing_reference
from vmsnap_nb.plans.overlay.request import GuestsRequest, OverlayRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading


def plan_overlays(
    tree: Forest, paths: Sequence[str], backing: str, *, folders: FolderFacts | None = None, **options: Any
) -> Plan:
    request = OverlayRequest(paths=tuple(paths), backing=backing, **options)
    return request.plan(Reading(forest=tree, folders=folders or FolderFacts()))


def concerns(tree: Forest, path: str = "/i/new", backing: str = "/i/base", **options: Any) -> dict[str, str]:
    plan = plan_overlays(tree, [path], backing, **options)
    return {concern.name: concern.level for concern in plan.concerns}


def test_the_plan_of_one_overlay() -> None:
    plan = plan_overlays(forest(image("base")), ["/i/new"], "/i/base")
    assert plan.title == "create new on base"
    assert plan.commands == ("qemu-img create -q -f qcow2 -F qcow2 -b /i/base -- /i/new",)
    assert plan.creates == ("/i/new",)
    assert plan.writes == plan.unlinks == plan.invalid == ()
    assert plan.bytes_to_copy == 0
    assert "/i/new" not in plan.before
    new = plan.after["/i/new"]
    assert (new.format, new.virtual_size) == ("qcow2", 64 * MIB)
    assert plan.after.children("/i/base") == ("/i/new",)
    assert not plan.concerns


def test_a_file_with_another_suffix_is_another_file() -> None:
    tree = forest(image("/i/base"), image("/i/new.qcow2"))
    assert concerns(tree) == {}
    assert concerns(tree, "/i/other", backing="/i/new") == {"missing-base": "refuse"}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("missing", "check the path and its permissions"),
        ("invalid", "use the image that it was merged into"),
        ("corrupt", "restore it, or repair a copy and use the copy: "),
    ],
)
def test_the_remedy_of_a_base_that_cannot_be_opened_is_that_of_its_status(status: Any, remedy: str) -> None:
    (concern,) = plan_overlays(forest(image("base", status=status)), ["/i/new"], "/i/base").concerns
    assert concern.remedy.startswith(remedy)


def test_a_base_that_was_not_read_is_missing_in_the_language_of_the_reader() -> None:
    (concern,) = plan_overlays(forest(image("base")), ["/i/new"], "/i/nowhere").concerns
    assert concern.what.in_language("zh") == "/i/nowhere 不存在"


def test_the_commands_survive_a_shell() -> None:
    name = "/i/it's; rm -rf $HOME\n虚拟机"
    plan = plan_overlays(forest(image(name)), ["/i/-new"], name)
    assert name in shlex.split(plan.commands[0])


def test_what_stands_on_others_is_not_changed_by_a_new_overlay() -> None:
    tree = figure_2()
    plan = plan_overlays(tree, ["/i/Overlay-4"], "/i/RootBase", protect=True)
    for path in tree.images:
        assert plan.after.lineage(path) == tree.lineage(path)
    assert plan.after.leaves == (*tree.leaves, "/i/Overlay-4")
    assert len(plan.steps) == 1  # the base is protected already


def test_protecting_is_a_step_and_is_predicted() -> None:
    plan = plan_overlays(forest(image("base")), ["/i/new"], "/i/base", protect=True)
    assert [step.action for step in plan.steps] == ["create overlay", "protect"]
    assert not plan.after["/i/base"].writable
    assert plan.commands[1] == "chmod a-w -- /i/base"


@pytest.mark.parametrize(
    ("path", "backing", "written"),
    [
        ("/i/new", "/i/base", "base"),
        ("/i/sub/new", "/i/base", "../base"),
        ("/i/new", "/i/nbd:x", "./nbd:x"),
        ("/i/new", "/i/sub/a:b", "sub/a:b"),
        ("/i/new", "/虚拟/base one", "../虚拟/base one"),
    ],
)
def test_a_relative_reference_is_never_taken_for_a_protocol(path: str, backing: str, written: str) -> None:
    assert backing_reference(path, backing, "qcow2", relative=True).written == written


def test_concerns_of_the_base() -> None:
    base = image("base")
    assert concerns(forest(base), backing="/i/nowhere") == {"missing-base": "refuse"}
    assert concerns(forest(image("base", status="corrupt"))) == {"missing-base": "refuse"}
    assert concerns(forest(image("base", format=None, status="unknown"))) == {"backing-format-missing": "refuse"}
    assert concerns(forest(image("base", format=None, status="unknown")), backing_format="raw") == {}
    assert concerns(forest(base), backing_format="raw") == {"backing-format-wrong": "refuse"}
    for wanted, why in (("raw", "a guest would see the image file itself as its disk"), ("foo", "could not open")):
        [concern] = plan_overlays(forest(base), ["/i/new"], "/i/base", backing_format=wanted).concerns
        assert why in concern.what
    assert concerns(forest(base), size=MIB) == {"smaller-size": "refuse"}
    assert concerns(forest(base), size=65 * MIB) == {}
    assert concerns(forest(image("base", status="remote"))) == {"untrusted-backing": "refuse"}
    assert concerns(forest(image("base", "away"), image("away", status="outside"))) == {"untrusted-backing": "warn"}
    other = forest(image("base", "/secret/low"), image("/secret/low"))
    assert concerns(other) == {"untrusted-backing": "warn"}
    assert concerns(replace(other, folders=("/i", "/secret"))) == {}
    assert concerns(other.edited(uses=[Use("g", "vda", "/secret/low")])) == {"untrusted-backing": "warn"}
    assert concerns(forest(image("above", "base"), *other).edited(uses=[Use("g", "vda", "/i/above")])) == {}
    assert concerns(forest(image("base", "gone"), image("gone", status="missing"))) == {"missing-base": "refuse"}
    assert concerns(forest(image("base", "base"))) == {"loop": "refuse"}
    data = {"data_file": Reference("/etc/shadow", "absolute", "/etc/shadow", "raw"), "data_status": "outside"}
    assert concerns(forest(image("base", **data))) == {"untrusted-backing": "refuse"}
    assert concerns(forest(image("base", "low"), image("low", **data))) == {"untrusted-backing": "refuse"}
    assert concerns(forest(image("base", **data | {"data_status": "ok"}))) == {}
    assert concerns(forest(image("base", held="write"))) == {"in-use": "warn"}


def test_a_plan_without_a_base_claims_nothing_of_it() -> None:
    gone = forest(image("base", format=None, status="missing", problem="the file does not exist"))
    plan = plan_overlays(gone, ["/i/new"], "/i/base")
    assert plan.commands == ("qemu-img create -q -f qcow2 -F FORMAT -b /i/base -- /i/new",)  # which QEMU refuses
    after = plan.to_text().partition("after\n")[2]
    assert after.count("(new)") == 1  # the overlay, and not what it would stand on


def test_concerns_name_the_guests_that_write_to_the_base() -> None:
    running = forest(image("base"), uses=(Use("demo", "vda", "/i/base", "running"),))
    (concern,) = plan_overlays(running, ["/i/new"], "/i/base").concerns
    assert (concern.name, concern.holders) == ("in-use", ("demo",))
    assert "demo" in concern.what
    assert "demo" in concern.remedy
    stopped = forest(image("base"), uses=(Use("demo", "vda", "/i/base"),))
    assert concerns(stopped) == {"shared-base": "warn"}
    assert concerns(stopped, protect=True) == {"shared-base": "warn", "read-only": "warn"}


def test_concerns_of_the_new_file() -> None:
    tree = forest(image("base"), image("top", "base"), image("lost", "gone"), image("gone", status="missing"))
    assert concerns(tree, "/i/top") == {"file-exists": "refuse"}
    assert concerns(tree, "/i/base") == {"loop": "refuse"}
    assert concerns(tree, "/i/base", "/i/top") == {"loop": "refuse"}
    assert concerns(tree, "/i/gone") == {"shared-base": "warn"}
    assert concerns(tree, folders=FolderFacts(taken=frozenset({"/i/new"}))) == {"file-exists": "refuse"}
    assert concerns(tree, folders=FolderFacts(free={"/i": 1000})) == {"no-space": "refuse"}
    assert concerns(tree, folders=FolderFacts(closed={"/i": "Read-only file system"})) == {"no-permission": "refuse"}


def test_requests_that_cannot_be_meant() -> None:
    tree = forest(image("base"))
    for options in ({"size": 0}, {"size": -1}, {"size": 1 << 63}, {"cluster_size": 1000}, {"cluster_size": 4 << 20}):
        with pytest.raises(InvalidRequestError):
            plan_overlays(tree, ["/i/new"], "/i/base", **options)
    with pytest.raises(InvalidRequestError, match="no path"):
        plan_overlays(tree, [], "/i/base")
    with pytest.raises(InvalidRequestError, match="more than once"):
        plan_overlays(tree, ["/i/new", "/i/new"], "/i/base")


def test_a_refusal_says_why_and_what_next_and_can_be_waived_by_name() -> None:
    plan = plan_overlays(forest(image("base")), ["/i/new"], "/i/base", size=MIB)
    with pytest.raises(PlanRefusedError, match="smaller-size") as caught:
        plan.check()
    assert "omit size" in str(caught.value)
    plan.check(waive=["smaller-size"])
    plan.check(waive="smaller-size")
    with pytest.raises(InvalidRequestError, match="small-size"):
        plan.check(waive=["small-size"])
    exists = plan_overlays(forest(image("base")), ["/i/base"], "/i/base")
    with pytest.raises(PlanRefusedError):
        exists.check(waive=["loop"])  # the system would refuse it anyway


def test_guests_are_defined_on_their_overlays() -> None:
    plan = GuestsRequest(disks={"a": "/i/a", "b": "/i/b"}, backing="/i/base", xml={"a": "<a/>", "b": "<b/>"}).plan(
        Reading(forest=forest(image("base")))
    )
    assert plan.title == "create 2 guests on base"
    assert [step.action for step in plan.steps] == ["create overlay", "create overlay", "define guest", "define guest"]
    assert [use.guest for use in plan.after.users("/i/base")] == ["a", "b"]
    assert "virsh define /dev/stdin <<'XML'\n<a/>\nXML" in plan.commands


def test_differences_are_told_in_sentences() -> None:
    plan: Plan = plan_overlays(forest(image("base")), ["/i/new"], "/i/base")
    assert differences(plan.after, plan.after) == ()
    assert differences(plan.after, plan.before) == ("/i/new no longer exists",)
    assert differences(plan.before, plan.after) == ("/i/new is now based on /i/base",)
    resized = forest(image("base", virtual_size=MIB), image("new", "base"))
    assert any("virtual size 1 MiB" in line for line in differences(plan.after, resized))
    moved = forest(image("base"), image("new", "base"), uses=(Use("g", "vda", "/i/new"),))
    assert differences(plan.after, moved) == ("/i/new is now disk vda of g",)


def test_permissions_do_not_protect_a_device() -> None:
    device = image("/dev/pool/base", device=True)
    assert concerns(forest(device), backing="/dev/pool/base") == {}
    assert concerns(forest(device), backing="/dev/pool/base", protect=True) == {"not-supported": "refuse"}
