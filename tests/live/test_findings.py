"""What is found in real images, and of real guests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import qemu_img
from support.guests import discard
from support.images import MIB, create, header, sparse, write

import vmsnap_nb as vs
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.plans.findings import Findings

pytestmark = pytest.mark.system


def about(findings: Findings, *places: object) -> set[tuple[str, str]]:
    return {(one.name, one.severity) for one in findings if one.where in set(map(str, places))}


def test_a_folder_with_faults(tmp_path: Path) -> None:
    base = create(tmp_path / "Base.qcow2")
    base.chmod(0o600)
    top = create(tmp_path / "Top.qcow2", base)
    top.chmod(0o644)
    lone = create(tmp_path / "Lone.qcow2", tmp_path / "gone.qcow2", size=MIB)
    vague = sparse(tmp_path / "Vague.qcow2", header(backing=str(top).encode()))
    left = tmp_path / f".{'a' * 32}.partial"
    left.write_bytes(b"x")
    forest = vs.scan(tmp_path)
    findings = forest.findings()
    assert about(findings, base) == {("writable-base", "note")}
    assert about(findings, top) == {("world-readable", "warning")}
    assert about(findings, tmp_path / "gone.qcow2") == {("missing-base", "error")}
    assert about(findings, lone) == set()
    assert about(findings, vague) >= {("backing-format-missing", "error")}
    assert about(findings, left) == {("never-completed", "note")}
    assert findings[0].severity == "error"
    for one in findings:
        if one.help.startswith(("chmod", "qemu-img rebase -u -f")):
            assert one.help.split()[-1].strip("'") in map(str, (base, top, vague))


def test_an_image_that_its_overlay_takes_for_raw(tmp_path: Path) -> None:
    base = create(tmp_path / "Base.qcow2")
    base.chmod(0o440)
    top = create(tmp_path / "Top.qcow2", base, size=64 * MIB, backing_format="raw")
    top.chmod(0o640)
    (found,) = vs.scan(tmp_path).findings()
    assert (found.name, found.severity, found.where) == ("backing-format-wrong", "warning", str(base))
    assert "looks like qcow2" in found.what
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
    assert about(vs.scan(tmp_path).findings(), base, top) == set()


def test_what_the_help_says_helps(tmp_path: Path) -> None:
    base, top = create(tmp_path / "Base.qcow2"), tmp_path / "Top.qcow2"
    create(top, base)
    base.chmod(0o600)
    top.chmod(0o644)
    forest = vs.scan(tmp_path)
    helps = [one.help.split() for one in forest.findings()]
    assert sorted(words[:2] for words in helps) == [["chmod", "a-w"], ["chmod", "o-r"]]
    top.chmod(0o640)
    base.chmod(0o440)
    assert about(forest.findings(), base, top) == set()


def test_an_interrupted_merge_and_what_it_left(tmp_path: Path) -> None:
    base = create(tmp_path / "Base.qcow2")
    write(create(tmp_path / "Top.qcow2", base), "write -P 1 0 1M")
    forest = vs.scan(tmp_path)
    forest.commit("Top", "Base").run(progress=False)
    assert about(forest.findings(), tmp_path / "Top.qcow2") == {("invalid", "note")}
    forest.cleanup().run(progress=False)
    assert len(forest.findings()) == 0


def test_guests_of_a_host(lab: Lab, tmp_path: Path) -> None:
    base = create(tmp_path / "Base.qcow2", size=64 * MIB)
    guest = lab.guest("faulty", backing=base, boot="disk", protect=False)
    top = Path(guest.chain().top)
    try:
        guest.snapshot("inside", kind="internal-disk").run(progress=False)
        assert about(lab.findings(), "faulty", top) == set()
        qemu_img("snapshot", "-d", "inside", top)
        create(tmp_path / "Other.qcow2", top)
        findings = lab.findings(tmp_path)
        assert about(findings, "faulty") == {("stale: inside", "warning")}
        assert about(findings, top) == {("shared-base", "error")}
        (tmp_path / "Other.qcow2").unlink()
        base.rename(tmp_path / "moved.qcow2")
        assert about(lab.findings(tmp_path), base) == {("missing-base", "error")}
        (tmp_path / "moved.qcow2").rename(base)
        guest.reconcile().run(progress=False)
        assert about(lab.findings(tmp_path), "faulty", top) == set()
    finally:
        discard(guest)
