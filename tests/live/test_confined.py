"""What QEMU's tools may open while a plan runs follows from what its steps declare."""

from __future__ import annotations

import pytest
from support.forests import handout
from support.readings import reading

from vmsnap_nb.live.confined import files_of
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.plans.delete.steps import DeleteExternal
from vmsnap_nb.plans.merge.request import CommitRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.step import GuestRef, Step
from vmsnap_nb.words.message import t

GUEST = Domain("g", "u", "running", True, (Disk("vda", "/i/Snap-4", "qcow2"),))


def written(plan: Plan) -> set[str]:
    return {file.path for file in files_of(plan) or () if file.write}


def of_steps(*steps: Step) -> Plan:
    return Plan(title=t("delete"), before=handout(), steps=steps, after=handout(), concerns=(), way=t("live"))


@pytest.mark.parametrize("remove", [False, True])
def test_an_overlay_may_be_based_on_what_was_merged_again(remove: bool) -> None:
    tree = handout().edited(uses=GUEST.uses)
    plan = CommitRequest(guest="g", top="Snap-2", base="Snap-1", remove=remove).plan(reading(tree, GUEST))
    assert {"/i/Snap-1", "/i/Snap-3"} <= written(plan)
    assert not {"/i/Snap-4", "/i/RootBase"} & written(plan)


def test_libvirt_may_be_interrupted_in_its_own_deletion() -> None:
    step = DeleteExternal(
        guest=GuestRef("g", "u", ""), name="s", targets=("vda",), bases=("/i/Snap-1",), tops=("/i/Snap-2",)
    )
    assert written(of_steps(step)) == {"/i/Snap-1", "/i/Snap-3"}
