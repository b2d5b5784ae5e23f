"""Which programs are this machine's QEMU, and stay it until libvirt runs them."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from vmsnap_nb.system.qemu.program import foreign_emulator

QEMU = shutil.which("qemu-system-x86_64")
pytestmark = pytest.mark.skipif(QEMU is None, reason="QEMU is not installed")


def is_foreign(program: Path) -> bool:
    root = ET.Element("domain")
    ET.SubElement(root, "emulator").text = str(program)
    return foreign_emulator(root) is not None


@pytest.fixture
def link(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    link = folder / "qemu-system-x86_64"
    link.symlink_to(QEMU or "")
    return link


def test_a_link_to_it_counts_where_nobody_else_can_change_the_way(link: Path, tmp_path: Path) -> None:
    assert not is_foreign(link)
    (tmp_path / "way").symlink_to("bin")
    assert not is_foreign(tmp_path / "way" / link.name)
    link.parent.chmod(0o777)
    assert is_foreign(link)
    assert is_foreign(tmp_path / "way" / link.name)


def test_a_link_that_leads_through_a_folder_of_others_does_not_count(link: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / link.name).symlink_to(link)
    assert not is_foreign(own / link.name)
    link.parent.chmod(0o777)
    assert is_foreign(own / link.name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_link_of_another_user_does_not_count(link: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("way").symlink_to("bin")
    os.lchown(tmp_path / "way", 65534, 65534)
    assert is_foreign(tmp_path / "way" / link.name)
    os.lchown(link, 65534, 65534)
    assert is_foreign(link)
