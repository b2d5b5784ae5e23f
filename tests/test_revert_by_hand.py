"""The command lines of plans that take a guest with memory back, pasted into a shell: they leave what the plan says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from labs import run_python

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

PREPARE = """
    import json
    root, kind = sys.argv[1:]
    lab = vs.Lab(root, keep=True)
    guest = lab.guest("demo", backing=lab.base("RootBase"))
    guest._domain.createWithFlags(1)  # paused: it boots nothing, and has a memory all the same
    guest.snapshot("a", kind=kind).run(progress=False)
    guest._domain.resume()  # QEMU writes the memory of one moment only once
    guest._domain.suspend()
    plan = guest.revert("a")
    print(json.dumps([plan.commands, sorted((use.target, use.path) for use in plan.after.uses)]))
"""
LOOK = """
    import json
    root, kind = sys.argv[1:]
    with vs.Lab(root) as lab:
        guest = lab.guest("demo")
        print(json.dumps(sorted((use.target, use.path) for use in guest.domain().uses)))
        print(guest.state, guest.snapshots().current.name)
        print(sorted((row.name, row.kind, row.status) for row in guest.snapshots()))
        print(guest.revert("kept1", keep_current=False).run(progress=False).as_predicted, guest.state)
        lab.destroy()
"""


@pytest.mark.parametrize("kind", ["internal-checkpoint", "external-checkpoint"])
def test_the_commands_do_the_same_by_hand(short: Path, kind: str) -> None:
    fast = {"VMSNAP_ACCEL": "tcg"}
    prepared = run_python(PREPARE, short / "l", kind, env=fast)
    assert prepared.returncode == 0, prepared.stderr
    lines, uses = json.loads(prepared.stdout)
    for line in lines:
        done = subprocess.run(["sh", "-e"], input=line, capture_output=True, text=True, timeout=90, check=False)
        # Without a daemon each virsh finds the guest anew, and may still be at it when it ends that guest.
        ended = " destroy " in line and "domain is not running" in done.stderr
        assert done.returncode == 0 or ended, (line, done.stderr)
    seen = run_python(LOOK, short / "l", kind, env=fast)
    assert seen.stdout.splitlines() == [
        json.dumps(uses),
        "paused a",
        f"[('a', '{kind}', 'ok'), ('kept1', '{kind}', 'ok')]",
        "True paused",
    ], seen.stderr
