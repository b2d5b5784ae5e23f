"""The lines of a snapshot, pasted into a shell, and what virsh makes of them."""

from __future__ import annotations

import json
import shlex
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.forests import forest, image
from support.guests import timeless
from support.labs import run_python
from support.readings import reading

from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.plans.snapshot.request import SnapshotRequest
from vmsnap_nb.plans.snapshot.steps import TakeSnapshot
from vmsnap_nb.plans.step import GuestRef

pytestmark = pytest.mark.system


def test_the_commands_do_the_same_by_hand(short: Path) -> None:
    """The lines of plans are run on a twin of the guest; its records and images then equal those of our run."""
    run, hand = short / "run", short / "han"
    look = """
        import json
        root, end, *wanted = sys.argv[1:]
        with vs.Lab(root) as lab:
            guest = lab.guest("demo", backing=lab.base("RootBase"))
            lines = []
            for kind, name in zip(wanted[::2], wanted[1::2], strict=True):
                plan = guest.snapshot(name, kind=kind, description="it's <b>")
                lines += plan.commands
                assert plan.run(progress=False).as_predicted
            records = [repr(one) for one in guest.snapshots()]
            images = [(i.path, [s.name for s in i.snapshots], i.backing and i.backing.key) for i in guest.chain()]
            print(json.dumps([lines, records, images]))
            if end == "destroy":
                lab.destroy()
    """
    fast = {"VMSNAP_ACCEL": "tcg"}  # nothing is booted
    ours = run_python(
        look, run, "destroy", "internal-disk", "a", "external-disk", "快照 <1>", "internal-disk", "c", env=fast
    )
    assert ours.returncode == 0, ours.stderr
    lines, records, images = json.loads(ours.stdout)
    assert len(lines) == 3
    empty = run_python(look, hand, "keep", env=fast)
    assert empty.returncode == 0, empty.stderr
    for line in lines:
        argv = [word.replace(str(run), str(hand)) for word in shlex.split(line)]
        by_hand = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert by_hand.returncode == 0, by_hand.stderr
    theirs = run_python(look, hand, "destroy", env=fast)
    twin = json.loads(theirs.stdout.replace(str(hand), str(run)))
    assert twin[2] == images
    assert [timeless(one) for one in twin[1]] == [timeless(one) for one in records]


def test_virsh_builds_the_same_xml_from_the_options() -> None:
    """Also for the kinds that need a running guest: virsh prints what it would ask libvirt for."""
    guest = Domain("test", "0" * 32, "running", disks=(Disk("vda", "/i/top.qcow2", "qcow2"),))
    who = GuestRef(guest.name, guest.uuid, "test:///default")
    before = reading(forest(image("top.qcow2"), uses=guest.uses), guest, uri=who.uri)
    for asked in (
        {"kind": "external-checkpoint", "memory_file": "/i/m,1 <x>"},
        {"kind": "external-disk", "disks": {"vda": "/i/a,b.qcow2"}},
        {"kind": "internal-checkpoint"},
    ):
        [step] = SnapshotRequest(guest=who, name="n<>", **asked).plan(before).steps  # type: ignore[arg-type]
        assert isinstance(step, TakeSnapshot)
        argv = [*step.argvs[0], "--print-xml"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert _canonical(done.stdout) == _canonical(step.xml)


def _canonical(xml: str) -> str:
    return ET.canonicalize(xml, strip_text=True)
