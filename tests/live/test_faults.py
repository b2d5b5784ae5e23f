"""A sample of the faults of `make faults`: whatever happens in the middle of a verb, nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from support.faults.play import FAULTS, Run, Worker, chosen, play_all
from support.faults.scenes import VERBS

pytestmark = pytest.mark.guest

SAMPLE, SEED = 60, 2
LOST_ONCE = (
    # A flush that fails: the job ended well, and what says where the copied data is was in QEMU's memory alone.
    "live commit | ENOSPC at flush@qemu:1 | on",
    # libvirt did not know of the mirror of its own job, and would have crashed at its end.
    "live delete, with children | kill after@us:26 | on",
    # The definition for the next start named an image that was removed.
    "live delete, with children | kill after@us:96 | started",
    "live delete of the last | EIO permanently@us:97 | on",
    # An overlay, or a part of one, that kept the guest from its next start, or the next snapshot from its file.
    "snapshot, external | kill@us:30 | off",
    # All was done, the entry too was removed, and all of it was taken back: nobody knew that it is on the disk.
    "live commit of the top | ENOSPC at flush@us:19 | off",
    # What was to be taken back could not be, and that was no error of this package.
    "revert, external | read-only@us:62 | off",
    # QEMU counted clusters wrongly in an image, or named a table of snapshots that it had freed.
    "revert, internal | kill qemu-img@tool:6 | off",
    "live revert, internal | EIO permanently@qemu:50 | started",
    "live snapshot, with memory | kill all@us:40 | started",
    # After the end of it, a merged layer was gone on the disk, and the overlay still named that.
    "live commit | power loss@us:500 | off",
    # QEMU did not say that it could not flush what it had copied up.
    "live pull | ENOSPC at flush@qemu:1 | off",
    # QEMU did not say either that a snapshot inside an image had not become one; and then the state was reverted.
    "live revert, internal | EIO@qemu:45 | on | kill@us:11",
    # A guest that was started again counted as the one whose QEMU had copied into its image.
    "live shorten | kill all@us:108 | started",
    # Since devices may be numbered anew after that, no file was the one that the entry recorded.
    "live delete, external | power loss@us:115 | off",
    # One disk was taken back and the other was not, and nothing kept the guest from its start.
    "two disks: revert, internal | ENOSPC@tool:52 | on | ENOSPC@tool:20",
    # libvirt dropped a record that it could not write, and the next plan did not know of it.
    "two disks: delete, mixed | EIO@tool:18 | off | ENOSPC@us:5",
    # An overlay whose header had a disk of no size yet counted as one that may hold data of the guest.
    "snapshot, external | kill all@tool:6 | started",
    "two disks: snapshot | kill all@tool:6 | on",
)
"""Runs in which something was lost when they were played first, with libvirt 9.0 and QEMU 7.2."""


@pytest.mark.timeout(900)
def test_a_sample_of_faults_loses_nothing() -> None:
    outcomes = list(play_all(chosen(SAMPLE, seed=SEED)))
    assert [(str(outcome.run), outcome.loss) for outcome in outcomes if outcome.loss] == []
    assert len(outcomes) == SAMPLE
    assert sum(bool(outcome.hit) for outcome in outcomes) > SAMPLE * 3 / 4, "most of them happen in the middle"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.mark.parametrize("text", LOST_ONCE)
def test_what_was_lost_once_is_not_lost_again(worker: Worker, text: str) -> None:
    outcome = worker.play(Run.of(text))
    assert not outcome.loss, outcome.loss


def test_a_sample_has_all_verbs_and_all_faults() -> None:
    wanted = chosen(SAMPLE, seed=SEED)
    assert {verb for verb, _, _ in wanted} == set(VERBS)
    assert {fault for _, fault, _ in wanted} == set(FAULTS)
    every = Counter((verb, fault) for verb, fault, _ in chosen(1200, seed=SEED))
    assert min(every.values()) >= 1
    assert wanted == chosen(1200, seed=SEED)[:SAMPLE], "the same seed, the same runs"
