"""Folders on a slow file system are read by many threads, those on a fast one by none."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.images import create
from support.slow_files import is_possible, slow_files

from vmsnap_nb.system.pace import Pace
from vmsnap_nb.system.survey import Survey


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize(("wait", "slow"), [(time.sleep, True), (busy, False)])
def test_only_who_waits_gets_threads(wait: Callable[[float], None], slow: bool) -> None:
    """As many as 64 wait at once, however busy the machine is; the first 16 are read by this thread."""
    seen = [_paced(wait, 0.02 if slow else 0.0005) for _ in range(1 if slow else 3)]
    assert (slow, slow) in seen  # other threads of a machine that is very busy can make this one wait


def _paced(wait: Callable[[float], None], seconds: float) -> tuple[bool, bool]:
    """Whether work is found to be slow, and whether many did it at once."""
    at_once, most, lock, pace = 0, 0, threading.Lock(), Pace()

    def work(item: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        wait(seconds)
        with lock:
            at_once -= 1
        return item

    assert pace.each(work, range(200)) == list(range(200))
    return pace.slow, most > 8


def test_a_few_files_of_small_folders_are_counted_together() -> None:
    pace = Pace()
    for number in range(16):
        assert not pace.slow
        assert pace.each(time.sleep, [0.002]) == [None], number
    assert pace.slow


@pytest.mark.system
@pytest.mark.skipif(not is_possible(), reason="only root may mount a file system of FUSE, where there is /dev/fuse")
def test_a_folder_that_is_slow_to_open_files_is_read_faster_than_one_after_the_other(tmp_path: Path) -> None:
    """The delay is long, so that what else the machine does counts little; an open alone takes 100 × 40 ms."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    first = create(folder / "0.qcow2")
    for number in range(1, 160):
        shutil.copy(first, folder / ("deep" if number % 2 else ".") / f"{number}.qcow2")
    with slow_files(folder, tmp_path / "slow", 0.1) as slow:
        began = time.perf_counter()
        forest = Survey((str(slow),)).read()
        took = time.perf_counter() - began
    assert {Path(path).name for path in forest.images} == {f"{number}.qcow2" for number in range(160)}
    assert list(forest.images) == [
        path.replace(str(folder), str(slow)) for path in Survey((str(folder),)).read().images
    ]
    assert took < 160 * 0.1 / 2  # 16 are read before it is known; of 1,000 images that is little
