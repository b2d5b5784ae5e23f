"""Progress in bytes, and a cancel, within one step that takes long."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.content import content
from support.faulty import faulty
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, NotFoundError
from vmsnap_nb.live.job import Job, Progress, tell_fraction
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.plans.merge.steps import CommitLayers, PullLayers
from vmsnap_nb.plans.report import Report
from vmsnap_nb.plans.step import Step
from vmsnap_nb.system.qemu.progress import run_watched

SIZE = 64 * MIB


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """base <- middle <- top, with 64 MiB in the one in the middle."""
    create(tmp_path / "base.qcow2", size=SIZE)
    create(tmp_path / "middle.qcow2", "base.qcow2")
    write(tmp_path / "middle.qcow2", "write -q -P 7 0 64M")
    create(tmp_path / "top.qcow2", "middle.qcow2")
    return tmp_path


@pytest.mark.system
def test_progress_counts_bytes(three: Path) -> None:
    told: list[Progress] = []
    jobs: list[Job] = []

    def watched(step: Step, perform: Action) -> Undo:
        tell = jobs[0].tell
        jobs[0].tell = lambda progress: (told.append(progress), tell(progress))[1]  # type: ignore[method-assign]
        return perform(step)

    plan = faulty(vs.scan(three).commit("middle"), CommitLayers, watched)

    def work(job: Job) -> Report:
        jobs.append(job)
        return plan._work(job)

    report = Job("watched", work).wait(60)
    assert report.as_predicted
    inside = [one for one in told if one.text.startswith("commit")]
    assert len(inside) > 3
    assert {(one.unit, one.total) for one in inside} == {("bytes", SIZE)}
    done = [one.done for one in inside]
    assert done == sorted(done)
    assert done[-1] == SIZE
    assert jobs[0].progress.done == SIZE


@pytest.mark.system
@pytest.mark.parametrize(("verb", "kind"), [("commit", CommitLayers), ("pull", PullLayers)])
def test_a_cancel_within_a_step_leaves_the_old_chain(three: Path, verb: str, kind: type[Step]) -> None:
    before = content(three / "top.qcow2")
    plan = vs.scan(three).commit("middle") if verb == "commit" else vs.scan(three).pull("top", "base")
    jobs: list[Job] = []

    def cancelled(step: Step, perform: Action) -> Undo:
        jobs[0].cancel()
        return perform(step)

    plan = faulty(plan, kind, cancelled)

    def work(job: Job) -> Report:
        jobs.append(job)
        return plan._work(job)

    report = Job("cancelled", work).wait(60)
    assert report.cancelled
    assert {done.state for done in report.steps} <= {"undone", "not run"}
    assert content(three / "top.qcow2") == before
    now = vs.scan(three)
    assert [image.name for image in now.chain(now.find("top"))] == ["base", "middle", "top"]
    unfinished = now.unfinished()
    assert len(unfinished) == (1 if verb == "commit" else 0)
    again = unfinished[0] if unfinished else now.pull("top", "base")
    assert again.run(progress=False).as_predicted
    assert content(three / "top.qcow2") == before


def test_rate_and_time_left() -> None:
    assert Progress(10, 110, "bytes", rate=50.0).seconds_left == 2.0
    assert Progress(10, 110, "bytes").seconds_left is None
    assert Progress(10, rate=50.0).seconds_left is None


@pytest.mark.system
def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises((ImageError, NotFoundError)) as caught:
        run_watched(
            ("qemu-img", "commit", "-q", "-f", "qcow2", str(tmp_path / "none")),
            tried="commit nothing",
            tell=lambda fraction: None,
            stop=lambda: False,
        )
    assert caught.value.reason


class Terminal(io.StringIO):
    """Takes what is written, and says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.system
def test_a_terminal_shows_bytes_and_rate_and_what_is_left(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    too_soon: list[str] = []

    def slowly(step: Step, perform: Action) -> Undo:
        fraction = 0.4
        while (seen := terminal.getvalue()).count("%") < 2:
            if time.monotonic() < began + 0.5:
                too_soon.append(seen)
            fraction = min(fraction + 0.05, 0.9)
            tell_fraction(fraction)
            time.sleep(0.1)
        return perform(step)

    plan = faulty(vs.scan(three).commit("middle"), CommitLayers, slowly)
    began = time.monotonic()
    assert plan.run().as_predicted
    assert set(too_soon) <= {""}  # what takes less than half a second needs no bar
    lines = [line for line in terminal.getvalue().split("\r") if line.strip()]
    assert all(line.startswith("commit middle into base: ") for line in lines)
    percents = [int(found.group(1)) for line in lines if (found := re.search(r"(\d+)%", line))]
    assert 40 <= percents[1] < percents[-1] == 100
    assert re.search(r"\d+%.*[\d.]+M/64\.0M \[\d\d:\d\d<\d\d:\d\d, +[\d.]+[kM]B/s\]", lines[1])


INTERRUPTED = """
import signal, sys
import vmsnap_nb as vs
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background would ignore it
report = vs.scan(sys.argv[1]).commit("middle").run(progress=sys.argv[2] == "bar")
print(report.cancelled, report.error)
"""
SLOW = """\
#!/bin/sh
case "$*" in commit*) touch "${0%/*}/begun"; sleep 5 ;; esac
exec QEMU_IMG "$@"
"""


@pytest.mark.system
@pytest.mark.parametrize("progress", ["bar", "none"])
def test_an_interrupt_cancels_and_does_not_reach_qemu_img(three: Path, progress: str) -> None:
    before = content(three / "top.qcow2")
    tools = three / "tools"
    tools.mkdir()
    (tools / "qemu-img").write_text(SLOW.replace("QEMU_IMG", shutil.which("qemu-img") or ""))
    (tools / "qemu-img").chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(three), progress],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (tools / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it, and JupyterLab
        said, _ = process.communicate(timeout=60)
    assert said == "True None\n"
    assert content(three / "top.qcow2") == before
    assert vs.scan(three).unfinished()
