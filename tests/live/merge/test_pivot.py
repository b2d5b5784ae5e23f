"""A process, with its libvirt, that ends at the pivot of an active commit: what QEMU writes afterwards is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import TESTS
from support.commands import run
from support.labs import run_python

pytestmark = pytest.mark.guest

BEGIN = """
import json, os, time
import libvirt_qemu
sys.path.insert(0, sys.argv.pop(1))
from support.labs import start_paused
from support.images import create, write
from vmsnap_nb.live.guest_actions import block_jobs
root, moment = sys.argv[1:]
lab = vs.Lab(root)
create(lab.root / "low.qcow2", size=16 << 20)
create(lab.root / "high.qcow2", lab.root / "low.qcow2")
guest = lab.guest("pivot", backing=lab.root / "high.qcow2", boot="disk", protect=False)
write(Path(guest.chain().top), "write -q -P 1 5M 64k")
start_paused(guest)

def ask(command, **arguments):
    words = {"execute": command, "arguments": arguments}
    return json.loads(libvirt_qemu.qemuMonitorCommand(guest.handle.domain, json.dumps(words), 0))

def pivot(domain, target, **_):
    if moment == "after":
        [job] = [job["id"] for job in ask("query-jobs")["return"] if job["type"] == "commit"]
        assert "error" not in ask("job-complete", id=job)
    os._exit(9)

block_jobs.pivot = pivot
guest.commit(base="low").run(progress=False)
"""

GO_ON = """
import json
import libvirt_qemu
from vmsnap_nb.live.journal import read_entries
from vmsnap_nb.plans.journal import MergeEntry
sys.path.insert(0, sys.argv.pop(1))
from support.commands import run
root, off = sys.argv[1:]
lab = vs.Lab(root)
guest = lab.guest("pivot")
[entry] = read_entries([str(lab.root)], MergeEntry)
print(entry.phase)

def write(pattern, place):
    blocks = json.loads(libvirt_qemu.qemuMonitorCommand(guest.handle.domain, '{"execute": "query-block"}', 0))["return"]
    [path] = [block["qdev"] for block in blocks if block.get("inserted")]
    line = f'qemu-io -d {path} "write -P {pattern} {place} 64k"'
    words = {"execute": "human-monitor-command", "arguments": {"command-line": line}}
    said = libvirt_qemu.qemuMonitorCommand(guest.handle.domain, json.dumps(words), 0)
    assert "wrote" in said or json.loads(said)["return"] == "", said

def reads(path, pattern, place):
    # in use, so without a lock: what is on the disk without what is in QEMU's memory
    done = run("qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -P {pattern} {place} 64k", path, check=False)
    return done.returncode == 0 and "failed" not in done.stdout + done.stderr

write(99, "5M")
write(97, "7M")  # into a new cluster, which is in the table in memory
if off == "off":
    guest.destroy()
for plan in guest.unfinished():
    print([c.name for c in plan.concerns if c.level == "refuse"], [step.action for step in plan.steps])
    if not plan.refused:
        plan.run(progress=False)
        if guest.state != "shut off":  # nobody has flushed the disk since, and the power may fail
            print("on the disk", reads(guest.chain().top, 97, "7M"))
if guest.state != "shut off":
    write(98, "6M")
    guest.destroy()
print(guest.chain().top)
"""


def reads(path: Path, pattern: int, place: str) -> bool:
    """Whether a disk has a pattern in 64 KiB at a place."""
    done = run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {pattern} {place} 64k", str(path), check=False)
    return done.returncode == 0 and "failed" not in done.stdout + done.stderr


@pytest.mark.parametrize("off", ["on", "off"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_the_guest_writes_after_the_pivot_is_not_lost(short: Path, moment: str, off: str) -> None:
    done = run_python(BEGIN, TESTS, short / "l", moment)
    assert done.returncode == 9, done.stderr
    done = run_python(GO_ON, TESTS, short / "l", off)
    assert done.returncode == 0, done.stderr
    phase, *plans, top = done.stdout.splitlines()
    assert phase == "pivoting"
    holding = [path for path in (short / "l").rglob("*.qcow2") if reads(path, 99, "5M")]
    assert holding, "what was written after the interruption is nowhere"
    if off == "on":
        assert plans.pop() == "on the disk True"
    [plan] = plans
    # QEMU itself says to which image it writes; once it is off, both may be the newest, unless they read alike: before
    # the pivot QEMU writes to both, and it depends on the moment whether the second has all when it is ended.
    assert ("disk-changed" in plan) is (off == "off") or (moment, off) == ("before", "off")
    assert ("commit live" in plan) is (off == "on" and moment == "before")
    if "disk-changed" not in plan:
        assert Path(top) in holding, "the guest's disk is the image that was written last"
