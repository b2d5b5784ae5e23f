"""Who needs an image, on a host of which this process knows nothing beforehand: all that libvirt names is kept."""

from __future__ import annotations

import json
import subprocess
from html import escape
from typing import Any

import pytest
from support.content import content
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, volume_disk
from support.images import MIB, create, write
from support.refusals import refused

import vmsnap_nb as vs
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts

SYSTEM = "qemu:///system"


def virsh(*words: object) -> str:
    argv = ["virsh", "-q", "-c", SYSTEM, *map(str, words)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def lost(plan: vs.LivePlan) -> list[str]:
    return [c.what for c in plan.concerns if c.level == "refuse" and c.name in ("state-lost", "managed-save")]


def needed_by(host: vs.Host, name: str) -> str:
    return str(host.survey(IMAGES).to_frame().set_index("image").loc[name, "needed_by"])


def test_snapshots_that_virsh_took_keep_their_images(connection: Any) -> None:
    create(IMAGES / "d.qcow2", size=4 * MIB)
    define(connection, "d", file_disk(IMAGES / "d.qcow2"))
    for name in ("s1", "s2"):
        virsh("snapshot-create-as", "d", name, "--disk-only")
    with vs.connect(SYSTEM) as host:
        assert needed_by(host, "d") == "snapshot s1 of d, d.s1"
        assert needed_by(host, "d.s1") == "snapshot s1 of d, snapshot s2 of d, d.s2"
        for plan in (
            host.survey(IMAGES).commit(str(IMAGES / "d.s1"), remove=True),
            host.survey().remove(str(IMAGES / "d.s1")),
            host.survey().shorten(str(IMAGES / "d.s2"), keep=1, remove=True),
        ):
            assert any("snapshot s1 of d" in what for what in lost(plan)), plan.title


@pytest.mark.parametrize("way", ["managedsave", "save"])
def test_memory_that_virsh_saved_keeps_its_images(connection: Any, way: str) -> None:
    create(IMAGES / "base.qcow2", size=4 * MIB)
    create(IMAGES / "mid.qcow2", backing=IMAGES / "base.qcow2")
    create(IMAGES / "top.qcow2", backing=IMAGES / "mid.qcow2")
    pool(connection, "default", IMAGES)
    define(connection, "m", volume_disk("default", "top.qcow2"), running=True)
    virsh(way, "m", *(() if way == "managedsave" else (IMAGES / "m.save",)))
    text = "managed save of m" if way == "managedsave" else "memory of m in m.save"
    with vs.connect(SYSTEM) as host:
        assert text in needed_by(host, "mid")
        guest = host.guest("m")
        for plan in (
            guest.commit(top="mid"),
            guest.pull(remove=True),
            guest.shorten(keep=1, remove=True),
            host.survey().commit("mid"),
        ):
            assert lost(plan), plan.title
        if way == "managedsave":
            # What removes no layer is done: QEMU goes on with the layers that the memory names, and reads the same.
            assert guest.shorten(keep=1).run(progress=False).as_predicted
    # A folder that is read without libvirt knows files of saved memory as well.
    if way == "save":
        assert lost(vs.scan(IMAGES).commit("mid"))
    virsh(*(("start", "m") if way == "managedsave" else ("restore", IMAGES / "m.save")))
    assert virsh("domstate", "m").strip() == "paused", "as it was"


def test_layers_that_a_definition_lists_are_kept_whatever_the_headers_say(connection: Any) -> None:
    for name, backing in (("base1", None), ("base2", None), ("top", "base1"), ("other", "base2")):
        create(IMAGES / f"{name}.qcow2", backing=backing and IMAGES / f"{backing}.qcow2", size=4 * MIB)
    listed = f"<source file='{IMAGES}/base2.qcow2'/><backingStore/></backingStore>"
    layers = f"<backingStore type='file'><format type='qcow2'/>{listed}"
    domain = define(connection, "d", file_disk(IMAGES / "top.qcow2").replace("<target", f"{layers}<target"))
    with vs.connect(SYSTEM) as host:
        for _ in ("off", "running"):
            assert needed_by(host, "base2") == "definition of d (vda), other"
            guest = host.guest("d")
            for plan in (guest.commit(), guest.pull(), guest.snapshot("s", kind="external-disk")):
                assert "other-image" in refused(plan), plan.title
            if not guest.running:
                assert lost(host.survey(IMAGES).commit("other", remove=True))
                with pytest.raises(vs.errors.ImageError, match=r"lists .*base2"):
                    guest.start(wait=False)
                domain.createWithFlags(2)
        # The remedy writes into the header what the guest reads.
        domain.destroy()
        [remedy] = [one.remedy for one in guest.commit().concerns if one.name == "other-image"]
        subprocess.run(remedy.rpartition(": ")[2].split(), check=True)
        assert guest.pull().run(progress=False).as_predicted


@pytest.mark.parametrize("listed", [(), ("middle",)])
def test_a_definition_that_ends_a_chain_early_hides_layers_from_the_guest(
    connection: Any, listed: tuple[str, ...]
) -> None:
    for name, backing in (("base", None), ("middle", "base"), ("top", "middle")):
        create(IMAGES / f"{name}.qcow2", backing=backing and IMAGES / f"{backing}.qcow2", size=4 * MIB)
    write(IMAGES / "base.qcow2", "write -q -P 1 0 1M")
    end = "<backingStore/>"
    for name in listed:
        file = f"<format type='qcow2'/><source file='{IMAGES}/{name}.qcow2'/>"
        end = f"<backingStore type='file'>{file}{end}</backingStore>"
    define(connection, "d", file_disk(IMAGES / "top.qcow2").replace("<target", f"{end}<target"))
    with vs.connect(SYSTEM) as host:
        guest = host.guest("d")
        for plan in (guest.commit(), guest.pull(), guest.shorten(keep=1), guest.snapshot("s", kind="external-disk")):
            assert "other-image" in refused(plan), plan.title
        [remedy] = [str(one.remedy) for one in guest.commit().concerns if one.name == "other-image"]
        assert "virsh edit d" in remedy
        assert "qemu-img" not in remedy
        # The end of a whole chain is no contradiction.
        connection.lookupByName("d").undefine()
        define(connection, "d", file_disk(IMAGES / "base.qcow2").replace("<target", "<backingStore/><target"))
        assert not host.guest("d").snapshot("s", kind="external-disk").refused


def test_layers_that_only_a_definition_lists_are_kept(connection: Any) -> None:
    """The image below the disk is listed as a volume or as the layer above one on the network, and in no header."""
    for name, backing in (("base", None), ("other", "base"), ("top", None)):
        create(IMAGES / f"{name}.qcow2", backing=backing and IMAGES / f"{backing}.qcow2", size=4 * MIB)
    write(IMAGES / "base.qcow2", "write -q -P 1 0 1M")
    pool(connection, "default", IMAGES)
    far = "<source protocol='nbd' name='x'><host name='localhost' port='10809'/></source><backingStore/>"
    ends = {
        "volume": "<source pool='default' volume='base.qcow2'/><backingStore/>",
        "file": f"<source file='{IMAGES}/base.qcow2'/>"
        f"<backingStore type='network'><format type='raw'/>{far}</backingStore>",
    }
    for kind, end in ends.items():
        layers = f"<backingStore type='{kind}'><format type='qcow2'/>{end}</backingStore>"
        domain = define(connection, "d", file_disk(IMAGES / "top.qcow2").replace("<target", f"{layers}<target"))
        with vs.connect(SYSTEM) as host:
            assert needed_by(host, "base") == "definition of d (vda), other"
            assert lost(host.survey(IMAGES).commit("other"))
            assert "other-image" in refused(host.guest("d").snapshot("s", kind="external-disk"))
        domain.undefine()


def test_a_longer_list_whose_data_was_pulled_up_is_no_other_disk(connection: Any) -> None:
    create(IMAGES / "base.qcow2", size=4 * MIB)
    write(IMAGES / "base.qcow2", "write -q -P 1 0 1M")
    create(IMAGES / "top.qcow2", backing=IMAGES / "base.qcow2")
    listed = f"<backingStore type='file'><format type='qcow2'/><source file='{IMAGES}/base.qcow2'/></backingStore>"
    define(connection, "d", file_disk(IMAGES / "top.qcow2").replace("<target", f"{listed}<target"))
    with vs.connect(SYSTEM) as host:
        assert vs.scan(IMAGES).pull("top").run(progress=False).as_predicted
        # libvirt opens the base until the list is gone.
        assert needed_by(host, "base") == "definition of d (vda)"
        assert host.guest("d").snapshot("s", kind="external-disk").run(progress=False).as_predicted


def test_files_of_the_definition_for_the_next_start_are_kept(connection: Any) -> None:
    for name, backing in (("code", None), ("over", "code"), ("d", None)):
        create(IMAGES / f"{name}.qcow2", backing=backing and IMAGES / f"{backing}.qcow2", size=4 * MIB)
    (IMAGES / "link").symlink_to(IMAGES)
    domain = define(connection, "d", file_disk(IMAGES / "d.qcow2"), running=True)
    connection.defineXML(domain.XMLDesc(2).replace("</os>", f"<kernel>{IMAGES}/link/code.qcow2</kernel></os>"))
    with vs.connect(SYSTEM) as host:
        assert needed_by(host, "code") == "boot file of d, over"
        assert lost(host.survey(IMAGES).commit("over"))


def test_data_files_are_kept_by_any_name(connection: Any) -> None:
    create(IMAGES / "a.qcow2", size=4 * MIB, data_file=IMAGES / "a.data", data_file_raw="on")
    (IMAGES / "link").symlink_to("a.data")
    for number, name in enumerate(("a.data", "link")):
        create(IMAGES / f"over{number}.qcow2", backing=IMAGES / name, backing_format="raw")
    with vs.connect(SYSTEM) as host:
        for forest in (host.survey(IMAGES), vs.scan(IMAGES)):
            for number in range(2):
                assert lost(forest.commit(f"over{number}")), number


def test_files_that_a_guest_boots_from_are_kept(connection: Any) -> None:
    for name, backing in (("code", None), ("over", "code"), ("memory", None), ("data", "memory")):
        create(IMAGES / f"{name}.qcow2", backing=backing and IMAGES / f"{backing}.qcow2", size=4 * MIB)
    domain = define(connection, "d")
    xml = domain.XMLDesc().replace("</os>", f"<kernel>{IMAGES}/code.qcow2</kernel></os>")
    connection.defineXML(xml)
    with vs.connect(SYSTEM) as host:
        assert needed_by(host, "code") == "boot file of d, over"
        assert lost(host.survey(IMAGES).commit("over"))


def test_an_internal_checkpoint_holds_a_floppy_and_can_be_deleted(connection: Any) -> None:
    create(IMAGES / "d.qcow2", size=4 * MIB)
    create(IMAGES / "floppy", size=1474560)
    floppy = file_disk(IMAGES / "floppy", "fda").replace("device='disk'", "device='floppy'").replace("virtio", "fdc")
    define(connection, "d", file_disk(IMAGES / "d.qcow2"), floppy, running=True)
    with vs.connect(SYSTEM) as host:
        guest = host.guest("d")
        assert guest.snapshot("c", kind="internal-checkpoint").run(progress=False).as_predicted
        assert guest.revert("c", keep_current=False).run(progress=False).as_predicted
        # Then QEMU leaves the place of the table behind the end of the file.
        assert guest.delete_snapshot("c").run(progress=False).as_predicted
        guest.destroy()
        assert refused(guest.snapshot("c", kind="internal-disk")) == {"not-supported"}


def test_what_another_host_needs_is_seen_from_here(other: SystemLibvirt) -> None:
    from vmsnap_nb.system.libvirt.library import library

    with other.entered():
        create(IMAGES / "far.qcow2", size=4 * MIB)
        connection = library().open(SYSTEM)
        pool(connection, "default", IMAGES)
        define(connection, "far", file_disk(IMAGES / "far.qcow2"))
        virsh("snapshot-create-as", "far", "s", "--disk-only")
        connection.close()
    with vs.connect(other.uri) as host:
        frame = host.survey().to_frame()
        assert "snapshot s of far" in frame.loc[str(IMAGES / "far.qcow2"), "needed_by"]


def test_a_raw_image_that_only_a_snapshot_names_is_raw(connection: Any) -> None:
    base = create(IMAGES / "base.raw", size=4 * MIB, format="raw")
    define(connection, "d", file_disk(base, format="raw"))
    virsh("snapshot-create-as", "d", "s", "--disk-only")
    far = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(base)}})
    create(IMAGES / "other.qcow2", f"json:{far}", backing_format="raw")
    with vs.connect(SYSTEM) as host:
        (IMAGES / "base.s").rename(IMAGES / "away")
        plan = host.survey(IMAGES).pull("other")
        assert plan.run(progress=False).as_predicted
        assert (plan.after[str(base)].format, host.survey(IMAGES)[str(base)].status) == ("raw", "ok")
        (IMAGES / "away").rename(IMAGES / "base.s")
        # With the snapshot nothing tells any more that it is an image.
        plan = host.guest("d").pull()
        assert plan.run(progress=False).as_predicted
        assert str(base) not in {**plan.after.images, **host.survey(IMAGES).images}


