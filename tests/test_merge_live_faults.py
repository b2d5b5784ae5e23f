"""A sample of the faults of `make faults`: nothing is lost, whatever ends a merge."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import Run, play_all

from vmsnap_nb.lab.lab import Lab

pytestmark = pytest.mark.guest


def test_a_sample_of_faults(lab: Lab, short: Path) -> None:
    wanted = [
        Run("commit", "kill QEMU", 0.4),
        Run("pivot", "kill us", 0.3),
        Run("pull", "kill QEMU", 0.6),
        Run("commit", "full disk", 0.5),
        Run("pull", "layer gone", 0.5),
    ]
    faults = play_all(lab, short, iter(wanted))
    print(dict(faults.counts))
    assert faults.losses == []
    assert faults.counts["runs"] == 5
    assert faults.counts["finished"] >= 1
