"""What differs between the definition in a record and that of now."""

from __future__ import annotations

from vmsnap_nb.plans.revert.definition import changed_hardware

HAD = "<domain><cpu mode='custom'><model>qemu64</model><feature policy='require' name='aes'/></cpu></domain>"


def test_another_processor_is_named() -> None:
    assert changed_hardware(HAD, HAD) == ()
    assert changed_hardware(HAD, HAD.replace("qemu64", "Haswell")) == ("cpu",)
    assert changed_hardware(HAD, HAD.replace("custom", "host-passthrough")) == ("cpu",)
    assert changed_hardware(HAD, HAD.replace("require", "disable")) == ("cpu",)
    assert changed_hardware(HAD, "<domain/>") == ("cpu",)
