"""What virsh does in a terminal appears in the panels."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.labs import nobodys_python, run_python

pytestmark = pytest.mark.system

CODE = """
import subprocess

def virsh(*words):
    done = subprocess.run(["virsh", "-q", "-c", "qemu:///session", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

def seen(true):
    end = time.monotonic() + 60
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()

lab = vs.Lab(sys.argv[1], driver="session")
vm = lab.guest("panel-virsh", backing=lab.base())
whole, one = vs.panel(lab), vs.panel(vm)
whole.guests.value = vm.name

virsh("snapshot-create-as", vm.name, "outside")
print(seen(lambda: one.table.names == ["outside"]))
one.table.value = "outside"
print(one.chain.selected)
virsh("snapshot-delete", vm.name, "outside")
print(seen(lambda: one.table.value is None), one.chain.selected)

virsh("start", "--paused", vm.name)
print(seen(lambda: [row.notes[0] for row in whole.guests.shown_rows] == ["paused"]))
virsh("destroy", vm.name)
print(seen(lambda: [row.notes[0] for row in whole.guests.shown_rows] == ["shut off"]))
print(whole.guests.value, len(whole.tabs.children))
virsh("undefine", vm.name)
print(seen(lambda: whole.guests.value is None and whole.tabs is None))
print(seen(lambda: type(one.last_error).__name__ == "NotFoundError" and vm.name in one.time_line.value))
for panel in (whole, one):
    panel.close()
print(lab.destroy())
"""


def test_what_virsh_does_appears(short: Path) -> None:
    env = {"XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "HOME": str(short), "XDG_RUNTIME_DIR": str(short / "r")}
    done = run_python(CODE, short / "l", env=env, timeout=280, folder=short, **nobodys_python(short))
    assert done.stdout.splitlines() == [
        "True",
        "outside",
        "True None",
        "True",
        "True",
        "panel-virsh 5",
        "True",
        "True",
        "()",
    ], done.stderr
