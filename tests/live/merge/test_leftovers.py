"""Files that a killed process had begun: they are no images, they block nothing, and a cleanup removes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.images import MIB, create

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError, StalePlanError
from vmsnap_nb.live import image_actions

pytestmark = pytest.mark.system


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return what an overlay leaves whose process is killed before it has its name."""
    create(tmp_path / "base.qcow2", size=MIB)
    create(tmp_path / "top.qcow2", "base.qcow2")
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(image_actions, "publish_new", lambda *_: os._exit(9))
        vs.scan(tmp_path).overlay("new", backing="base").run(progress=False)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (left,) = tmp_path.glob(".*.partial")
    return left


def test_what_is_left_blocks_no_merge(killed: Path) -> None:
    forest = vs.scan(killed.parent)
    assert str(killed) not in forest.images
    assert forest.unfinished() == ()
    assert not forest.commit("top", "base").refused


def test_a_cleanup_lists_and_removes_it(killed: Path) -> None:
    plan = vs.scan(killed.parent).cleanup()
    assert plan.unlinks == (str(killed),)
    assert plan.run(progress=False).as_predicted
    assert not killed.exists()
    with pytest.raises(InvalidRequestError):
        vs.scan(killed.parent).cleanup()


def test_it_stays_where_a_process_has_it_or_an_image_is_based_on_it(killed: Path) -> None:
    plan = vs.scan(killed.parent).cleanup()
    with killed.open("rb"), pytest.raises((StalePlanError, InvalidRequestError)):
        plan.run(progress=False)
    create(killed.parent / "user.qcow2", killed.name)
    assert str(killed) in vs.scan(killed.parent).images
    with pytest.raises(InvalidRequestError):
        vs.scan(killed.parent).cleanup()
    assert killed.exists()
