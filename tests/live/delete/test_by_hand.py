"""The lines of a deletion, pasted into a shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.guests import timeless
from support.labs import run_python

pytestmark = pytest.mark.system


@pytest.mark.parametrize(("deleted", "sizes"), [("b", "1M 64k 1M"), ("b", "64k 1M 1M"), ("a", "1M 1M 64k")])
def test_the_commands_do_the_same_by_hand(short: Path, deleted: str, sizes: str) -> None:
    """The lines are pasted on a twin of the guest; its records and images then equal those of our run."""
    ran, hand = short / "run", short / "han"
    look = """
        import json
        from support.content import content
        from support.images import write
        root, deleted, sizes, *todo = sys.argv[1:]
        with vs.Lab(root, keep=True) as lab:
            guest = lab.guest("demo", backing=lab.base("RootBase"), boot="disk")
            if "make" in todo:
                for number, name in enumerate("abc", start=1):
                    guest.snapshot(name, kind="external-disk", description="it's <b>").run(progress=False)
                    size = sizes.split()[number - 1]
                    write(Path(guest.chain().top), f"write -q -P {number} {number * 8}M {size}")
            lines = []
            if deleted in guest.snapshots():
                plan = guest.delete_snapshot(deleted)
                lines = plan.commands
                if "run" in todo:
                    assert plan.run(progress=False).as_predicted
            records = [repr(one) for one in guest.snapshots()]
            images = [(image.path, image.backing and image.backing.key) for image in guest.chain()]
            files = sorted(path.name for path in (lab.root / "images").iterdir())
            print(json.dumps([lines, records, images, files, content(guest.chain().top)]))
            if "destroy" in todo:
                lab.destroy()
    """

    def seen(root: Path, *todo: str) -> list[Any]:
        done = run_python(look, root, deleted, sizes, *todo, env={"VMSNAP_ACCEL": "tcg"})
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout.replace(str(hand), str(ran)))
        return found

    lines = seen(ran, "make")[0]
    seen(hand, "make")
    ours = seen(ran, "run", "destroy")
    script = "\n".join(["set -e", *(line.replace(str(ran), str(hand)) for line in lines)])
    by_hand = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert by_hand.returncode == 0, by_hand.stderr
    theirs = seen(hand, "destroy")
    assert [timeless(one) for one in theirs[1]] == [timeless(one) for one in ours[1]]
    assert theirs[2:] == ours[2:]
