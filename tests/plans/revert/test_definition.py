"""What differs between the definition in a record and that of now."""

from __future__ import annotations

from vmsnap_nb.plans.revert.definition import changed_parts

HAD = "<domain><cpu mode='custom'><model>qemu64</model><feature policy='require' name='aes'/></cpu></domain>"


def test_another_processor_is_named() -> None:
    assert changed_parts(HAD, HAD) == ()
    assert changed_parts(HAD, HAD.replace("qemu64", "Haswell")) == ("cpu",)
    assert changed_parts(HAD, HAD.replace("custom", "host-passthrough")) == ("cpu",)
    assert changed_parts(HAD, HAD.replace("require", "disable")) == ("cpu",)
    assert changed_parts(HAD, "<domain/>") == ("cpu",)
    live = HAD.replace("<model>", "<model fallback='forbid'>").replace("custom'", "custom' check='full'")
    assert changed_parts(HAD, live, exact=False) == ()
    topology = HAD.replace("</model>", "</model><topology sockets='1' cores='2' threads='1'/>")
    assert changed_parts(HAD, topology) == ("cpu",)


def test_all_parts_of_a_definition_count_and_the_images_of_disks_do_not() -> None:
    disk = "<disk device='disk'><driver name='qemu' type='{}' cache='{}'/><source file='{}'/><target dev='vda'/></disk>"
    had = "<domain><clock offset='utc'/><pm/><devices>{}<graphics type='vnc' passwd='a'/></devices></domain>"
    then = had.format(disk.format("raw", "none", "/a"))
    assert changed_parts(then, then.replace("/a", "/b").replace("raw", "qcow2").replace(" passwd='a'", "")) == ()
    assert changed_parts(then, then.replace("utc", "localtime").replace("<pm/>", "")) == ("clock", "pm")
    assert changed_parts(then, then.replace("<disk ", "<disk type='network' ")) == ()  # as an overlay on it changes it
    assert changed_parts(then, then.replace("utc", "localtime"), exact=False) == ()
    assert changed_parts(then, then.replace("none", "unsafe")) == ("disk vda",)
    assert changed_parts(then, then.replace("vnc", "spice")) == ("graphics",)
    mac = "<devices><interface><mac address='{}'/></interface>"
    one = then.replace("<devices>", mac.format("52:54:00:00:00:01"))
    assert changed_parts(one, one.replace(":01", ":02")) == ("interface",)
