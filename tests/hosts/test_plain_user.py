"""A plain user in the group libvirt, who may not read the images: what libvirt tells is shown, what it does is done."""

from __future__ import annotations

import json
import os
import stat
import struct
from typing import Any

import pytest
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img, volume_disk

import vmsnap_nb as vs

pytestmark = pytest.mark.hosts

TRY = """
import json
host = vs.connect("qemu:///system")
guest = host.guest("demo")
for line in sys.argv[1:]:
    plan = eval(line)
    said = {"line": line, "refused": sorted({c.name for c in plan.concerns if c.level == "refuse"})}
    said["performers"] = sorted({step.performer for step in plan.steps})
    said["warned"] = sorted({c.name for c in plan.concerns if c.level == "warn"})
    if not plan.refused:
        report = plan.run(progress=False)
        said["as_predicted"], said["differences"] = report.as_predicted, report.differences
    print(json.dumps(said))
"""


def tried(system: SystemLibvirt, *lines: str) -> list[dict[str, Any]]:
    """What came of plans that a plain user makes and runs, one after the other."""
    done = system.python(TRY, *lines, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def chain_of_two(connection: Any, *, running: bool, format: str = "qcow2") -> Any:
    """A guest demo on an overlay of a base, both only for QEMU's user."""
    qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "16M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
    for name in ("base.qcow2", "top.qcow2"):
        os.chmod(IMAGES / name, 0o600)
    return define(connection, "demo", file_disk(IMAGES / "top.qcow2"), running=running)


def test_what_libvirt_tells_of_images_is_shown_with_its_source(system: SystemLibvirt, connection: Any) -> None:
    chain_of_two(connection, running=True)
    show = """
        guest = vs.connect("qemu:///system").guest("demo")
        for image in guest.chain():
            print(image.name, image.status, image.known_from, image.virtual_size, "Permission denied" in image.problem)
        print("this process cannot read" in guest.chain().to_text())
    """
    done = system.python(show)
    both = ["base ok definition 16777216 True", "top ok definition 16777216 True", "True"]
    assert done.stdout.splitlines() == both, done.stderr
    pool(connection, "images", IMAGES)
    done = system.python(show)
    assert done.stdout.replace("volume data", "definition").splitlines() == both, done.stderr
    assert "volume data" in done.stdout
    connection.lookupByName("demo").destroy()
    assert "volume data" in system.python(show).stdout  # also of a guest that is off


def test_internal_snapshots_of_an_image_that_only_libvirt_reads(system: SystemLibvirt, connection: Any) -> None:
    chain_of_two(connection, running=False)
    with vs.connect("qemu:///system") as host:
        assert host.guest("demo").snapshot("inside", kind="internal-disk").run(progress=False).as_predicted
    os.chmod(IMAGES / "top.qcow2", 0o600)
    pool(connection, "images", IMAGES)
    done = system.python(
        """
        guest = vs.connect("qemu:///system").guest("demo")
        print([snapshot.name for snapshot in guest.chain()[-1].snapshots], [s.status for s in guest.snapshots()])
        """
    )
    assert done.stdout == "['inside'] ['ok']\n", done.stderr


def test_a_running_guest_without_a_pool(system: SystemLibvirt, connection: Any) -> None:
    chain_of_two(connection, running=True)
    snapshot, commit, pull = tried(
        system,
        "guest.snapshot('s1', kind='external-disk')",
        "guest.commit()",
        "guest.pull()",
    )
    assert (snapshot["as_predicted"], snapshot["performers"]) == (True, ["libvirt"])
    assert commit["refused"] == ["unknown-image"]  # other overlays in a folder that cannot be listed
    assert (pull["as_predicted"], pull["performers"]) == (True, ["libvirt"]), pull


def test_a_guest_whose_folder_may_not_be_entered(system: SystemLibvirt, connection: Any) -> None:
    closed = IMAGES / "closed"
    closed.mkdir(mode=0o700)
    qemu_img("create", "-q", "-f", "qcow2", closed / "disk.qcow2", "16M")
    define(connection, "demo", file_disk(closed / "disk.qcow2"))
    [snapshot] = tried(system, "guest.snapshot('s1', kind='external-disk')")
    assert (snapshot["as_predicted"], snapshot["differences"]) == (True, [])
    done = system.python(
        """
        with vs.connect("qemu:///system") as host:
            print(host.guest("demo").snapshots()["s1"].problem)
        """
    )
    assert "no permission" in done.stdout, done
    assert "machine" not in done.stdout


def test_a_guest_that_is_off(system: SystemLibvirt, connection: Any) -> None:
    chain_of_two(connection, running=False)
    pool(connection, "images", IMAGES)
    results = tried(
        system,
        "guest.snapshot('s1', kind='external-disk')",
        "guest.snapshot('i1', kind='internal-disk')",
        "guest.revert('i1', keep_current=False)",
        "guest.revert('s1')",
    )
    assert [one["refused"] for one in results] == [[]] * 4, results
    assert [one["as_predicted"] for one in results] == [True] * 4, results
    # libvirt's own overlays of a guest that is off are for everybody to read; these are not.
    assert stat.S_IMODE(os.stat(IMAGES / "top.s1.qcow2").st_mode) & 0o077 == 0
    # What needs the files themselves is refused, with that reason.
    [commit] = tried(system, "guest.commit()")
    assert "no-permission" in commit["refused"]
    assert "qemu-img" in commit["performers"]


def test_an_overlay_is_made_as_a_volume_with_owner_and_mode_of_the_image_below(
    system: SystemLibvirt, connection: Any
) -> None:
    chain_of_two(connection, running=False)
    os.chmod(IMAGES / "base.qcow2", 0o640)
    pool(connection, "images", IMAGES)
    base, new = IMAGES / "base.qcow2", IMAGES / "new.qcow2"
    [made] = tried(system, f"host.survey({str(IMAGES)!r}).overlay({str(new)!r}, {str(base)!r})")
    assert (made["refused"], made["performers"], made["as_predicted"]) == ([], ["libvirt"], True), made
    had, has = os.stat(base), os.stat(new)
    assert (stat.S_IMODE(has.st_mode), has.st_uid, has.st_gid) == (0o640, had.st_uid, had.st_gid)
    with vs.connect("qemu:///system") as host:
        assert [image.name for image in host.survey().chain(str(new))] == ["base", "new"]


def test_a_volume_on_an_image_with_an_access_control_list_is_for_its_owner(
    system: SystemLibvirt, connection: Any
) -> None:
    chain_of_two(connection, running=False)
    pool(connection, "images", IMAGES)
    base, new = IMAGES / "base.qcow2", IMAGES / "new.qcow2"
    # A further user may read it, its group may not; the bits of the group say what the list permits at most.
    rows = ((0x01, 6, -1), (0x02, 4, 64055), (0x04, 0, -1), (0x10, 4, -1), (0x20, 0, -1))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *row) for row in rows)
    os.setxattr(base, "system.posix_acl_access", listed)
    assert stat.S_IMODE(os.stat(base).st_mode) == 0o640
    [made] = tried(system, f"host.survey({str(IMAGES)!r}).overlay({str(new)!r}, {str(base)!r})")
    assert (made["performers"], made["as_predicted"]) == (["libvirt"], True), made
    assert stat.S_IMODE(os.stat(new).st_mode) == 0o600


