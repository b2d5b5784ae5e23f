"""Files on the disk of a real guest: now, at snapshots of both kinds, while it runs and when it is off."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import qemu_img

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, InvalidRequestError, NotFoundError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.files import FileChanges

pytestmark = pytest.mark.guest


def rows(changes: FileChanges) -> list[tuple[str, str]]:
    return [(one.path, one.change) for one in changes]


def test_write_snapshot_change_diff(lab: Lab, tmp_path: Path) -> None:
    vm = lab.guest("files", backing=lab.base("RootBase")).start()
    vm.execute("echo old > /etc/motd; echo 1 > /etc/one; printf x > /root/$(printf 'no\\377utf')").check()
    vm.snapshot("monday").run(progress=False)
    vm.execute("echo new text > /etc/motd; mv /etc/one /etc/two; chmod 600 /etc/hosts; rm /etc/issue").check()
    found = vm.diff("monday")
    assert rows(found) == [
        ("/etc/hosts", "metadata"),
        ("/etc/issue", "removed"),
        ("/etc/motd", "changed"),
        ("/etc/two", "renamed"),
    ]
    assert {one.layer for one in found} == {"files"}
    assert any("file systems may be inconsistent" in note for note in found.notes)
    assert any("latest changes may be only in its journal" in note for note in found.notes)
    # Each says of which disk it is: "now" alone is no name for one.
    assert {note.partition(": ")[0] for note in found.notes[1:]} == {"files at monday", "files"}

    vm.snapshot("tuesday", kind="external-disk").run(progress=False)
    vm.execute("rm /etc/two; echo 3 > /etc/three").check()
    assert rows(vm.diff("tuesday")) == [("/etc/three", "added"), ("/etc/two", "removed")]
    assert rows(vm.diff("monday", "tuesday")) == rows(found)
    assert rows(vm.diff("monday", path="/root")) == []
    assert (vm.read("/etc/motd", at="monday"), vm.read("/etc/motd")) == (b"old\n", b"new text\n")
    assert vm.read("/root/no\udcffutf", at="monday") == b"x"
    assert "/etc/one" in vm.files("/etc", at="monday")
    assert "/etc/one" not in vm.files("/etc")
    assert [part.image for part in vm.chain().where("/etc/three")] == ["files.tuesday"]
    with pytest.raises(NotFoundError, match="available: monday, tuesday"):
        vm.files(at="wednesday")
    with pytest.raises(NotFoundError, match="vda"):
        vm.files(target="vdb")

    vm.shutdown()
    off = vm.diff("monday", "tuesday")
    assert rows(off) == rows(found)
    for plan, states in (
        (vm.revert("monday"), ("now", "monday")),
        (vm.delete_snapshot("monday"), ("monday", "tuesday")),
        (vm.delete_snapshot("tuesday"), ("tuesday", "now")),
        (vm.commit(), ("files", "files.tuesday")),
    ):
        assert (plan.diff().before, plan.diff().after) == states
    assert rows(vm.delete_snapshot("monday").diff()) == rows(found)
    assert rows(vm.commit().diff()) == [("/etc/three", "added"), ("/etc/two", "removed")]
    for plan, lost in (
        (vm.delete_snapshot("monday"), [("monday", "/etc/motd")]),  # /etc/issue is in RootBase
        (vm.commit(), [("tuesday", "/etc/two")]),
        (vm.revert("tuesday", keep_current=False), [("now", "/etc/three")]),
        (vm.revert("tuesday"), []),
        (vm.pull(), []),
    ):
        assert [(one.state, one.path) for one in plan.lost_files()] == lost, plan.title
    with pytest.raises(InvalidRequestError, match="does not revert to a state"):
        vm.snapshot("wednesday").diff()
    now = vm.files("/etc")
    assert now.notes == ()  # it was shut down properly
    assert "/etc/three" in now
    path = vm.copy_out("/etc/motd", tmp_path / "motd", at="monday")
    assert Path(path).read_bytes() == b"old\n"
    with pytest.raises(InvalidRequestError, match="the target already exists"):
        vm.copy_out("/etc/motd", tmp_path / "motd")
    assert [entry.path for entry in vm.find_files("motd", path="/etc")] == ["/etc/motd"]


def test_a_snapshot_that_does_not_hold_the_disk_or_is_stale(lab: Lab) -> None:
    vm = lab.guest("stale", backing=lab.base("RootBase"))
    vm.snapshot("gone", kind="internal-disk").run(progress=False)
    image = vm.chain().top
    qemu_img("snapshot", "-d", "gone", image)
    with pytest.raises(ImageError, match="does not contain the internal snapshot gone"):
        vm.diff("gone")
    assert vs.chain(image).read("/etc/alpine-release")
