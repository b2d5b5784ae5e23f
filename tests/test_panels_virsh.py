"""What virsh does in a terminal appears in the panels within two seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from labs import as_nobody, run_python

pytestmark = pytest.mark.system

CODE = """
import subprocess

def virsh(*words):
    done = subprocess.run(["virsh", "-q", "-c", "qemu:///session", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.monotonic()

def seen(true, since):
    while not true() and time.monotonic() < since + 2.0:
        time.sleep(0.02)
    return true()

lab = vs.Lab(sys.argv[1], driver="session")
vm = lab.guest("panel-virsh", backing=lab.base())
whole, one = vs.panel(lab), vs.panel(vm)
whole.guests.value = vm.name

since = virsh("snapshot-create-as", vm.name, "outside")
print(seen(lambda: one.table.names == ["outside"], since))
one.table.value = "outside"
print(one.chain.selected)
since = virsh("snapshot-delete", vm.name, "outside")
print(seen(lambda: one.table.value is None, since), one.chain.selected)

since = virsh("start", "--paused", vm.name)
print(seen(lambda: [row[2] for row in whole.guests.rows] == ["paused"], since))
since = virsh("destroy", vm.name)
print(seen(lambda: [row[2] for row in whole.guests.rows] == ["shut off"], since))
print(whole.guests.value, len(whole.tabs.children))
since = virsh("undefine", vm.name)
print(seen(lambda: whole.guests.value is None and whole.tabs.children == (), since))
print(seen(lambda: type(one.last_error).__name__ == "NotFoundError", since), vm.name in one.time_line.value)
for panel in (whole, one):
    panel.close()
print(lab.destroy())
"""


def test_what_virsh_does_appears_within_two_seconds(short: Path) -> None:
    env = {"XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "HOME": str(short), "XDG_RUNTIME_DIR": str(short / "r")}
    done = run_python(CODE, short / "l", env=env, folder=short, **as_nobody(short))
    assert done.stdout.splitlines() == [
        "True",
        "outside",
        "True None",
        "True",
        "True",
        "panel-virsh 4",
        "True",
        "True True",
        "()",
    ], done.stderr