def test_a_pool_that_may_not_be_listed_is_said(system: SystemLibvirt, connection: Any) -> None:
    chain_of_two(connection, running=False)
    pool(connection, "images", IMAGES)
    done = system.python("print(vs.connect('qemu:///system').survey().to_text())")
    flat = " ".join(done.stdout.split())
    assert "no permission to list the folder of the storage pool images" in flat, done.stderr
    assert "top" in flat


@pytest.mark.parametrize("state", ["inactive", "undefined"])
def test_nothing_is_merged_where_a_volume_may_be_any_image(system: SystemLibvirt, connection: Any, state: str) -> None:
    chain_of_two(connection, running=False)
    images = pool(connection, "images", IMAGES)
    define(connection, "hidden", volume_disk("images", "base.qcow2"))
    connection.lookupByName("demo").undefine()
    images.destroy()
    if state == "undefined":
        images.undefine()
    with vs.connect("qemu:///system") as host:
        plan = host.survey(IMAGES).commit(IMAGES / "top.qcow2", remove=True)
        assert plan.refused
        text = " ".join(concern.what for concern in plan.concerns if concern.level == "refuse")
        assert "hidden" in text
        if state == "undefined":
            assert "volume base.qcow2 of pool images" in text


def test_nothing_is_unneeded_on_which_a_volume_of_an_inactive_pool_may_be_based(connection: Any) -> None:
    volumes = "<source><device path='/dev/none'/><name>vg</name></source><target><path>/dev/vg</path></target>"
    connection.storagePoolDefineXML(f"<pool type='logical'><name>lvm</name>{volumes}</pool>")
    qemu_img("create", "-q", "-f", "qcow2", "spare.qcow2", "1M")
    define(connection, "hidden", volume_disk("lvm", "disk"))
    with vs.connect("qemu:///system") as host:
        found = host.survey(IMAGES).leftovers()
        assert found.unseen == ("lvm/disk",)
        plan = found.remove()
        assert "unknown-image" in {concern.name for concern in plan.concerns if concern.level == "refuse"}
        [image] = host.guest("hidden").chain()
        assert "volume of a storage pool" in image.problem


def test_what_libvirt_refuses_while_a_pool_is_inactive_is_refused_before(connection: Any) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "disk.qcow2", "1M")
    images = pool(connection, "images", IMAGES)
    define(connection, "demo", volume_disk("images", "disk.qcow2"))
    with vs.connect("qemu:///system") as host:
        guest = host.guest("demo")
        assert guest.snapshot("a", kind="internal-disk").run(progress=False).as_predicted
        images.destroy()
        with pytest.raises(vs.errors.LibvirtError, match="virsh pool-start"):
            guest.start(wait=False)
        plans = [guest.snapshot("b", kind=kind) for kind in ("internal-disk", "external-disk")]  # type: ignore[arg-type]
        for plan in (*plans, guest.revert("a", keep_current=False)):
            [against] = [one for one in plan.concerns if one.level == "refuse"]
            assert against.remedy.endswith("virsh pool-start images"), plan.title
        images.create()
        assert guest.revert("a", keep_current=False).run(progress=False).as_predicted


def test_overlays_of_a_guest_that_is_off_get_owner_and_mode_of_the_image_below(
    system: SystemLibvirt, connection: Any
) -> None:
    chain_of_two(connection, running=False)
    os.chown(IMAGES / "top.qcow2", 64055, 64055)
    with vs.connect("qemu:///system") as host:
        assert host.guest("demo").snapshot("s1", kind="external-disk").run(progress=False).as_predicted
    found = os.stat(IMAGES / "top.s1.qcow2")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o600, 64055, 64055)


def test_a_plain_user_is_warned_of_overlays_that_everybody_may_read(system: SystemLibvirt, connection: Any) -> None:
    chain_of_two(connection, running=False)
    [snapshot] = tried(system, "guest.snapshot('s1', kind='external-disk')")
    assert (snapshot["refused"], snapshot["warned"], snapshot["as_predicted"]) == ([], ["no-permission"], True), (
        snapshot
    )
