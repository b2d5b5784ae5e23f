"""Overlays and emptied overlays are readable by those who may read the image below, and by nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support.images import MIB, create

import vmsnap_nb as vs
from vmsnap_nb.live.guest_actions.revert import _emptied
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.plans.revert.steps import Discard
from vmsnap_nb.system.files.permission import restrict

pytestmark = pytest.mark.system


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize(
    ("below", "expected"), [(0o600, 0o600), (0o400, 0o600), (0o640, 0o640), (0o444, 0o644), (0o664, 0o664)]
)
def test_an_overlay_has_the_mode_of_its_base(tmp_path: Path, below: int, expected: int) -> None:
    base = create(tmp_path / "base", size=MIB)
    base.chmod(below)
    assert vs.create_overlay(tmp_path / "new", base).run(progress=False).as_predicted
    assert mode(tmp_path / "new.qcow2") == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_as_root_an_overlay_has_the_owner_of_its_base(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    os.chown(base, 1234, 1235)
    base.chmod(0o640)
    assert vs.create_overlay(tmp_path / "new", base).run(progress=False).as_predicted
    new = tmp_path / "new.qcow2"
    assert (new.stat().st_uid, new.stat().st_gid, mode(new)) == (1234, 1235, 0o640)


def test_an_emptied_overlay_is_no_more_open_than_what_it_replaces(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    old = create(tmp_path / "old", "base")
    for below, was, expected in ((0o600, 0o644, 0o600), (0o644, 0o600, 0o600), (0o644, 0o644, 0o644)):
        base.chmod(below)
        old.chmod(was)
        backing = parse_reference("base", folder=str(tmp_path), format="qcow2")
        with _emptied(Discard(str(old), backing), "empty it") as path:
            assert mode(path) == expected


def test_what_another_program_has_made_gets_no_more_than_the_image_below(tmp_path: Path) -> None:
    base = create(tmp_path / "base", size=MIB)
    new = create(tmp_path / "new", "base")
    for below, was, expected in ((0o600, 0o644, 0o600), (0o664, 0o600, 0o600)):
        base.chmod(below)
        new.chmod(was)
        restrict(str(new), str(base))
        assert mode(new) == expected


def test_a_file_with_another_name_is_left_alone(tmp_path: Path) -> None:
    base, victim = create(tmp_path / "base", size=MIB), tmp_path / "victim"
    base.chmod(0o600)
    victim.write_text("x")
    victim.chmod(0o644)
    os.link(victim, tmp_path / "new")
    restrict(str(tmp_path / "new"), str(base))
    assert mode(victim) == 0o644
