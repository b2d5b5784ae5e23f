"""The commands that the course has students type, without this package, do what the text says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support import ROOT
from support.labs import nobodys_python, run_python

pytestmark = pytest.mark.system

LESSON = "04-merging.md"


def commands(source: Path) -> str:
    [fence] = re.findall(r"(?ms)^```sh\n(.*?)^```$", source.read_text(encoding="utf-8"))
    return str(fence)


def test_both_languages_have_the_same_commands() -> None:
    folder = ROOT / "notebooks" / "source"
    assert commands(folder / LESSON) == commands(folder / "zh" / LESSON)


def test_the_commands_of_a_live_merge_do_what_the_lesson_says(short: Path) -> None:
    user = nobodys_python(short)
    script = f"set -e; export HOME={short} XDG_RUNTIME_DIR={short}/r; cd {short}\n" + commands(
        ROOT / "notebooks" / "source" / LESSON
    )
    done = subprocess.run(
        [*user["before"], "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    written = re.findall(r"(?m)^ *vda +.*/(\S+)$", done.stdout)
    assert written == ["disk.qcow2", "disk.monday", "disk.qcow2", "disk.tuesday"]
    assert "backing file" not in done.stdout.rpartition("image: disk.tuesday")[2]


BY_HAND = """
import os, subprocess
import vmsnap_nb as vs

def virsh(*words):
    done = subprocess.run(["virsh", *words], capture_output=True, text=True, cwd=lab.work)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split()

lab = vs.Lab.for_lesson()
assert not (lab.root / "hand").exists(), "of the run before"
lab.by_hand()
disk = lab.work / "disk.qcow2"
subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
(lab.work / "x.xml").write_text(
    "<domain type='qemu'><name>x</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
    f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda'/></disk>"
    "</devices></domain>"
)
virsh("create", "x.xml")
assert str(disk) in virsh("domblklist", "x")
found = subprocess.run(["pgrep", "-f", f"{lab.root}/hand/lib/qemu/domain-"], capture_output=True, text=True)
[pid] = found.stdout.split()
print(pid, flush=True)
"""


def test_guests_of_virsh_end_with_the_lab_even_if_it_was_killed(short: Path) -> None:
    env = {"VMSNAP_LAB": str(short / "lab")}
    killed = run_python(BY_HAND + "\nos._exit(0)", env=env)
    assert killed.returncode == 0, killed.stderr
    left = Path("/proc", killed.stdout.strip(), "cmdline")
    assert left.exists()
    code = '\nassert lab.destroy() == ()\nassert "LIBVIRT_DEFAULT_URI" not in os.environ\n'
    ended = run_python(BY_HAND + code, env=env)
    assert ended.returncode == 0, ended.stderr
    assert not left.exists() or not left.read_bytes()  # empty, until somebody has waited for it
    assert list(short.iterdir()) == []
