"""Files of a guest on another machine: its volumes are read through libvirt, for the process that may do nothing."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.filesystems import as_base, change, debugfs, ext4, overlay
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, ReadOnlyError
from vmsnap_nb.live.guest import Guest

pytestmark = pytest.mark.hosts


@pytest.fixture
def guest(other: SystemLibvirt, tmp_path: Path) -> Iterator[Guest]:
    """A guest of another host, on an overlay that has another motd than its base."""
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "motd").write_text("old\n")
    (tmp_path / "new").write_text("new text\n")
    with other.entered():
        base = as_base(ext4(tmp_path / "disk.img", tmp_path / "tree"), IMAGES / "base.qcow2")
        top = overlay(base, IMAGES / "top.qcow2")
        change(top, lambda raw: debugfs(raw, "rm /etc/motd", f"write {tmp_path / 'new'} /etc/motd"))
    with vs.connect(other.uri) as host:
        define(host.connection, "demo", file_disk(IMAGES / "top.qcow2"))
        yield host.guest("demo")


def test_files_of_a_guest_on_another_host(guest: Guest, other: SystemLibvirt) -> None:
    with pytest.raises(ImageError, match="pool-create-as images dir --target"):
        guest.files("/etc")
    pool(guest.host.connection, "images", IMAGES)
    assert [entry.name for entry in guest.files("/etc")] == ["motd"]
    assert guest.read("/etc/motd") == b"new text\n"
    guest.snapshot("monday", kind="internal-disk").run(progress=False)
    assert guest.read("/etc/motd", at="monday") == b"new text\n"
    assert len(guest.diff("monday")) == 0
    for chain in (guest.chain(), guest.host.survey().chain(str(IMAGES / "top.qcow2"))):
        assert [entry.name for entry in chain.files("/etc")] == ["motd"]
        assert (chain.read("/etc/motd"), chain.read("/etc/motd", at="base")) == (b"new text\n", b"old\n")
        assert [(one.path, one.layer) for one in chain.changes("top")] == [("/etc/motd", "top")]
        assert [part.image for part in chain.where("/etc/motd")] == ["top"]
    assert guest.chain(at="monday").read("/etc/motd") == b"new text\n"
    with pytest.raises(ImageError, match=r"survey\(\)\.chain"):
        guest.chain()[0].read("/etc/motd")
    with pytest.raises(ImageError, match="on another machine"):
        pickle.loads(pickle.dumps(guest.chain())).files("/etc")
    plan = guest.commit(base="base")
    assert [(one.path, one.change) for one in plan.diff()] == [("/etc/motd", "changed")]
    assert [one.path for one in plan.lost_files()] == ["/etc/motd"]
    with vs.connect(other.uri, readonly=True) as host, pytest.raises((ReadOnlyError, ImageError)) as raised:
        host.guest("demo").files("/etc")
    assert "readonly" in str(raised.value)
