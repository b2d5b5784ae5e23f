"""Over a connection to another machine everything runs that libvirt can do; no file of this machine is opened."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img
from support.images import MIB, write
from support.slow_proxy import SlowProxy, slow_proxy

import vmsnap_nb as vs
from vmsnap_nb.command.main import main
from vmsnap_nb.errors import ImageError, LibvirtError, PlanRefusedError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.system.libvirt import connection
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts

DECOY = b"a file of this machine"


@pytest.fixture
def far(other: SystemLibvirt) -> Any:
    """libvirt's own handle of a host with a guest demo, whose images have the paths of files of this machine."""
    for name in ("base.qcow2", "top.qcow2"):
        (IMAGES / name).write_bytes(DECOY)
    with other.entered():
        qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "16M")
        qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
    handle = library().open(other.uri)
    pool(handle, "images", IMAGES)
    define(handle, "demo", file_disk(IMAGES / "top.qcow2"))
    yield handle
    handle.close()
    assert {path.name: path.read_bytes() for path in IMAGES.iterdir()} == {"base.qcow2": DECOY, "top.qcow2": DECOY}


@pytest.fixture
def host(far: Any, other: SystemLibvirt) -> Iterator[Host]:
    with vs.connect(other.uri) as host:
        yield host


@pytest.fixture
def guest(host: Host) -> Guest:
    return host.guest("demo")


def runs(plan: LivePlan) -> None:
    """Run a plan of which libvirt performs each step."""
    assert {step.performer for step in plan.steps} == {"libvirt"}, plan.to_text()
    report = plan.run(progress=False)
    assert (report.as_predicted, report.differences) == (True, ())


def test_no_file_of_this_machine_is_opened(far: Any, guest: Guest) -> None:
    far.lookupByName("demo").create()
    runs(guest.snapshot("s1", kind="external-disk"))
    runs(guest.commit(remove=True))
    with pytest.raises(ImageError, match="this process cannot read it"):
        guest.chain().blockmap()


def test_saved_memory_is_no_image_though_libvirt_lists_every_file(far: Any, guest: Guest, host: Host) -> None:
    far.lookupByName("demo").createWithFlags(library().VIR_DOMAIN_START_PAUSED)
    runs(guest.snapshot("c", kind="external-checkpoint"))
    memory = guest.snapshots()["c"].record.memory_file
    assert memory is not None
    assert memory not in host.survey().images
    far.lookupByName("demo").resume()
    plan = guest.delete_snapshot("c")
    assert memory in plan.unlinks
    runs(plan)


def test_what_needs_the_files_is_refused(guest: Guest) -> None:
    runs(guest.snapshot("s1", kind="external-disk"))
    with pytest.raises(PlanRefusedError, match="only libvirt can change it from here"):
        guest.commit().run(progress=False)


def test_an_overlay_is_a_volume_and_a_taken_name_is_seen(host: Host) -> None:
    runs(host.survey().overlay("new", backing="base"))
    again = host.survey().overlay("new", backing="base")
    assert "file-exists" in [concern.name for concern in again.concerns if concern.level == "refuse"]


def test_the_chain_of_a_guest_with_a_base_that_is_gone_or_in_no_pool(
    far: Any, guest: Guest, host: Host, other: SystemLibvirt
) -> None:
    with other.entered():
        (IMAGES / "base.qcow2").unlink()
    chain = guest.chain()
    assert [(image.name, image.status) for image in chain] == [("base", "missing"), ("top", "ok")]
    assert list(chain) == list(host.survey().chain("top"))
    with other.entered():
        qemu_img("rebase", "-u", "-b", "/var/tmp/elsewhere.qcow2", "-F", "qcow2", "top.qcow2")
        (IMAGES / "new.qcow2").write_bytes((IMAGES / "top.qcow2").read_bytes())
    chain = guest.chain()  # libvirt still has the old base in its pool's list
    assert [(image.name, image.status) for image in chain] == [("elsewhere", "outside"), ("top", "ok")]
    assert "in none of its storage pools" in chain[0].problem
    define(far, "made-elsewhere", file_disk(IMAGES / "new.qcow2"))  # no volume that libvirt has seen yet
    assert [image.name for image in host.guest("made-elsewhere").chain()] == ["elsewhere", "new"]


def test_what_cannot_be_known_from_here_is_said(guest: Guest) -> None:
    notes = [concern for concern in guest.snapshot("s1").concerns if concern.level == "note"]
    [note] = [note for note in notes if "whether a vmsnap_nb operation was interrupted" in note.what]
    assert note.remedy.endswith(f"ssh -- 127.0.0.1 'vmsnap-nb plan finish {IMAGES}'")


@pytest.fixture
def network(other: SystemLibvirt) -> Iterator[SlowProxy]:
    """A slow network to a host with 12 guests on one base; g0 has two layers above it, and all have a snapshot."""
    handle = library().open(other.uri)
    with other.entered():
        qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "16M")
        for number in range(12):
            qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", f"g{number}.qcow2")
        qemu_img("create", "-q", "-f", "qcow2", "-b", "g0.qcow2", "-F", "qcow2", "top.qcow2")
    pool(handle, "images", IMAGES)
    for number in range(12):
        domain = define(handle, f"g{number}", file_disk(IMAGES / ("top.qcow2" if number == 0 else f"g{number}.qcow2")))
        domain.snapshotCreateXML("<domainsnapshot><name>a</name></domainsnapshot>")
    handle.close()
    with slow_proxy(other.port, delay=0.02) as network:
        yield network


