"""Merges in a guest beside virsh: of a session's libvirt, with storage pools, and with keys of encrypted images."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.labs import nobodys_python, run_python

pytestmark = pytest.mark.guest


def session(short: Path, code: str) -> list[str]:
    """Run code as a user without rights, whose libvirt starts when it is asked for, and ends with the test."""
    env = {"XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "HOME": str(short), "XDG_RUNTIME_DIR": str(short / "r")}
    done = run_python(code, short, env=env, folder=short, **nobodys_python(short))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


PARTS = """
import shutil
import subprocess
import xml.etree.ElementTree as ET
from support.content import content
from support.images import MIB, create, handout_chain, write
from support.labs import start_paused
folder = Path(sys.argv[1])
lab = vs.Lab(folder / "l", driver="session")
libvirt = lab.connection

def names(guest):
    return [image.name for image in guest.chain()]

def refused(plan):
    return [c.name for c in plan.concerns if c.level == "refuse"]
"""


def test_a_guest_beside_virsh_and_an_overlay_in_another_pool(short: Path) -> None:
    said = session(
        short,
        PARTS
        + """
(folder / "a").mkdir(); (folder / "b").mkdir()
handout_chain(folder / "a")
guest = lab.guest("pooled", backing=folder / "a" / "Snap-4.qcow2", boot="disk", protect=False)
before = content(guest.chain().top)
start_paused(guest)
create(folder / "b" / "sibling.qcow2", "../a/Snap-1.qcow2")
print(refused(guest.commit(top="Snap-3", base="Snap-1")))  # nobody has told us of that folder
pool = libvirt.storagePoolCreateXML(
    f"<pool type='dir'><name>other</name><target><path>{folder / 'b'}</path></target></pool>"
)
plan = guest.commit(top="Snap-3", base="Snap-1")
print(refused(plan), "sibling also depends on Snap-1" in plan.concerns[0].what)
print(refused(guest.commit(top="Snap-4", base="Snap-3")))
report = guest.commit(top="Snap-4", base="Snap-3").run(progress=False)
print(report.as_predicted, names(guest))
print(guest.pull(base="RootBase").run(progress=False).as_predicted, names(guest))
print(refused(guest.commit()))  # the layers that were pulled up still stand on RootBase
print(guest.cleanup().run(progress=False).as_predicted, guest.unfinished())
guest.destroy()
print(content(guest.chain().top) == before)
""",
    )
    assert said == [
        "[]",
        "['shared-base'] True",
        "[]",
        "True ['RootBase', 'Snap-1', 'Snap-2', 'Snap-3', 'pooled']",
        "True ['RootBase', 'pooled']",
        "['shared-base']",
        "True ()",
        "True",
    ]


def test_encrypted_layers_are_merged_by_the_qemu_that_has_their_key(short: Path) -> None:
    said = session(
        short,
        PARTS
        + """
KEY = "11111111-1111-1111-1111-111111111111"
SECRET = ("--object", "secret,id=key,data=sesame")
LUKS = "encrypt.format=luks,encrypt.key-secret=key"

