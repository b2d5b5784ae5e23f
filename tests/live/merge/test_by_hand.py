"""A guest that is off gets another image as its disk: the line to paste leaves the same definition as our run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.labs import run_python

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

PREPARE = """
    import json, subprocess
    import xml.etree.ElementTree as ET
    lab = vs.Lab(sys.argv[1], keep=True)
    lines = []
    for who in ("hand", "ours"):
        folder = Path(sys.argv[1]).parent / f"{who} it's <&> [1]*.d"
        folder.mkdir()
        for name, format in (("base", "raw"), ("other", "qcow2")):
            subprocess.run(["qemu-img", "create", "-q", "-f", format, folder / name, "16M"], check=True)
        own = folder / "own"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", own], check=True)
        guest = lab.guest(f"set-{who}", backing=own, boot="disk", protect=False)
        Path(guest.chain().top).unlink()
        root = ET.fromstring(guest.handle.domain.XMLDesc(1 | 2))  # secure, inactive
        devices = root.find("devices")
        ET.SubElement(devices, "graphics", type="vnc", port="-1", passwd="s3cret")
        disk = devices.find("disk")
        disk.find("source").set("file", str(own))
        disk.find("driver").set("cache", "unsafe")
        ET.SubElement(disk, "serial").text = "its own"
        below = ET.SubElement(disk, "backingStore", type="file")
        ET.SubElement(below, "format", type="raw")
        ET.SubElement(below, "source", file=str(folder / "base"))
        ET.SubElement(below, "backingStore")
        two = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(two, "driver", name="qemu", type="qcow2")
        ET.SubElement(two, "source", file=str(folder / "other"))
        ET.SubElement(two, "target", dev="vdb", bus="virtio")
        guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))
        plan = guest.commit(disk="vda")
        if who == "hand":
            lines = plan.commands
        else:
            assert plan.run(progress=False).as_predicted
    print(json.dumps(lines))
"""
LOOK = """
    import json, re
    with vs.Lab(sys.argv[1]) as lab:
        for who in ("hand", "ours"):
            guest = lab.guest(f"set-{who}")
            xml = guest.handle.domain.XMLDesc(1 | 2)
            print(json.dumps([(disk.target, disk.source, disk.format) for disk in guest.disks()]).replace(who, "who"))
            xml = re.sub("<mac address.*|/port/[0-9a-f]+", "", xml.replace(guest.uuid, ""))
            print(json.dumps(xml.replace(guest.name, "set").replace(f"/{who} ", "/")))
        lab.destroy()
"""


def test_the_line_that_sets_the_disk(short: Path) -> None:
    prepared = run_python(PREPARE, short / "l")
    assert prepared.returncode == 0, prepared.stderr
    lines = json.loads(prepared.stdout)
    assert "s3cret" not in "".join(lines)
    done = subprocess.run(["sh", "-e"], input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (lines, done.stderr)
    looked = run_python(LOOK, short / "l")
    assert looked.returncode == 0, looked.stderr
    disks, by_hand, same_disks, ours = map(json.loads, looked.stdout.splitlines())
    assert by_hand == ours
    assert disks == same_disks
    folder = f"{short}/who it's <&> [1]*.d"
    assert disks == [["vda", f"{folder}/base", "raw"], ["vdb", f"{folder}/other", "qcow2"]]
    assert "passwd='s3cret'" in ours
    assert "<serial>its own</serial>" in ours
    assert "backingStore" not in ours
