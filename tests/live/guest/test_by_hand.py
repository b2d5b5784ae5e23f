"""The command lines of plans about running guests, pasted into a shell: a twin is left as our own run leaves it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.labs import run_python

pytestmark = pytest.mark.guest

CASES = {
    "checkpoint": ("", "guest.snapshot('s', kind='internal-checkpoint')"),
    "disk": ("", "guest.snapshot('s', kind='external-disk')"),
    "memory": ("", "guest.snapshot('s', kind='external-checkpoint')"),
    "managed": ("", "guest.save()"),
    "saved": ("", "guest.save(lab.root / 'images' / f'{guest.name}.mem')"),
    "inside": ("guest.snapshot('s', kind='internal-checkpoint')", "guest.delete_snapshot('s')"),
    "outside": ("guest.snapshot('s', kind='external-disk')", "guest.delete_snapshot('s')"),
    "commit": ("guest.snapshot('s', kind='external-disk')", "guest.commit()"),
    "pull": ("guest.snapshot('s', kind='external-disk')", "guest.pull()"),
}
"""What is done first, and the plan. Each guest is paused: it boots nothing, and has a memory all the same."""

PREPARE = """
    import json
    root, cases = sys.argv[1], json.loads(sys.argv[2])
    lab = vs.Lab(root, keep=True)
    base = lab.base("RootBase")
    lines = {}
    for name, (first, then) in cases.items():
        for who in ("hand", "ours"):
            guest = lab.guest(f"{name}-{who}", backing=base, boot="disk", memory=64)
            guest.handle.domain.createWithFlags(1)
            if first:
                eval(first).run(progress=False)
            if name in ("inside", "outside", "commit", "pull"):
                guest.handle.domain.resume()  # QEMU writes to the images of a guest only once it has run
                guest.handle.domain.suspend()
            plan = eval(then)
            if who == "hand":
                lines[name] = plan.commands
            else:
                assert plan.run(progress=False).as_predicted, plan.title
    print(json.dumps(lines))
"""
LOOK = """
    import json, os
    root, cases = sys.argv[1], json.loads(sys.argv[2])
    with vs.Lab(root) as lab:
        for name in cases:
            seen = []
            for who in ("hand", "ours"):
                guest = lab.guest(f"{name}-{who}")
                rows = [(row.name, row.kind, row.status, row.record.current) for row in guest.snapshots()]
                layers = [(layer.name, layer.status) for layer in guest.chain()]
                others = sorted(one for one in os.listdir(lab.root / "images") if one.startswith(guest.name))
                text = json.dumps([guest.state, rows, layers, others, guest.unfinished() == ()])
                seen.append(text.replace(f"{name}-{who}", name))
            print(json.dumps([name, *seen]))
"""


END = """
    with vs.Lab(sys.argv[1]) as lab:
        lab.destroy()
"""


@pytest.fixture
def root(short: Path) -> Iterator[Path]:
    yield short / "l"
    if (short / "l").exists():
        run_python(END, short / "l")


def test_the_commands_do_the_same_by_hand(root: Path) -> None:
    prepared = run_python(PREPARE, root, json.dumps(CASES), timeout=200)
    assert prepared.returncode == 0, prepared.stderr
    for name, lines in json.loads(prepared.stdout).items():
        assert lines, name
        done = subprocess.run(
            ["sh", "-e"], input="\n".join(lines), capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, (name, lines, done.stderr)
    looked = run_python(LOOK, root, json.dumps(CASES), timeout=200)
    assert looked.returncode == 0, looked.stderr
    rows = [json.loads(line) for line in looked.stdout.splitlines()]
    assert [name for name, _, _ in rows] == list(CASES)
    for name, by_hand, ours in rows:
        assert by_hand == ours, name