def qemu(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout

def create_encrypted(path):
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", *SECRET, "-o", f"{LUKS},encrypt.iter-time=10", path, "16M"]
    for _ in range(20):  # on a busy machine QEMU cannot measure how fast it is, and gives up
        done = subprocess.run(argv, capture_output=True, text=True)
        if "accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr

def options(*names):
    first, *rest = names
    own = f"driver=qcow2,{LUKS},file.driver=file,file.filename={folder / first}"
    return own + ("," + ",".join("backing." + one for one in options(*rest).split(",")) if rest else "")

def io(*names, commands):
    parts = (part for one in commands for part in ("-c", one))
    return "failed" not in qemu("qemu-io", *SECRET, "--image-opts", options(*names), *parts)

create_encrypted(str(folder / "base"))
for name, below in (("low", "base"), ("high", "low"), ("top", "high")):
    shutil.copyfile(folder / "base", folder / name)
    backing = ("-F", "qcow2", "-b", str(folder / below))
    qemu("qemu-img", "rebase", "-q", "-u", *SECRET, *backing, "--image-opts", options(name))
io("base", commands=["write -q -P 1 0 4M"])
io("low", "base", commands=["write -q -P 2 1M 1M"])
io("high", "low", "base", commands=["write -q -P 3 2M 1M"])
io("top", "high", "low", "base", commands=["write -q -P 4 3M 512k"])
CHECKS = ["read -q -P 1 0 1M", "read -q -P 2 1M 1M", "read -q -P 3 2M 1M", "read -q -P 4 3M 512k"]

secret = libvirt.secretDefineXML(
    f"<secret ephemeral='no' private='no'><uuid>{KEY}</uuid>"
    f"<usage type='volume'><volume>{folder / 'base'}</volume></usage></secret>"
)
secret.setValue(b"sesame")
guest = lab.guest("locked", backing=lab.base(), boot="disk")
unused = Path(guest.chain().top)
key = f"<encryption format='luks'><secret type='passphrase' uuid='{KEY}'/></encryption>"
store = "<backingStore/>"
for name in ("base", "low", "high"):
    source = f"<source file='{folder / name}'>{key}</source>"
    store = f"<backingStore type='file'><format type='qcow2'/>{source}{store}</backingStore>"
root = ET.fromstring(guest.xml())
disk = root.find("devices/disk")
disk.find("source").set("file", str(folder / "top"))
disk.find("source").append(ET.fromstring(key))
disk.append(ET.fromstring(store))
libvirt.defineXML(ET.tostring(root, encoding="unicode"))
unused.unlink()

print(refused(guest.commit(top="high", base="low")))  # off: qemu-img has no key
start_paused(guest)
plan = guest.commit(top="high", base="low")
print(refused(plan), plan.bytes_to_copy)
print(plan.run(progress=False).as_predicted, names(guest))
print(guest.pull(base="base").run(remove=True, progress=False).as_predicted, names(guest))
print(guest.commit().run(progress=False).as_predicted, names(guest))
guest.destroy()
print(io("base", commands=CHECKS))
start_paused(guest)  # the stored record has the key of what is the disk now

# A layer that anybody can read below one that nobody shall: what was secret would be written in the clear.
guest.destroy()
create(folder / "plain", size=16 * MIB)
below = ("-F", "qcow2", "-b", str(folder / "plain"))
qemu("qemu-img", "rebase", "-q", "-u", *SECRET, *below, "--image-opts", options("base"))
root = ET.fromstring(guest.xml())
for old in root.findall("devices/disk/backingStore"):
    root.find("devices/disk").remove(old)
libvirt.defineXML(ET.tostring(root, encoding="unicode"))
start_paused(guest)
plan = guest.commit()
print(refused(plan), "in plain text" in plan.concerns[0].what)
""",
    )
    assert said == [
        "['not-supported', 'not-supported', 'not-supported', 'not-supported']",
        "[] None",
        "True ['base', 'low', 'top']",
        "True ['base', 'top']",
        "True ['base']",
        "True",
        "['not-supported'] True",
    ]


def test_a_disk_that_is_a_volume_is_the_file_of_the_volume(short: Path) -> None:
    said = session(
        short,
        PARTS
        + """
images = folder / "v"
images.mkdir()
base = create(images / "base.qcow2", size=16 * MIB)
create(images / "sibling.qcow2", base)
pool = libvirt.storagePoolDefineXML(
    f"<pool type='dir'><name>volumes</name><target><path>{images}</path></target></pool>"
)
pool.create()
guest = lab.guest("volumes", backing=base, boot="disk", protect=False)

def volume(image):
    root = ET.fromstring(guest.xml())
    disk = root.find("devices/disk")
    disk.set("type", "volume")
    disk.find("source").attrib.clear()
    disk.find("source").set("pool", "volumes")
    disk.find("source").set("volume", image)
    for below in disk.findall("backingStore"):
        disk.remove(below)
    libvirt.defineXML(ET.tostring(root, encoding="unicode"))

volume("base.qcow2")
print(guest.disks().to_frame()["source"].tolist() == [str(base)])
forest = lab.survey(images)
print([use.guest for use in forest.users(base)], refused(forest.commit(images / "sibling.qcow2")))
pool.destroy()  # the file is still that of the guest
print([use.guest for use in lab.survey(images).users(base)])
(images / "sibling.qcow2").unlink()
pool.create()
for running in (False, True):
    if running:
        volume("base.qcow2")
        start_paused(guest)
    print(guest.snapshot("s", kind="external-disk").run(progress=False).as_predicted, names(guest))
    report = guest.delete_snapshot("s").run(progress=False)
    print(report.as_predicted, names(guest), [row.name for row in guest.snapshots()])
guest.destroy()
volume("base.qcow2")
print(guest.snapshot("inside", kind="internal-disk").run(progress=False).as_predicted)
print(guest.revert("inside", keep_current=False).run(progress=False).as_predicted)
print(guest.delete_snapshot("inside").run(progress=False).as_predicted, guest.chain()[0].snapshots)
""",
    )
    assert said == [
        "True",
        "['volumes'] ['shared-base', 'shared-base']",
        "['volumes']",
        *("True ['base', 'base.s']", "True ['base'] []") * 2,  # off, and running
        "True",
        "True",
        "True ()",
    ]