@pytest.mark.parametrize("way", ["drive", "blockdev", "rom", "log"])
def test_files_that_a_definition_names_outside_of_its_disks_are_kept(connection: Any, way: str) -> None:
    name = IMAGES / "b,se.qcow2"
    base = create(name, size=4 * MIB)
    create(IMAGES / "top.qcow2", backing=base)
    node = json.dumps({"driver": "file", "node-name": "n", "filename": str(base)})
    arguments = {
        "drive": ("-drive", f"file={str(base).replace(',', ',,')},format=qcow2,if=virtio"),
        "blockdev": ("-blockdev", escape(node, quote=True)),
    }
    more = {
        "rom": f"<interface type='user'><rom file='{base}'/></interface>",
        "log": f"<serial type='file'><source path='{base}'/></serial>",
    }
    xml = str(define(connection, "d", more=more.get(way, "")).XMLDesc())
    if way in arguments:
        words = "".join(f"<qemu:arg value='{word}'/>" for word in arguments[way])
        names = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
        more_xml = f"<qemu:commandline>{words}</qemu:commandline></domain>"
        connection.defineXML(xml.replace("<domain ", f"<domain {names} ").replace("</domain>", more_xml))
    with vs.connect(SYSTEM) as host:
        assert needed_by(host, "b,se") == "named by d, top"
        assert lost(host.survey(IMAGES).commit("top"))
        assert [one.path for one in host.survey(IMAGES).leftovers()] == [str(IMAGES / "top.qcow2")]