def test_the_number_of_round_trips_does_not_grow_with_the_guests(network: SlowProxy) -> None:
    with vs.connect(f"qemu+tcp://127.0.0.1:{network.port}/system") as host:
        guest = host.guest("g0")
        for read in (host.survey, host.snapshots, lambda: guest.snapshot("b"), lambda: guest.revert("a")):
            began = network.trips
            read()
            assert network.trips - began <= 30  # one by one they are more than 200


@pytest.mark.parametrize("state", ["off", "running"])
def test_the_chain_of_one_guest_is_a_few_round_trips(network: SlowProxy, state: str) -> None:
    with vs.connect(f"qemu+tcp://127.0.0.1:{network.port}/system") as host:
        if state == "running":
            host.connection.lookupByName("g0").createWithFlags(library().VIR_DOMAIN_START_PAUSED)
        whole = host.survey()
        trips, calls = network.trips, network.calls
        chain = host.guest("g0").chain()
        assert network.trips - trips <= 10
        assert network.calls - calls <= 25  # of 12 guests it would be more
        assert list(chain) == list(whole.chain("top"))
        assert [snapshot.name for snapshot in chain["top"].snapshots] == ["a"]
        assert chain.to_frame()["used_by"].isna().tolist() == [True, True, False]
        assert "other guests were not read" in chain.to_text()
        assert "were not read" not in whole.chain("top").to_text()


def test_a_daemon_that_was_restarted_is_connected_again(far: Any, guest: Guest, other: SystemLibvirt) -> None:
    assert guest.state == "shut off"
    other.restart()
    for _ in range(100):  # the end of the connection is seen a little later
        with contextlib.suppress(LibvirtError):
            assert guest.state == "shut off"
            break
    runs(guest.snapshot("i1", kind="internal-disk"))


def test_a_network_that_is_down_is_an_error_with_a_next_step(
    far: Any, other: SystemLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_KEEPALIVE", (1, 1))  # instead of 15 s each
    monkeypatch.setattr(connection, "_SECONDS", 2)
    with slow_proxy(other.port) as network, vs.connect(f"qemu+tcp://127.0.0.1:{network.port}/system") as host:
        guest = host.guest("demo")
        network.silence(True)
        began = time.monotonic()
        with pytest.raises(LibvirtError) as error:
            guest.chain()
        assert "check the network" in str(error.value.next_step)
        with pytest.raises(LibvirtError, match="did not respond"):
            guest.chain()  # the connection is made again, and the network is down still
        assert time.monotonic() - began < 15
        network.silence(False)
        assert len(guest.chain()) == 2


def test_what_is_found_there_is_corrected_there(host: Host) -> None:
    (found,) = (one for one in host.findings() if one.name == "writable-base")
    assert found.help == f"ssh -- 127.0.0.1 'chmod a-w -- {found.where}'"


def test_a_named_folder_that_is_no_pool_is_not_known(host: Host) -> None:
    """Without a row for it, a check of that folder would say that all is well."""
    (found,) = (one for one in host.findings("/srv/none") if one.where == "/srv/none")
    assert (found.name, found.severity) == ("unknown-image", "error")
    assert "virsh pool-define-as NAME dir --target /srv/none" in str(host.survey("/srv/none")["/srv/none"].problem)
    for known in (IMAGES, IMAGES.parent):
        assert not [one for one in host.findings(known) if one.where == str(known)]


def test_a_named_folder_hides_no_overlay_in_another_pool(far: Any, host: Host, other: SystemLibvirt) -> None:
    with other.entered():
        (IMAGES / "more").mkdir()
        qemu_img("create", "-q", "-f", "qcow2", "-b", IMAGES / "base.qcow2", "-F", "qcow2", "more/over.qcow2")
        qemu_img("create", "-q", "-f", "qcow2", "more/old.qcow2", "1M")
    pool(far, "more", IMAGES / "more")
    for folders in ((), (IMAGES,)):
        assert "over" in [host.survey(*folders)[path].name for path in host.survey(*folders).children("base")]
        assert str(IMAGES / "more" / "old.qcow2") in [one.path for one in host.leftovers(*folders)]


def test_names_on_a_command_line_are_not_those_of_files_here(
    far: Any, other: SystemLibvirt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").write_bytes(DECOY)  # a file of that name in the current folder
    assert main(["run", "overlay", "new", "--backing", "base", "--connect", other.uri, "--yes"]) == 0
    with other.entered():
        assert (IMAGES / "new.qcow2").exists()


def test_a_network_that_dies_in_a_merge_is_waited_for_once(
    far: Any, other: SystemLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens there after that is said; that it is not seen takes no second time limit."""
    monkeypatch.setattr(connection, "_KEEPALIVE", (1, 1))
    monkeypatch.setattr(connection, "_SECONDS_AGAIN", 1)
    with other.entered():
        write(IMAGES / "base.qcow2", "write -q -P 1 0 4M")
    far.lookupByName("demo").createWithFlags(library().VIR_DOMAIN_START_PAUSED)
    with slow_proxy(other.port) as network, vs.connect(f"qemu+tcp://127.0.0.1:{network.port}/system") as host:
        job = host.guest("demo").pull(bandwidth=MIB // 8).start()
        time.sleep(0.5)
        network.silence(True)
        began = time.monotonic()
        with pytest.raises(LibvirtError, match="keepalive timeout") as raised:
            job.wait(30)
        assert time.monotonic() - began < 8  # not 15 s for another connection
        assert "may still be completed there" in "".join(raised.value.__notes__)
        network.silence(False)
    far.lookupByName("demo").blockJobAbort("vda")
