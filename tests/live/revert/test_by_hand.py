"""The command lines of plans that take a guest back, pasted into a shell: they leave what the plan says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.labs import run_python

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

PREPARE = """
    import json
    root, kind = sys.argv[1:]
    lab = vs.Lab(root, keep=True)
    guest = lab.guest("demo", backing=lab.base("RootBase"))
    guest.handle.domain.createWithFlags(1)  # paused: it boots nothing, and has a memory all the same
    guest.snapshot("a", kind=kind).run(progress=False)
    guest.handle.domain.resume()  # QEMU writes the memory of one moment only once
    guest.handle.domain.suspend()
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


def test_the_commands_of_a_guest_that_is_off_do_the_same_by_hand(short: Path) -> None:
    """The lines of a plan, pasted into a shell, leave what the plan has predicted."""
    look = """
        import json
        root, what = sys.argv[1:]
        lab = vs.Lab(root, keep=True)
        guest = lab.guest("demo", backing=lab.base("RootBase"))

        def told(forest):
            images = sorted(
                (i.path, i.format, i.backing and i.backing.key, [s.name for s in i.snapshots]) for i in forest
            )
            uses = sorted((u.guest, u.target, u.path) for u in forest.uses)
            records = sorted((r.name, r.parent, r.current, r.kind, r.files) for r in forest.records)
            return json.loads(json.dumps([images, uses, records]))

        if what == "snapshots":
            for name, kind in (("a", "external-disk"), ("b", "external-disk"), ("c", "internal-disk")):
                guest.snapshot(name, kind=kind).run(progress=False)
        elif what == "end":
            lab.destroy()
        else:
            name, keep = what.split()
            plan = guest.revert(name, keep_current=keep == "keep")
            print(json.dumps([plan.commands, told(plan.after), told(plan.before)]))
    """
    fast = {"VMSNAP_ACCEL": "tcg"}

    def ask(what: str) -> list[object]:
        done = run_python(look, short / "l", what, env=fast)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else []

    ask("snapshots")
    for what in ("c keep", "a keep", "b lose", "kept2 lose"):
        lines, predicted, _ = ask(what)
        assert isinstance(lines, list)
        by_hand = subprocess.run(
            ["sh", "-e"], input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False
        )
        assert by_hand.returncode == 0, by_hand.stderr
        _, _, found = ask("a keep")
        assert found == predicted, what
    ask("end")
