"""The handout's walk-through on real guests, and the step in it that fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.waiting import eventually

from vmsnap_nb.errors import ConcernWarning, GuestError, InUseError, InvalidRequestError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def walker(lab: Lab, base: Image) -> Iterator[Guest]:
    """A guest of this file's own, since others go on from where it is."""
    guest = lab.guest("walker", backing=base, overlay="Walk-1").start()
    guest.execute("echo 'Add this file in overlay-1' > /overlay-1; touch /walked").check()
    yield guest
    guest.destroy()


def test_the_disk_is_listed_with_the_depth_of_its_chain(lab: Lab, base: Image, walker: Guest) -> None:
    overlay = str(lab.root / "images" / "Walk-1.qcow2")
    [disk] = walker.disks()
    assert (disk.target, disk.source, disk.format, disk.bus, disk.device) == ("vda", overlay, "qcow2", "virtio", "disk")
    assert disk.capacity == base.virtual_size
    assert disk.allocated is not None
    assert 0 < disk.allocated < (base.allocated or 0)
    assert walker.disks().depths == (2,)
    assert list(walker.disks().to_frame().columns) == [
        "source",
        "format",
        "bus",
        "device",
        "depth",
        "capacity",
        "allocated",
    ]
    chain = walker.chain("vda")
    assert [layer.name for layer in chain] == ["RootBase", "Walk-1"]
    assert [chain.active(layer) for layer in chain] == [False, True]
    assert "walker" in [use.guest for use in chain.forest.users(base.path)]
    assert not base.writable
    assert "Walk-1" in chain.to_text()


def test_a_second_guest_on_the_overlay_cannot_start_while_the_first_runs(lab: Lab, walker: Guest) -> None:
    plan = lab.plan_guest("second", backing=walker, overlay="Overlay-1A")
    assert {(c.name, c.level, c.holders) for c in plan.concerns} == {("in-use", "warn", ("walker",))}
    assert plan.run(progress=False).as_predicted
    second = lab.guest("second")
    assert [layer.name for layer in second.chain()] == ["RootBase", "Walk-1", "Overlay-1A"]

    # Known before, with the name of the holder and both remedies.
    [concern] = second.concerns()
    assert (concern.name, concern.holders) == ("in-use", ("walker",))
    assert concern.images == (walker.chain().top,)
    with pytest.raises(InUseError) as known:
        second.start()
    assert known.value.holders == ("walker",)
    assert "shut walker down" in str(known.value)
    assert "external snapshot of walker" in str(known.value)

    # By force: QEMU's own words, as the same error.
    with pytest.raises(InUseError, match='Failed to get shared "write" lock') as forced:
        second.start(force=True)
    assert forced.value.holders == ("walker",)
    assert forced.value.next_step == known.value.next_step
    assert second.state == "shut off"

    # One remedy: after an external snapshot the first guest writes to a new overlay, and goes on running.
    walker.handle.domain.snapshotCreateXML(
        "<domainsnapshot><disks><disk name='vda' snapshot='external'>"
        f"<source file='{lab.root}/images/Overlay-1X.qcow2'/></disk></disks></domainsnapshot>",
        16 | 4 | 128,  # disk only, no metadata, all or none
    )
    assert [layer.name for layer in walker.chain()] == ["RootBase", "Walk-1", "Overlay-1X"]
    assert second.concerns() == ()
    second.start()
    assert second.execute("cat /overlay-1").stdout == "Add this file in overlay-1\n"
    assert walker.state == "running"


def press_the_power_button(guest: Guest) -> None:
    """Do what virsh shutdown does. Its modules are loaded after the guest is ready; then all are read."""
    read = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -o '/dev/input/event[0-9]*' | sort -u | wc -l"
    there = "ls /dev/input/event* 2>/dev/null | wc -l"
    guest.execute(
        "until [ -d /sys/module/button ] && [ -d /sys/module/evdev ]; do sleep 0.1; done; "
        f"until [ $({there}) -gt 0 ] && [ $({read}) -ge $({there}) ]; do sleep 0.1; done"
    ).check()
    guest.handle.domain.shutdown()
    assert eventually(lambda: guest.state == "shut off")


def test_or_the_guest_below_is_shut_down(lab: Lab, walker: Guest) -> None:
    below = lab.guest("second")
    below.execute("echo two > /overlay-1a").check()
    with pytest.warns(ConcernWarning, match=r"in-use: second is running .*\n  next: shut second down") as told:
        above = lab.guest("third", backing=below, overlay="Overlay-1B")
    assert [warning.filename for warning in told] == [__file__], "it names the line that was written, not one of ours"
    with pytest.raises(InUseError):
        above.start()
    with pytest.raises(GuestError, match="it is running"):
        below.undefine()

    below.destroy()  # pulling the plug loses nothing that execute has written
    assert below.state == "shut off"
    above.start()
    assert above.execute("cat /overlay-1 /overlay-1a").stdout == "Add this file in overlay-1\ntwo\n"
    assert [layer.name for layer in above.chain()] == ["RootBase", "Walk-1", "Overlay-1A", "Overlay-1B"]
    # And now the one below may not start: it would change what the one above reads.
    with pytest.raises(InUseError) as refused:
        below.start()
    assert refused.value.holders == ("third",)
    press_the_power_button(above)
    assert "going down" in above.console()
    assert lab.guest("walker").execute("ls /overlay-1a").exit_status != 0


def test_a_sibling_on_the_base_sees_nothing_of_it(walker: Guest, first: Guest) -> None:
    assert walker.execute("ls /walked").exit_status == 0
    assert first.execute("ls /walked").exit_status == 1
    assert first.execute("cat /proc/sys/kernel/hostname").stdout == "first\n"


def test_asking_again_gives_the_guest_that_is_there(lab: Lab, base: Image, walker: Guest) -> None:
    assert lab.guest("walker", backing=base).uuid == walker.uuid
    other = lab.base("Other", image=base.path)
    with pytest.raises(InvalidRequestError, match="based on RootBase <- Walk-1"):
        lab.guest("walker", backing=other)
