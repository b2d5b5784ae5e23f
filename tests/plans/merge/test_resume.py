"""Merges that were cut short, and how a plan finishes them; the removal of what is invalid."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, handout, image
from support.merges import FACTS, cleanup, commit, finish, pull
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.journal import MergeEntry


def test_a_merge_cut_short_is_finished_and_nothing_else_begins() -> None:
    entry = MergeEntry(base="/i/RootBase", top="/i/Snap-2", merged=("/i/Snap-1", "/i/Snap-2"), children=("/i/Snap-3",))
    facts = replace(FACTS, entries=(entry,))
    assert refused(commit(handout(), "/i/Snap-1", facts=facts)) == {"active-job"}
    assert refused(pull(handout(), "/i/Snap-3", "/i/RootBase", facts=facts)) == {"active-job"}
    again = finish(handout(), entry, facts=facts)
    assert not again.refused
    assert [step.action for step in again.steps][:2] == ["commit", "repoint"]
    copied = replace(entry, phase="copied")
    assert refused(finish(handout(), copied, facts=replace(FACTS, entries=(copied,)))) == {"disk-changed"}
    seen = frozenset({("/i/Snap-2", "/i/RootBase")})
    rest = finish(handout(), copied, facts=replace(FACTS, entries=(copied,), alike=seen))
    assert not rest.refused
    assert [step.action for step in rest.steps] == ["repoint", "mark invalid", "mark invalid", "finish"]
    assert rest.bytes_to_copy == 0


def test_finishing_when_all_was_repointed_already() -> None:
    one = handout()
    moved = one.edited(
        put=[
            replace(one["/i/Snap-3"], backing=Reference("/i/RootBase", "absolute", "/i/RootBase", "qcow2")),
            replace(one["/i/Snap-2"], status="invalid"),
        ],
        uses=(Use("g", "vda", "/i/Snap-4", "running"),),
    )
    entry = MergeEntry(
        base="/i/RootBase",
        top="/i/Snap-2",
        merged=("/i/Snap-1", "/i/Snap-2"),
        children=("/i/Snap-3",),
        phase="copied",
        remove=True,
    )
    plan = finish(moved, entry)
    assert not plan.refused, "the guest runs on the base already, and does not mind"
    assert [step.action for step in plan.steps] == ["mark invalid", "remove", "remove", "finish"]


@pytest.mark.parametrize("there", [[], [image("Snap-2")], [image("RootBase")], [image("RootBase"), image("Snap-2")]])
def test_an_entry_whose_images_are_not_as_it_left_them_is_a_plan_that_is_refused(there: list[Image]) -> None:
    entry = MergeEntry(base="/i/RootBase", top="/i/Snap-2", merged=("/i/Snap-2",), children=("/i/Snap-3",))
    plan = finish(forest(*there), entry)
    assert refused(plan) == {"missing-base"}
    assert entry.path in plan.to_text()
    assert "svg" in str(plan._repr_mimebundle_())


def test_a_guest_that_may_write_to_the_base_by_now_is_asked() -> None:
    """A commit of the image that a guest writes to, and nobody knows of the guest."""
    entry = MergeEntry(base="/i/Snap-1", top="/i/Snap-2", merged=("/i/Snap-2",), active=True)
    chain = forest(image("RootBase"), image("Snap-1", "RootBase"), image("Snap-2", "Snap-1"))
    assert refused(finish(chain, entry)) == {"missing-base"}
    moved = chain.edited(uses=[Use("g", "vda", "/i/Snap-1", "running")])
    assert refused(finish(moved, entry)) == {"disk-changed", "other-image"}
    writing = moved.edited(put=[replace(moved["/i/Snap-1"], held="write")])
    plan = finish(writing, entry)
    # Its QEMU has the base open for writing, and the top not at all; but what it gets at its next start is not known.
    assert refused(plan) == {"other-image"}
    assert [step.action for step in plan.steps] == ["mark invalid", "finish"]
    still = chain.edited(uses=[Use("g", "vda", "/i/Snap-2", "shut off")])
    assert "commit" in [step.action for step in finish(still, entry).steps]


def test_cleanup_removes_what_is_invalid_and_nothing_else() -> None:
    spoilt = handout(image("Old", "RootBase", status="invalid"), image("Older", "Old", status="invalid"))
    plan = cleanup(spoilt)
    assert plan.unlinks == ("/i/Older", "/i/Old")
    assert not plan.refused
    needed = handout(image("Old", "RootBase", status="invalid"), image("Other", "Old"))
    assert cleanup(needed).refused
    with pytest.raises(InvalidRequestError, match="no image"):
        cleanup(handout())


def test_a_merge_of_a_guest_is_finished_without_it_where_it_no_longer_names_what_was_merged() -> None:
    one = handout()
    entry = MergeEntry(base="/i/Snap-3", top="/i/Snap-4", merged=("/i/Snap-4",), phase="copied", guest="g", uuid="u")
    facts = replace(FACTS, alike=frozenset({("/i/Snap-4", "/i/Snap-3")}))
    assert refused(finish(one, entry, facts=facts)) == {"other-image"}, "nobody knows of the guest"
    off = one.edited(uses=(Use("g", "vda", "/i/Snap-3"),))
    assert refused(finish(off, entry, facts=facts)) == set()
    disk = SnapshotDisk("vda", "external", "/i/Snap-4", "/i/later")
    record = SnapshotRecord("g", "s", "disk-snapshot", disks=(disk,), xml="<domainsnapshot/>")
    assert "other-image" in refused(finish(off.edited(records=[record]), entry, facts=facts))


COPIED = MergeEntry(
    base="/i/Snap-2",
    top="/i/Snap-3",
    merged=("/i/Snap-3",),
    children=("/i/Snap-4",),
    phase="copied",
    guest="g",
    uuid="u",
)
ALIKE = replace(FACTS, alike=frozenset({("/i/Snap-3", "/i/Snap-2")}))


def test_an_overlay_that_cannot_be_given_the_base_as_it_is_is_refused() -> None:
    """It may have been made on the merged layer since, and nobody has checked it yet."""
    one = handout()
    offset = 'json:{"driver":"raw","offset":512,"file":{"driver":"qcow2","file":{"filename":"/i/Snap-3"}}}'
    entry = replace(COPIED, guest="")
    for later, names in (
        (image("later", "Snap-3"), set()),
        (image("later", "Snap-3", encryption="luks"), {"not-supported"}),
        (replace(image("later", "Snap-3"), backing=Reference(offset, "json:", "/i/Snap-3", "raw")), {"not-supported"}),
    ):
        plan = finish(one.edited(put=[later]), entry, facts=ALIKE)
        assert refused(plan) == names
        assert "/i/later" in {path for step in plan.steps for path in step.writes}
