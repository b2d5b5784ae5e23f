"""Merges of running guests on all kinds of chains: relative names, raw and growing bases, several disks, siblings."""

from __future__ import annotations

import os
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import run
from support.content import content
from support.images import MIB, create, handout_chain, write
from support.labs import start_paused
from support.refusals import refused

from vmsnap_nb.errors import ConcernWarning, PlanRefusedError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest

pytestmark = pytest.mark.guest

_COUNT = iter(range(1000))


class Makes:
    """Makes guests whose first disk is an image of one's own, and takes them away."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.guests: list[tuple[Guest, str]] = []

    def guest(self, *disks: Path) -> Guest:
        name = f"kind{next(_COUNT)}"
        guest = self.lab.guest(name, backing=disks[0], boot="disk", protect=False)
        own = guest.chain().top
        self.guests.append((guest, own))
        root = ET.fromstring(guest.xml())
        devices = root.find("devices")
        assert devices is not None
        first = devices.find("disk")
        assert first is not None
        devices.remove(first)
        for letter, path in zip("abc", disks, strict=False):
            format = "raw" if path.suffix == ".img" else "qcow2"
            devices.append(
                ET.fromstring(
                    f"<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/>"
                    f"<target dev='vd{letter}' bus='virtio'/></disk>"
                )
            )
        self.lab.connection.defineXML(ET.tostring(root, encoding="unicode"))
        os.unlink(own)
        return guest


@pytest.fixture
def make(lab: Lab) -> Iterator[Makes]:
    makes = Makes(lab)
    yield makes
    for guest, _ in makes.guests:
        guest.power.destroy()
        guest.undefine()


def names(guest: Guest, target: str | None = None) -> list[str]:
    return [image.name for image in guest.chain(target)]


def done(guest: Guest, plan: object) -> None:
    report = plan.run(progress=False)  # type: ignore[attr-defined]
    assert report.as_predicted, report.differences
    assert guest.unfinished() == ()


def test_relative_names_stay_relative(make: Makes, short: Path) -> None:
    paths = handout_chain(short)
    was = content(paths[-1])
    guest = make.guest(paths[-1])
    start_paused(guest)
    done(guest, guest.commit(top="Snap-2", base="Snap-1"))
    done(guest, guest.pull(base="Snap-1", remove=True))
    assert names(guest) == ["RootBase", "Snap-1", "Snap-4"]
    done(guest, guest.commit(keep_active=True))
    done(guest, guest.commit())
    assert names(guest) == ["RootBase", "Snap-1"]
    guest.destroy()
    # So the folder can be moved as a whole.
    (short / "moved").mkdir()
    for path in paths[:2]:
        path.rename(short / "moved" / path.name)
    assert content(short / "moved" / "Snap-1.qcow2") == was


def test_a_commit_keeps_the_relative_name_of_what_stands_on_it(make: Makes, short: Path) -> None:
    paths = handout_chain(short)
    guest = make.guest(paths[-1])
    start_paused(guest)
    done(guest, guest.commit(top="Snap-3", base="Snap-1"))
    backing = guest.host.survey(short)[str(paths[-1])].backing
    assert backing is not None
    assert (backing.kind, backing.written) == ("relative", "Snap-1.qcow2")


def test_a_raw_base_takes_the_data_and_becomes_the_disk(make: Makes, short: Path) -> None:
    base = short / "base.img"
    run("qemu-img", "create", "-q", "-f", "raw", str(base), str(16 * MIB))
    write(base, "write -q -P 9 0 4M", format="raw")
    low = create(short / "low.qcow2", base, backing_format="raw")
    high = create(short / "high.qcow2", low)
    top = create(short / "top.qcow2", high)
    for number, path in enumerate((low, high, top), 1):
        write(path, f"write -q -P {number} {number}M 1M", f"write -q -z {number * 64}k 64k")
    was = content(top)
    guest = make.guest(top)
    start_paused(guest)
    done(guest, guest.commit(top="low"))
    assert names(guest) == ["base", "high", "top"]
    done(guest, guest.pull(base="base", remove=True))
    done(guest, guest.commit())
    assert names(guest) == ["base"]
    guest.destroy()
    assert content(base, "raw") == was
    start_paused(guest)  # the stored record says that its disk is raw
    assert 'type="raw"' in guest.xml().replace("'", '"')


@pytest.mark.filterwarnings("ignore::vmsnap_nb.errors.ConcernWarning")
def test_a_layer_that_ends_before_data_of_the_base_is_not_left_out(make: Makes, short: Path) -> None:
    base = create(short / "base.qcow2", size=4 * MIB)
    write(base, "write -q -P 9 0 4M")
    layer = create(short / "layer.qcow2", base, size=2 * MIB)
    top = create(short / "top.qcow2", layer, size=4 * MIB)
    was = content(top)
    guest = make.guest(top)
    start_paused(guest)
    plan = guest.pull(base="base")
    assert refused(plan) == {"smaller-size"}
    [concern] = [one for one in plan.concerns if one.level == "refuse"]
    assert concern.what.startswith("layer ends after 2097152 bytes, and top reads zeros beyond that")
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    assert not guest.pull().refused  # then there is no base of which data could become visible
    guest.destroy()
    done(guest, guest.pull(base="base"))  # as the remedy says
    assert content(top) == was
    assert names(guest) == ["base", "top"]


def test_a_base_grows_to_the_size_of_what_is_committed(make: Makes, short: Path) -> None:
    base = create(short / "base.qcow2", size=8 * MIB)
    write(base, "write -q -P 9 0 8M")
    low = create(short / "low.qcow2", base, size=16 * MIB)
    write(low, "write -q -P 1 7M 9M")
    top = create(short / "top.qcow2", low, size=32 * MIB)
    write(top, "write -q -P 2 30M 1M")
    was = content(top)
    guest = make.guest(top)
    start_paused(guest)
    for plan, size in ((guest.commit(top="low"), 16), (guest.commit, 32)):
        plan = plan() if callable(plan) else plan
        assert any(concern.name == "grows-base" and concern.level == "warn" for concern in plan.concerns)
        done(guest, plan)
        assert guest.host.survey(short)[str(base)].virtual_size == size * MIB
    guest.destroy()
    assert content(base) == was


def test_several_disks_are_merged_each_by_itself_and_at_once(make: Makes, short: Path) -> None:
    chains = []
    for name in ("a", "b"):
        (short / name).mkdir()
        chains.append(handout_chain(short / name))
    guest = make.guest(chains[0][-1], chains[1][-1])
    was = [content(chain[-1]) for chain in chains]
    start_paused(guest)
    done(guest, guest.commit(disk="vdb", top="Snap-3", base="Snap-1"))
    assert names(guest, "vda") == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]
    assert names(guest, "vdb") == ["RootBase", "Snap-1", "Snap-4"]
    # Two jobs at once, on two disks.
    slow = guest.commit(disk="vda", base="Snap-3", bandwidth=MIB // 16).start()
    fast = guest.pull(disk="vdb").start()
    assert fast.wait(60).as_predicted
    assert slow.running
    guest.handle.domain.blockJobSetSpeed("vda", 0)
    slow.wait(60)
    assert names(guest, "vda") == ["RootBase", "Snap-1", "Snap-2", "Snap-3"]
    assert names(guest, "vdb") == ["Snap-4"]
    assert guest.blockmap("vdb").layers[0].path == str(chains[1][-1])
    guest.destroy()
    assert [content(chains[0][3]), content(chains[1][-1])] == was


def test_siblings_in_other_folders_are_seen_where_a_guest_has_them(make: Makes, short: Path) -> None:
    paths = handout_chain(short)
    guest = make.guest(paths[-1])
    start_paused(guest)
    assert refused(guest.commit(top="Snap-3", base="Snap-1")) == set()
    others = {}
    for way, written in {"relative": "../Snap-1.qcow2", "json": "", "link": "images/Snap-1.qcow2"}.items():
        folder = short / way
        folder.mkdir()
        if way == "link":
            (folder / "images").symlink_to(short)
        name = written or f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{paths[1]}"}}}}'
        others[way] = create(folder / f"{way}.qcow2", name)
    for way, path in others.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConcernWarning)  # of a base that only a header places elsewhere
            other = make.guest(path)
        plan = guest.commit(top="Snap-3", base="Snap-1")
        shared = [concern for concern in plan.concerns if concern.level == "refuse"]
        assert [concern.name for concern in shared] == ["shared-base"], way
        assert other.name in shared[0].holders
        assert str(path) in shared[0].images
        with pytest.raises(PlanRefusedError, match="shared-base"):
            plan.run(progress=False)
    assert refused(guest.pull(base="Snap-1")) == set()


def test_the_blockmap_of_a_guest_that_runs_and_of_one_that_is_off(make: Makes, short: Path) -> None:
    paths = handout_chain(short)
    guest = make.guest(paths[-1])
    off = guest.blockmap()
    assert [layer.path for layer in off.layers] == list(map(str, paths))
    start_paused(guest)
    assert guest.blockmap().runs == off.runs
    done(guest, guest.commit(top="Snap-3", base="Snap-1"))
    now = guest.blockmap("vda")
    assert [layer.path for layer in now.layers] == [str(paths[0]), str(paths[1]), str(paths[4])]
    # Wherever the guest read data it still does. QEMU has written zeros out where a layer only said so.
    assert all(now.owner(place) is not None for run in off.visible for place in (run.start, run.start + run.length - 1))
    assert sum(own for own, _ in now.totals) >= sum(own for own, _ in off.totals)
