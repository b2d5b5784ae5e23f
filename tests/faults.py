"""Faults in the middle of live merges: `make faults` runs many and counts what was lost; tests run a few.

Each run has a fresh chain below a guest that is paused at its start, begins a slow merge, and strikes at another moment
of it (or takes a layer away between plan and run, or begins a second merge on the same disk). Then what the guest's
disk holds must be what it was; the plans that finish what is half done are run, and it must be so again, with nothing
left to finish.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from merging import MIB, content, handout_chain, write
from small_disk import resize, small_disk

import vmsnap_nb as vs
from vmsnap_nb.errors import StalePlanError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.system.libvirt_library import library

MERGES = ("commit", "pivot", "pull")
KILLS = ("kill QEMU", "kill us")
FAULTS = ("end guest", "end job", "cancel", "full disk", "layer gone", "two at once")
POINTS = 20
"""Moments of a merge at which things happen to it."""
SECONDS = 0.6
"""How long a merge takes, about, with `BANDWIDTH`."""
BANDWIDTH = 8 * MIB
ROOMY, FILLING = "128m", 5 * MIB
"""A small disk's size, as `mount` takes it; and about as many bytes as a merge adds to the image that it writes."""


@dataclass(frozen=True)
class Run:
    """One run: which merge, what happens to it, and when."""

    merge: str
    fault: str
    point: float


def runs(count: int, first: int = 0) -> Iterator[Run]:
    """Give runs of all kinds: each hundred kills commits and pulls at every moment, and does all else once."""
    killed = [*itertools.product(("commit", "pull"), KILLS)]
    others = [*itertools.product(("pivot",), KILLS), *itertools.product(MERGES, FAULTS)]
    for number in range(first, first + count):
        turn, kind = divmod(number, len(killed) + 1)
        again, place = divmod(turn, POINTS)
        merge, fault = others[place] if kind == len(killed) else killed[kind]
        yield Run(merge, fault, ((place + again) * 7 % POINTS + (again % 3 + 1) / 4) / POINTS)


def begin(guest: Guest, merge: str) -> LivePlan:
    """Plan a slow merge."""
    if merge == "commit":
        return guest.commit(top="Snap-3", base="RootBase", bandwidth=BANDWIDTH)
    if merge == "pivot":
        return guest.commit(base="Snap-1", bandwidth=BANDWIDTH)
    return guest.pull(base="RootBase", bandwidth=BANDWIDTH)


class Faults:
    """A lab in which things go wrong, and a chain to take copies of.

    Parameters
    ----------
    lab : Lab
        Any.
    folder : Path
        Empty.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.template = folder / "template"
        self.template.mkdir()
        handout_chain(self.template)
        write(self.template / "Snap-3.qcow2", "write -q -P 33 10M 4M")
        self.counts: Counter[str] = Counter()
        self.losses: list[str] = []
        self._number = 0

    def play(self, run: Run) -> None:
        """Let it happen, and count."""
        self._number += 1
        name = f"fault{self._number}"
        chain = self.folder / name
        with contextlib.ExitStack() as stack:
            if run.fault == "full disk":
                stack.enter_context(small_disk(chain, ROOMY))
            shutil.copytree(self.template, chain, dirs_exist_ok=True)
            guest = self.lab.guest(name, backing=chain / "Snap-4.qcow2", boot="disk", protect=False)
            active = _beside(guest, chain)
            write(active, "write -q -P 77 3M 1M")
            before = content(active)
            try:
                start_paused(guest)
                self._strike(guest, run, chain)
                self._look(guest, run, before)
            finally:
                guest.destroy()
                guest.undefine()
                if run.fault != "full disk":
                    shutil.rmtree(chain)

    def _strike(self, guest: Guest, run: Run, chain: Path) -> None:
        plan = begin(guest, run.merge)
        if run.fault == "layer gone":
            self._without_layer(plan, run, chain / "Snap-2.qcow2")
            return
        if run.fault == "full disk":
            resize(chain, f"{shutil.disk_usage(chain).used + int(run.point * FILLING)}")
        other = plan
        if run.fault == "two at once":
            other = guest.pull() if run.merge == "commit" else guest.commit(top="Snap-3", base="Snap-1")
        job = plan.start(waive="no-space")
        time.sleep(run.point * SECONDS)
        late = not job.running and run.fault != "full disk"
        if run.fault == "kill QEMU":
            os.kill(int(next((self.lab.root / "run").rglob(f"{guest.name}.pid")).read_text()), signal.SIGKILL)
        elif run.fault == "end guest":
            guest.destroy()
        elif run.fault == "cancel":
            job.cancel()
        elif run.fault == "two at once":
            self._second(other, run)
        elif run.fault == "end job":
            try:
                guest._domain.blockJobAbort("vda")
            except library().libvirtError:
                late = True
        try:
            cancelled = job.wait(60).cancelled
            self.counts["struck, and reported" if cancelled else "done before"] += 1
        except VmsnapError:
            self.counts["struck, and reported"] += 1
        self.counts["too late"] += late
        if run.fault == "full disk":
            resize(chain, ROOMY)

    def _second(self, other: LivePlan, run: Run) -> None:
        try:
            other.run(progress=False)
        except VmsnapError:
            self.counts["second merge refused"] += 1
        else:
            self.losses.append(f"{run}: a second merge ran on the same disk")

    def _without_layer(self, plan: LivePlan, run: Run, layer: Path) -> None:
        layer.rename(layer.with_suffix(".away"))
        try:
            plan.run(progress=False)
        except StalePlanError:
            self.counts["struck, and reported"] += 1
        else:
            self.losses.append(f"{run}: it ran all the same")
        layer.with_suffix(".away").rename(layer)

    def _look(self, guest: Guest, run: Run, before: str) -> None:
        deadline = time.monotonic() + 10
        while run.fault == "kill QEMU" and guest.running and time.monotonic() < deadline:
            time.sleep(0.02)
        if guest.running:
            guest.destroy()
        self._compare(guest, run, before, "at once")
        # Every second time it is finished by a guest that runs, else by one that is off.
        if self._number % 2:
            start_paused(guest)
        for plan in guest.unfinished():
            report = plan.run(progress=False)
            self.counts["finished"] += 1
            if not report.as_predicted:
                self.losses.append(f"{run}: {report.differences}")
        guest.destroy()
        self._compare(guest, run, before, "when finished")
        if guest.unfinished():
            self.losses.append(f"{run}: still not finished")

    def _compare(self, guest: Guest, run: Run, before: str, when: str) -> None:
        found = content(guest.chain().top)
        if found != before:
            self.losses.append(f"{run}, {when}: {found}, not {before}")


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import vmsnap_nb as vs
from faults import begin, start_paused
lab = vs.Lab(sys.argv[2], keep=True)
guest = lab.guest("demo")
start_paused(guest)
job = begin(guest, sys.argv[3]).start()
print("begun", flush=True)
job.wait()
time.sleep(60)
"""
AFTERWARDS = """
import sys, time
sys.path.insert(0, sys.argv[1])
import vmsnap_nb as vs
from merging import content
from vmsnap_nb.errors import PlanRefusedError
with vs.Lab(sys.argv[2]) as lab:
    guest = lab.guest("demo")
    deadline = time.monotonic() + 30
    for number in range(len(guest.unfinished())):
        while True:
            try:
                print("finished", guest.unfinished()[0].run(progress=False).as_predicted)
                break
            except PlanRefusedError:  # QEMU keeps the layers open until libvirt has taken the end of the job in
                assert time.monotonic() < deadline
                time.sleep(0.2)
    while guest._domain.blockJobInfo("vda") and time.monotonic() < deadline:
        time.sleep(0.05)
    guest.destroy()
    print("left", len(guest.unfinished()))
    print("content", content(guest.chain().top))
"""
PREPARED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import vmsnap_nb as vs
from merging import content, write
with vs.Lab(sys.argv[2]) as lab:
    guest = lab.guest("demo", backing=Path(sys.argv[3]), boot="disk", protect=False)
    active = guest.chain().top
    write(Path(active), "write -q -P 77 3M 1M")
    print("content", content(active))