def test_a_snapshot_that_names_a_volume_of_a_pool_that_is_gone_keeps_what_is_called_like_it(connection: Any) -> None:
    create(IMAGES / "base.qcow2", size=4 * MIB)
    create(IMAGES / "top.qcow2", backing=IMAGES / "base.qcow2")
    create(IMAGES / "else.qcow2", size=4 * MIB)
    create(IMAGES / "other.qcow2", backing=IMAGES / "else.qcow2")
    gone = pool(connection, "gone", IMAGES)
    define(connection, "d", volume_disk("gone", "base.qcow2"))
    virsh("snapshot-create-as", "d", "s", "--disk-only", "--diskspec", f"vda,file={IMAGES}/d.s")
    (IMAGES / "d.s").unlink()
    with vs.connect(SYSTEM) as host:
        assert lost(host.survey(IMAGES).commit("top"))
        gone.destroy()
        gone.undefine()
        assert refused(host.survey(IMAGES).commit("top")) == {"unknown-image"}
        assert not host.survey(IMAGES).commit("other").refused
        assert [one.path for one in host.survey(IMAGES).leftovers() if "base" in one.path] == []


def layer(path: object) -> str:
    return f"<backingStore type='file'><format type='qcow2'/><source file='{path}'/><backingStore/></backingStore>"


