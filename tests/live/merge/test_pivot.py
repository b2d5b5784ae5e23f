"""A process, with its libvirt, that ends at the pivot of an active commit: what QEMU writes afterwards is not lost."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from support import TESTS
from support.commands import run
from support.labs import run_python

pytestmark = pytest.mark.guest

BEGIN = """
import os
sys.path.insert(0, sys.argv.pop(1))
from support.labs import start_paused
from support.images import create, write
from vmsnap_nb.live.guest_actions import merge
[root] = sys.argv[1:]
lab = vs.Lab(root)
create(lab.root / "low.qcow2", size=16 << 20)
create(lab.root / "high.qcow2", lab.root / "low.qcow2")
guest = lab.guest("pivot", backing=lab.root / "high.qcow2", boot="disk", protect=False)
write(Path(guest.chain().top), "write -q -P 1 5M 64k")
start_paused(guest)

def pivot(domain, target, **_):
    os._exit(9)

merge.pivot = pivot
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

def finish():
    for plan in guest.unfinished():
        print([c.name for c in plan.concerns if c.level == "refuse"], [step.action for step in plan.steps])
        if not plan.refused:
            plan.run(progress=False)
            if guest.state != "shut off" and "finish" in [step.action for step in plan.steps]:
                print("on the disk", reads(guest.chain().top, 97, "7M"))  # nobody has flushed it since
            finish()  # where libvirt names another image, its definition came first
            break

finish()
if guest.state != "shut off":
    write(98, "6M")
    guest.destroy()
    finish()
print(guest.chain().top)
"""


def reads(path: Path, pattern: int, place: str) -> bool:
    """Whether a disk has a pattern in 64 KiB at a place."""
    done = run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {pattern} {place} 64k", str(path), check=False)
    return done.returncode == 0 and "failed" not in done.stdout + done.stderr


AT_ONCE = ["flush tables", "mark invalid", "mark invalid", "finish"]


def pivot(socket_path: Path, *, dismiss: bool) -> None:
    """Have QEMU make the pivot while no libvirt listens; if wanted, forget the job then, as libvirt has it do."""
    with socket.socket(socket.AF_UNIX) as monitor, monitor.makefile("rw") as lines:
        monitor.settimeout(30)
        monitor.connect(str(socket_path))

        def ask(command: str, **arguments: str) -> Any:
            lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            lines.flush()
            while True:
                said = json.loads(lines.readline())
                assert "error" not in said, said
                if "return" in said:
                    return said["return"]

        ask("qmp_capabilities")
        [job] = [job["id"] for job in ask("query-jobs") if job["type"] == "commit"]
        ask("job-complete", id=job)
        while [job["status"] for job in ask("query-jobs")] != ["concluded"]:
            time.sleep(0.01)
        if dismiss:
            ask("job-dismiss", id=job)


@pytest.mark.parametrize(
    ("moment", "off"),
    [("before", "on"), ("before", "off"), ("after", "on"), ("after", "off"), ("dismissed", "on")],
)
def test_what_the_guest_writes_after_the_pivot_is_not_lost(short: Path, moment: str, off: str) -> None:
    done = run_python(BEGIN, TESTS, short / "l")
    assert done.returncode == 9, done.stderr
    if moment != "before":
        [monitor] = (short / "l").rglob("monitor.sock")
        pivot(monitor, dismiss=moment == "dismissed")
    done = run_python(GO_ON, TESTS, short / "l", off)
    assert done.returncode == 0, done.stderr
    phase, *plans, top = done.stdout.splitlines()
    assert phase == "pivoting"
    holding = [path for path in (short / "l").rglob("*.qcow2") if reads(path, 99, "5M")]
    assert holding, "what was written after the interruption is nowhere"
    if moment == "dismissed":  # libvirt names the top, and has not closed it in QEMU, so that it stays for now
        assert plans[:2] == ["[] ['set disk']", f"['in-use', 'in-use'] {AT_ONCE}"]
        assert not any("on the disk" in line for line in plans)
    elif off == "on":
        assert plans.pop() == "on the disk True", plans
    # QEMU itself says to which image it writes; once it is off, both may be the newest, unless they read alike: before
    # the pivot QEMU writes to both, and it depends on the moment whether the second has all when it is ended.
    unknown = off == "off" or moment == "dismissed"
    assert ("disk-changed" in str(plans)) is unknown or (moment, off) == ("before", "off")
    assert ("commit live" in str(plans)) is (off == "on" and moment == "before")
    if "disk-changed" not in str(plans) or moment == "dismissed":
        assert Path(top) in holding, "the guest's disk is the image that was written last"