"""


def kill_us(folder: Path, template: Path, run: Run) -> tuple[str, list[str]]:
    """Kill the process that has begun a merge, while QEMU goes on; another one then ends it.

    Returns
    -------
    tuple
        What happened, and what was lost.
    """
    shutil.copytree(template, folder / "chain")
    root = str(folder / "l")
    before = _python(PREPARED, root, str(folder / "chain" / "Snap-4.qcow2"))
    with subprocess.Popen(_argv(KILLED, root, run.merge), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(run.point * SECONDS)
        process.kill()
    after = _python(AFTERWARDS, root)
    shutil.rmtree(folder)
    losses = [] if after[-1] == before[-1] else [f"{run}: {after[-1]}, not {before[-1]}"]
    losses += [
        f"{run}: {line}"
        for line in after
        if line in ("finished False",) or (line.startswith("left ") and line != "left 0")
    ]
    return ("finished" if any(line.startswith("finished") for line in after) else "done before"), losses


def _argv(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, os.path.dirname(__file__), *arguments]


def _python(code: str, *arguments: str) -> list[str]:
    done = subprocess.run(_argv(code, *arguments), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _beside(guest: Guest, chain: Path) -> Path:
    """Put the guest's own overlay beside the layers on which it stands, so that all are on one file system."""
    old = Path(guest.chain().top)
    new = chain / old.name
    shutil.move(old, new)
    guest.host.connection.defineXML(guest.xml().replace(str(old), str(new)))
    return new


def start_paused(guest: Guest) -> None:
    """Start a guest in which nothing runs."""
    guest._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)


def play_all(lab: Lab, folder: Path, wanted: Iterator[Run]) -> Faults:
    """Let all of them happen.

    Returns
    -------
    Faults
        With its counts and losses.
    """
    faults = Faults(lab, folder)
    for run in wanted:
        print(f"after {faults.counts['runs']} runs, losses: {len(faults.losses)}; now {run}", flush=True)
        faults.counts["runs"] += 1
        faults.counts[f"{run.merge}: {run.fault}"] += 1
        if run.fault == "kill us":
            own = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
            what, losses = kill_us(own, faults.template, run)
            faults.counts[what] += 1
            faults.losses += losses
        else:
            faults.play(run)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="how many of them to pass over, as done before")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    lab = vs.Lab(folder / "l")
    try:
        faults = play_all(lab, folder, runs(options.runs, options.first))
    finally:
        lab.destroy()
        shutil.rmtree(folder, ignore_errors=True)
    for what, number in sorted(faults.counts.items()):
        print(f"{number:5} {what}")
    for loss in faults.losses:
        print("LOST:", loss)
    print(f"{faults.counts['runs']} runs, losses: {len(faults.losses)}")
    return 1 if faults.losses else 0


if __name__ == "__main__":
    sys.exit(main())