@pytest.mark.parametrize("way", ["next start", "kernel", "list", "argument", "lost volume"])
def test_what_only_a_record_names_is_kept(connection: Any, way: str) -> None:
    base = create(IMAGES / "base.qcow2", size=4 * MIB)
    create(IMAGES / "top.qcow2", backing=base)
    disk = create(IMAGES / "d.qcow2", backing=create(IMAGES / "other.qcow2", size=4 * MIB))
    domain = define(connection, "d", file_disk(disk), running=way == "next start")
    xml = plain = str(domain.XMLDesc(2))
    if way == "next start":
        xml = xml.replace("</disk>", f"</disk>{file_disk(base, 'vdb')}", 1)
    elif way == "kernel":
        xml = xml.replace("<os>", f"<os><kernel>{base}</kernel>")
    elif way == "list":
        xml = xml.replace("<target", f"{layer(base)}<target", 1)
    elif way == "argument":
        names = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
        words = "".join(f"<qemu:arg value='{word}'/>" for word in ("-drive", f"file={base},format=qcow2"))
        xml = xml.replace("<domain ", f"<domain {names} ").replace(
            "</domain>", f"<qemu:commandline>{words}</qemu:commandline></domain>"
        )
    else:
        held = pool(connection, "gone", IMAGES)
        xml = xml.replace("</disk>", f"</disk>{volume_disk('gone', 'base.qcow2', 'vdb')}", 1)
    domain = connection.defineXML(xml)
    only = "<domainsnapshot><name>s</name><disks>{}</disks></domainsnapshot>"
    of_vdb = "" if way == "next start" else "<disk name='vdb' snapshot='no'/>"
    words = only.format("<disk name='vda' snapshot='external'/>" + of_vdb * (way == "lost volume"))
    domain.snapshotCreateXML(words, library().VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    now = str(domain.XMLDesc(2))
    connection.defineXML(plain.replace(str(disk), str(disk.with_suffix(".s"))))
    assert str(base) in now or way == "lost volume"
    if way == "lost volume":
        held.destroy()
        held.undefine()
    with vs.connect(SYSTEM) as host:
        assert refused(host.survey(IMAGES).commit("top")) & {"state-lost", "unknown-image"}
        assert str(base) not in [one.path for one in host.survey(IMAGES).leftovers()]
        connection.lookupByName("d").snapshotLookupByName("s").delete(
            library().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
        )
        assert not host.survey(IMAGES).commit("top").refused
        assert str(base) in [one.path for one in host.survey(IMAGES).leftovers()]


def test_a_folder_as_a_disk_and_the_overlay_of_a_transient_disk_are_nothing_to_correct(connection: Any) -> None:
    folder = IMAGES / "files"
    folder.mkdir()
    create(IMAGES / "d.qcow2", size=4 * MIB)
    files = (
        f"<disk type='dir' device='disk'><driver name='qemu' type='fat'/><source dir='{folder}'/>"
        "<target dev='vdb' bus='virtio'/><readonly/></disk>"
    )
    transient = file_disk(IMAGES / "d.qcow2").replace("<target", "<transient/><target")
    define(connection, "d", transient, files, running=True)
    with vs.connect(SYSTEM) as host:
        assert [str(one.name) for one in host.findings()] == ["writable-base"]
        assert [disk.source for disk in host.guest("d").disks()][1] == str(folder)


def test_two_names_of_one_file_are_one_image_to_a_user(connection: Any) -> None:
    create(IMAGES / "base.qcow2", size=4 * MIB)
    create(IMAGES / "top.qcow2", backing=IMAGES / "base.qcow2")
    (IMAGES / "link").symlink_to(IMAGES)
    define(connection, "d", file_disk(IMAGES / "link" / "top.qcow2"))
    with vs.connect(SYSTEM) as host:
        assert host.survey(IMAGES).pull("top").run(progress=False).as_predicted


def test_an_image_of_a_running_guest_is_extended_as_the_remedy_says(connection: Any) -> None:
    base = create(IMAGES / "base.qcow2", size=2 * MIB)
    write(base, "write -q -P 1 0 2M")
    create(IMAGES / "top.qcow2", base, size=MIB + 512)
    write(IMAGES / "top.qcow2", "write -q -P 2 1M 512")
    define(connection, "d", file_disk(IMAGES / "top.qcow2"), running=True)
    with vs.connect(SYSTEM) as host:
        plan = host.guest("d").pull()
        assert refused(plan) == {"smaller-size"}
        [remedy] = [str(one.remedy) for one in plan.concerns if one.level == "refuse"]
        subprocess.run(remedy.partition(": ")[2].split(), check=True)
        assert host.guest("d").pull().run(progress=False).as_predicted


def test_a_running_guest_over_a_part_of_a_file_is_snapshot_and_reads_the_same(connection: Any) -> None:
    part = {"driver": "raw", "offset": MIB, "size": MIB}
    (IMAGES / "container").write_bytes(b"A" * MIB + b"B" * MIB)
    file = {"driver": "file", "filename": str(IMAGES / "container")}
    top = create(IMAGES / "top.qcow2", "json:" + json.dumps({**part, "file": file}), backing_format="raw", size=MIB)
    write(top, "write -q -P 7 0 64k")
    was = content(top)
    domain = define(connection, "d", file_disk(top), running=True)
    assert "<slices>" in domain.XMLDesc()
    with vs.connect(SYSTEM) as host:
        guest = host.guest("d")
        assert guest.snapshot("s", kind="external-disk").run(progress=False).as_predicted
        copied = ("blockcopy", "d", "vda", "--dest", IMAGES / "copy", "--transient-job", "--wait", "--finish")
        virsh(*copied)
        assert content(IMAGES / "copy") == was
        assert guest.delete_snapshot("s").run(progress=False).as_predicted
        domain.destroy()
        assert content(guest.chain().top) == was
