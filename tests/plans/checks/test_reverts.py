"""What an interrupted revert of a guest with several disks keeps from being done."""

from __future__ import annotations

import pytest
from support.forests import forest, image
from support.readings import reading

from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.plans.checks.start import interrupted_reverts
from vmsnap_nb.plans.journal import RevertEntry


@pytest.mark.parametrize(("uuid", "guest", "remedy"), [("u", "old", "unfinished()"), ("before", "g", "unfinished()")])
def test_a_guest_is_not_started_whose_disks_may_differ_also_if_it_was_defined_anew(
    uuid: str, guest: str, remedy: str
) -> None:
    domain = Domain("g", "u", "shut off", True, (Disk("vda", "/i/a", "qcow2"), Disk("vdb", "/i/b", "qcow2")))
    inside = (InternalSnapshot("1", "s"),)
    tree = forest(image("/i/a", snapshots=inside), image("/i/b", snapshots=inside), uses=domain.uses)
    entry = RevertEntry(folder="/i", guest=guest, uuid=uuid, name="s", to="off")
    [concern] = interrupted_reverts(reading(tree, domain, entries=(entry,)))
    assert concern.level == "refuse"
    assert remedy in (concern.remedy or "")


def test_the_revert_of_another_guest_is_none_of_its_business() -> None:
    domain = Domain("g", "u", "shut off", True, (Disk("vda", "/i/a", "qcow2"), Disk("vdb", "/i/b", "qcow2")))
    inside = (InternalSnapshot("1", "s"),)
    tree = forest(image("/i/a", snapshots=inside), image("/i/b", snapshots=inside), uses=domain.uses)
    entry = RevertEntry(folder="/i", guest="other", uuid="before", name="s", to="off")
    assert list(interrupted_reverts(reading(tree, domain, entries=(entry,)))) == []
