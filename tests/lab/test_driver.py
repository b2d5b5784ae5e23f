"""What configures libvirt's driver of QEMU in a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmsnap_nb.lab.driver import write_qemu_conf


def test_lines_of_the_user_are_added_to_what_configures_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMSNAP_QEMU_CONF", raising=False)
    write_qemu_conf(tmp_path)
    usual = (tmp_path / "etc" / "qemu.conf").read_text()
    monkeypatch.setenv("VMSNAP_QEMU_CONF", "max_files = 1024\nset_process_name = 0")
    write_qemu_conf(tmp_path)
    assert 'capability_filters = [ "cpu-unavailable-features" ]' in usual
    assert (tmp_path / "etc" / "qemu.conf").read_text() == usual + "max_files = 1024\nset_process_name = 0\n"
