"""What plans have for themselves: one that changes an image alone, those that build on it together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.faulty import faulty
from support.guests import discard
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.errors import StalePlanError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.claim import Claim
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.step import Step
from vmsnap_nb.system.files import locks
from vmsnap_nb.system.files.temporary import temporary

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


HOLD_GUEST = """
import sys
from vmsnap_nb.live.claim import Claim
claim = Claim("hold", sys.argv[1], (), (), sys.argv[2:])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.system
def test_a_guest_that_a_plan_of_another_process_changes_is_taken_and_others_on_its_base_are_not(
    lab: Lab, base: Image
) -> None:
    """Both would have their entry at the same place, and the first one to end would remove that of the other."""
    guests = lab.guests(["taken", "free"], backing=base)
    plans = [guest.snapshot("one", kind="external-disk") for guest in guests]
    command = [sys.executable, "-c", HOLD_GUEST, guests[0].uuid, base.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StalePlanError, match="another plan is currently changing the snapshots of this guest"):
            plans[0].run(progress=False)
        assert plans[1].run(progress=False).as_predicted
        other.communicate()
    assert plans[0].run(progress=False).as_predicted
    for guest in guests:
        discard(guest)


@pytest.mark.system
def test_nothing_is_built_on_what_another_plan_is_changing(tmp_path: Path) -> None:
    create(tmp_path / "base.qcow2", size=1 << 20)
    create(tmp_path / "top.qcow2", "base.qcow2")
    for below in ("base", "top"):
        plan = vs.scan(tmp_path).overlay(f"on-{below}.qcow2", backing=below)
        claim = Claim("change", "", (str(tmp_path / "base.qcow2"),))
        with pytest.raises(StalePlanError, match=r"another plan is currently changing .*base"):
            plan.run(progress=False)
        claim.release()
        claim = Claim("build", "", (), (str(tmp_path / "base.qcow2"),))
        assert plan.run(progress=False).as_predicted
        with pytest.raises(StalePlanError, match=r"another plan is currently changing .*base"):
            vs.scan(tmp_path).commit("top", "base").run(progress=False, waive=["shared-base"])
        claim.release()


def test_an_interrupt_while_a_claim_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()

    def interrupted(path: str, *, shared: bool) -> int:
        if path == str(second):
            raise KeyboardInterrupt
        return locks.claim(path, shared=shared)

    with monkeypatch.context() as patch:
        patch.setattr("vmsnap_nb.live.claim.claim", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Claim("try", "a guest", (str(first), str(second)))
    assert free(first, shared=False)
    Claim("try", "a guest", ()).release()


@pytest.mark.system
@pytest.mark.parametrize("begun", [True, False])
def test_a_plan_interrupted_while_it_starts_has_its_claim_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    base = create(tmp_path / "base.qcow2")
    create(tmp_path / "top.qcow2", "base.qcow2")
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def held(step: Step, perform: Action) -> Undo:
        began.set()
        assert go.wait(60)
        return perform(step)

    plan = faulty(vs.scan(tmp_path).commit("top"), Step, held)
    start, release = threading.Thread.start, Claim.release

    def interrupted(thread: threading.Thread) -> None:
        if thread.name != f"vmsnap: {plan.title}":
            start(thread)
            return
        if not begun:
            ended.set()
            raise KeyboardInterrupt
        start(thread)
        assert began.wait(60)
        raise KeyboardInterrupt

    def released(claim: Claim) -> None:
        release(claim)
        if threading.current_thread() is not threading.main_thread():
            ended.set()

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        patch.setattr(Claim, "release", released)
        with pytest.raises(KeyboardInterrupt):
            plan.start()
        assert free(base, shared=False) is not begun
        go.set()
        assert ended.wait(60)
    assert free(base, shared=False)
    [found] = [image for image in vs.scan(tmp_path) if image.name == "top"]
    assert found.status == "ok", "the interrupt has cancelled it"


def test_a_file_with_two_names_is_claimed_once(tmp_path: Path) -> None:
    image, link = tmp_path / "image", tmp_path / "link"
    image.write_bytes(b"x")
    link.hardlink_to(image)
    both = (str(image), str(link))
    Claim("try", "7cf0b1a4-2b1a-4a36-8c8b-3a1c0e7a9d11", both, own=both).release()
    Claim("try", "7cf0b1a4-2b1a-4a36-8c8b-3a1c0e7a9d11", both[:1], both[1:], own=both).release()


GUEST, OTHER = "7cf0b1a4-2b1a-4a36-8c8b-3a1c0e7a9d11", "8cf0b1a4-2b1a-4a36-8c8b-3a1c0e7a9d11"


def taken(*arguments: object, **own: object) -> bool:
    """Whether a claim cannot be made, that is given back at once."""
    try:
        Claim("try", *arguments, **own).release()  # type: ignore[arg-type]
    except StalePlanError:
        return True
    return False


def test_a_guest_is_one_plans_alone_until_that_has_ended() -> None:
    claim = Claim("hold", GUEST, ())
    with pytest.raises(StalePlanError, match="changing the snapshots of this guest"):
        Claim("try", GUEST, ())
    assert taken(GUEST, ()), "who was refused has not given it back"
    assert not taken(OTHER, ())
    assert not taken("", ())
    claim.release()
    claim.release()
    assert not taken(GUEST, ())


def test_plans_without_a_guest_do_not_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    claim = Claim("hold", "", (), own=[str(tmp_path / "image")])
    assert not taken("", (), own=[str(tmp_path / "image")])
    claim.release()


def test_another_process_sees_by_the_images_of_a_guest_that_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    claim = Claim("hold", GUEST, (), own=[str(image)])
    monkeypatch.setattr("vmsnap_nb.live.claim._GUESTS", set())
    assert taken(GUEST, (), own=[str(image)])
    assert not taken(OTHER, (), own=[str(image)])
    assert free(image, shared=False), "its images are not what it changes"
    claim.release()
    assert not taken(GUEST, (), own=[str(image)])


def test_what_a_plan_changes_it_has_alone_though_it_builds_on_it_as_well(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    claim = Claim("hold", "", [str(image)], [str(image)])
    assert not free(image, shared=True)
    claim.release()
    assert free(image, shared=False)


def test_an_image_that_cannot_be_opened_is_left_out_and_the_others_are_not(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    with temporary(str(tmp_path)) as partial:  # whoever writes it has locked it
        claim = Claim("hold", "", [str(tmp_path / "gone"), partial.path, str(image)])
        assert not free(image, shared=True)
        claim.release()
