"""Memory that was saved goes on with the images that it names: no verb, of guests or of images, takes these away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.guests import discard

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest

Verb = Callable[[Lab, Guest], LivePlan]
BY_GUEST: dict[str, Verb] = {
    "commit": lambda _, guest: guest.commit(base="kept.s1"),
    "lower commit": lambda _, guest: guest.commit(top="kept.s1"),
    "pull with removal": lambda _, guest: guest.pull(base="RootBase", remove=True),
    "shorten": lambda _, guest: guest.shorten(keep=2, remove=True),
}
BY_IMAGES: dict[str, Verb] = {
    "commit of images": lambda lab, _: lab.survey().commit("kept.s1"),
    "removal of an image": lambda lab, _: lab.survey().remove("kept.s1"),
    "pull of images": lambda lab, _: lab.survey().pull("kept.s2", "RootBase", remove=True),
    "shorten of images": lambda lab, _: lab.survey().shorten("kept.s2", keep=2, remove=True),
}


@pytest.fixture(scope="module")
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """Return a guest that runs, with two snapshots that libvirt has no record of."""
    guest = lab.guest("kept", backing=base, boot="disk").start(wait=False)
    for name in ("s1", "s2"):
        guest.snapshot(name, kind="external-disk", metadata=False).run(progress=False)
    yield guest
    discard(guest)


@pytest.fixture(scope="module", params=["managed save", "saved memory"])
def saved(request: pytest.FixtureRequest, lab: Lab, guest: Guest) -> Iterator[str]:
    """Return what was saved; it can be restored afterwards."""
    path = str(Path(guest.chain()[-1].path).parent / "kept.save") if request.param == "saved memory" else None
    assert guest.save(path).run(progress=False).as_predicted
    yield request.param
    assert guest.restore(path).run(progress=False).as_predicted
    assert guest.state == "running"
    if path is not None:
        # Once the guest has gone on, the file is of no use any more, and needs nothing.
        assert not [need for need in lab.survey().needs if need.kind == "saved memory"]
        Path(path).unlink()


@pytest.mark.parametrize("verb", [*BY_GUEST, *BY_IMAGES])
def test_what_saved_memory_goes_on_with_is_not_merged_away(lab: Lab, guest: Guest, saved: str, verb: str) -> None:
    plan = (BY_GUEST | BY_IMAGES)[verb](lab, guest)
    name = "managed-save" if verb in BY_GUEST and saved == "managed save" else "state-lost"
    against = [concern for concern in plan.concerns if concern.level == "refuse" and concern.name == name]
    assert against, plan.concerns
    assert all(concern.holders == ("kept",) and concern.remedy for concern in against)


def test_tables_name_it(lab: Lab, guest: Guest, saved: str) -> None:
    text = "managed save of kept" if saved == "managed save" else "memory of kept in kept.save"
    frame = lab.survey().to_frame().set_index("image")
    for layer in ("RootBase", "kept", "kept.s1", "kept.s2"):
        assert text in frame.loc[layer, "needed_by"], layer
    assert text in guest.chain().to_frame().set_index("image").loc["kept.s1", "needed_by"]


def test_a_snapshot_is_deleted_without_what_a_managed_save_needs(lab: Lab, base: Image) -> None:
    guest = lab.guest("keeper", backing=base, boot="disk").start(wait=False)
    try:
        for name in ("s1", "s2"):
            guest.snapshot(name, kind="external-disk").run(progress=False)
        guest.save().run(progress=False)
        for name in ("s1", "s2"):
            plan = guest.delete_snapshot(name)
            assert plan.unlinks == ()
            assert plan.run(progress=False).as_predicted
        assert [image.name for image in guest.chain()] == ["RootBase", "keeper.s2"]
        assert "managed save of keeper" in lab.survey().to_frame().set_index("image").loc["keeper.s1", "needed_by"]
        assert guest.restore().run(progress=False).as_predicted
        assert guest.state == "running"
    finally:
        discard(guest)
