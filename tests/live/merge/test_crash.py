"""Merges killed with SIGKILL at random moments: nothing is lost, and the next reading offers to finish.

`VMSNAP_MERGE_KILLS=100 pytest tests/live/merge/test_crash.py -s` kills more of them; the counts are printed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import content, content_or_refusal
from support.images import MIB, create, write

import vmsnap_nb as vs

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("VMSNAP_MERGE_KILLS", "2"))
COUNTS: Counter[str] = Counter()
RUN = """
import sys
import vmsnap_nb as vs
forest = vs.scan(sys.argv[1])
plan = eval(sys.argv[2])
print("go", flush=True)
plan.run(progress=False)
"""
PLANS = {
    "commit": "forest.commit('Snap-3', 'RootBase', remove=True)",
    "active commit": "forest.commit('Snap-4', 'Snap-1')",
    "pull": "forest.pull('Snap-4', 'RootBase')",
    "full pull": "forest.pull('Snap-4', remove=True)",
    "shorten": "forest.shorten('Snap-4', keep=1, top_may_go=True, remove=True)",
}


@pytest.fixture(scope="module", autouse=True)
def counts(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    lines = ", ".join(f"{what}: {count}" for what, count in sorted(COUNTS.items()) if what != "losses")
    with capture.global_and_fixture_disabled():
        print(f"\nkilled merges: {lines}, losses: {COUNTS['losses']}")


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    """Make one chain with two leaves, large enough that a merge takes a moment; copies of it are merged."""
    folder = Path(tempfile.mkdtemp(prefix="vmsnap-kill-", dir="/dev/shm"))
    paths = [create(folder / "RootBase.qcow2", size=96 * MIB)]
    write(paths[0], "write -q -P 100 0 16M")
    for number in range(1, 5):
        paths.append(create(folder / f"Snap-{number}.qcow2", paths[-1].name))
        write(paths[-1], f"write -q -P {number} {number * 10}M 20M", f"write -q -z {number}M 64k")
    other = create(folder / "Other.qcow2", "Snap-3.qcow2")
    write(other, "write -q -P 50 90M 64k")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(model: Path) -> Iterator[Path]:
    path = model.with_name(model.name + "-copy")
    shutil.copytree(model, path)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("verb", PLANS)
def test_nothing_is_lost(folder: Path, verb: str, number: int) -> None:
    chance = random.Random(f"{verb} {number}")
    plan = PLANS[verb]
    if verb in {"active commit", "shorten", "full pull"}:
        (folder / "Other.qcow2").unlink()
    leaves = [path for path in (folder / "Snap-4.qcow2", folder / "Other.qcow2") if path.exists()]
    before = {path: content(path) for path in leaves}
    with subprocess.Popen([sys.executable, "-c", RUN, str(folder), plan], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        # Half of the time qemu-img, too; else it goes on for a while without us.
        for pid in running(folder) if chance.random() < 0.5 else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                COUNTS["killed qemu-img, too"] += 1
        process.wait()
        COUNTS["killed" if process.returncode == -signal.SIGKILL else "ended before"] += 1
    wait_for_others(folder)
    check(folder, before, verb)
    unfinished = vs.scan(folder).unfinished()
    COUNTS["found half done, and finished"] += len(unfinished)
    for rest in unfinished:
        assert rest.run(progress=False).as_predicted
    check(folder, before, verb)
    again(folder, plan)
    check(folder, before, verb)


def wait_for_others(folder: Path) -> None:
    """Wait until a process that goes on without us has ended."""
    end = time.monotonic() + 60
    while any(image.held for image in vs.scan(folder)) or running(folder):
        assert time.monotonic() < end
        time.sleep(0.05)


def running(folder: Path) -> list[int]:
    """Return the processes of QEMU's tools that work on images of a folder."""
    mark = os.fsencode(folder)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"qemu-i") and mark in words:
            found.append(int(pid))
    return found


def check(folder: Path, before: dict[Path, str], verb: str) -> None:
    for path, was in before.items():
        found = content_or_refusal(path) if path.exists() else "gone"
        if found != was and verb in {"active commit", "shorten"}:
            # The leaf's content is in a lower image now, and the leaf was marked or removed.
            valid = [image for image in vs.scan(folder) if image.status == "ok"]
            found = next((was for image in valid if content(image.path) == was), found)
        COUNTS["losses"] += found != was
        assert found == was


def again(folder: Path, plan: str) -> None:
    """Nothing that was half done stands in the way of doing it, where there is still something to do."""
    forest = vs.scan(folder)
    if plan == PLANS["full pull"] and len(forest) > 1 and forest.parent(str(folder / "Snap-4.qcow2")):
        assert forest.pull("Snap-4").run(progress=False).as_predicted
    elif "Snap-3" in plan and (folder / "Snap-3.qcow2").exists() and forest.find("Snap-3"):
        assert forest.commit("Snap-3", "RootBase").run(progress=False).as_predicted
