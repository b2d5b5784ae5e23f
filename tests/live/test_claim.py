"""What plans have for themselves: one that changes an image alone, those that build on it together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.errors import StalePlanError
from vmsnap_nb.live.claim import Claim

HOLD = """
import sys
from vmsnap_nb.live.claim import Claim
claim = Claim("hold", "", sys.argv[1:2], sys.argv[2:])
print("held", flush=True)
sys.stdin.read()
"""


def free(path: Path, *, shared: bool) -> bool:
    try:
        Claim("try", "", () if shared else (str(path),), (str(path),) if shared else ()).release()
    except StalePlanError:
        return False
    return True


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_who_builds_on_an_image_shares_it_and_who_changes_it_does_not(
    tmp_path: Path, shared: bool, elsewhere: bool
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    if elsewhere:
        arguments = [str(tmp_path / "none"), str(image)] if shared else [str(image)]
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            assert (free(image, shared=True), free(image, shared=False)) == (shared, False)
            other.communicate()
    else:
        claim = Claim("hold", "", () if shared else (str(image),), (str(image),) if shared else ())
        assert (free(image, shared=True), free(image, shared=False)) == (shared, False)
        claim.release()
    assert free(image, shared=False)


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    claim = Claim("hold", "", (str(image),))
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert not free(image, shared=True), "the child has not ended it either"
    claim.release()
    assert free(image, shared=False)
    os.write(done[1], b"x")
    os.waitpid(child, 0)
    for fd in (*ready, *done):
        os.close(fd)


@pytest.mark.system
def test_nothing_is_built_on_what_another_plan_is_changing(tmp_path: Path) -> None:
    create(tmp_path / "base.qcow2", size=1 << 20)
    create(tmp_path / "top.qcow2", "base.qcow2")
    for below in ("base", "top"):
        plan = vs.scan(tmp_path).overlay(f"on-{below}.qcow2", backing=below)
        claim = Claim("change", "", (str(tmp_path / "base.qcow2"),))
        with pytest.raises(StalePlanError, match=r"another plan is now changing .*base"):
            plan.run(progress=False)
        claim.release()
        claim = Claim("build", "", (), (str(tmp_path / "base.qcow2"),))
        assert plan.run(progress=False).as_predicted
        with pytest.raises(StalePlanError, match=r"another plan is now changing .*base"):
            vs.scan(tmp_path).commit("top", "base").run(progress=False, waive=["shared-base"])
        claim.release()
