"""Guests with UEFI firmware: plans say what becomes of its variables, and so it is."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.guests import forget_records
from support.labs import start_paused

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.system

NEW = library().getVersion() >= 10_010_000
"""Whether libvirt takes internal snapshots of such guests while they run, with the variables."""
OFF = library().getVersion() >= 9_003_000
"""Whether it takes them of guests that are off."""


@pytest.fixture(params=["raw", "qcow2"])
def uefi(lab: Lab, base: Image, short: Path, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest with flash memory whose code is empty; it is paused nearly always, so that none is executed."""
    format = request.param
    if format == "qcow2" and not NEW:
        format = "raw"  # an older libvirt does not tell QEMU the format: the guest would not start
    (short / "code").write_bytes(bytes(3584 << 10))
    subprocess.run(["qemu-img", "create", "-q", "-f", format, short / "variables", "528K"], check=True)
    guest = lab.guest(f"uefi-{request.param}", backing=base, boot="disk")
    root = ET.fromstring(guest.xml())
    firmware = root.find("os")
    assert firmware is not None
    ET.SubElement(firmware, "loader", readonly="yes", type="pflash").text = str(short / "code")
    ET.SubElement(firmware, "nvram", **({"format": format} if NEW else {})).text = str(short / "variables")
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))
    yield guest
    guest.destroy()
    forget_records(guest)
    folder = Path(guest.chain().top).parent
    with_nvram = library().VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    guest.handle.domain.undefineFlags(with_nvram)
    for path in folder.glob(f"{guest.name}*"):
        path.unlink()


def said(plan: Plan) -> list[tuple[str, str]]:
    return [(c.level, c.what) for c in plan.concerns if "UEFI" in c.what]


def variables(short: Path) -> Path:
    return short / "variables"


def is_qcow2(short: Path) -> bool:
    return variables(short).read_bytes()[:4] == b"QFI\xfb"


def inside(short: Path) -> str:
    """What is inside the file of the variables."""
    return subprocess.run(
        ["qemu-img", "snapshot", "-l", variables(short)], check=False, capture_output=True, text=True
    ).stdout


def test_the_default_is_taken_and_says_what_it_leaves_out(uefi: Guest, short: Path) -> None:
    plan = uefi.snapshot("out")
    assert plan.way.startswith("external-disk, because the guest has UEFI firmware")
    [(level, what)] = said(plan)
    assert level == "note"
    assert f"does not include the UEFI variables of {uefi.name} in {variables(short)}" in what
    assert plan.run(progress=False).as_predicted
    before = variables(short).read_bytes()
    back = uefi.revert("out")
    assert [level for level, _ in said(back)] == ["note"]
    assert "are not reverted" in said(back)[0][1]
    assert back.run(progress=False).as_predicted
    assert variables(short).read_bytes() == before


def test_internal_ones_as_this_libvirt_takes_them(uefi: Guest, short: Path) -> None:
    plan = uefi.snapshot("in", kind="internal-disk")
    if not OFF:
        assert [level for level, _ in said(plan)] == ["refuse"]
        assert "9.3 and later can" in said(plan)[0][1]
        with pytest.raises(library().libvirtError, match="pflash"):  # libvirt itself says so
            uefi.handle.domain.snapshotCreateXML("<domainsnapshot><name>in</name></domainsnapshot>")
        return
    with_variables = is_qcow2(short)
    assert bool(said(plan)) == (not with_variables)
    assert plan.run(progress=False).as_predicted
    assert (" in " in inside(short)) == with_variables
    assert uefi.revert("in").run(progress=False).as_predicted
    assert bool(said(uefi.revert("in"))) == (not with_variables)
    # A deletion leaves nothing in the file of the variables.
    assert uefi.delete_snapshot("in").run(progress=False).as_predicted
    assert " in " not in inside(short)
    assert set(uefi.snapshots().names) == {"kept1"}


def test_a_checkpoint_while_it_runs(uefi: Guest) -> None:
    start_paused(uefi)
    plan = uefi.snapshot("ram", kind="internal-checkpoint")
    taken = NEW and 'format="qcow2"' in uefi.xml().replace("'", '"').partition("</nvram>")[0]
    assert [level for level, _ in said(plan)] == ([] if taken else ["refuse"])
    if taken:
        assert plan.run(progress=False).as_predicted
        assert uefi.delete_snapshot("ram").run(progress=False).as_predicted
    else:
        with pytest.raises(library().libvirtError, match="pflash"):
            uefi.handle.domain.snapshotCreateXML("<domainsnapshot><name>ram</name></domainsnapshot>")


def test_memory_brings_the_variables_back(uefi: Guest, short: Path) -> None:
    start_paused(uefi)
    plan = uefi.snapshot("ram", kind="external-checkpoint")
    assert said(plan) == []
    assert plan.run(progress=False).as_predicted
    uefi.destroy()
    format = "qcow2" if is_qcow2(short) else "raw"
    argv = ["qemu-io", "-f", format, variables(short)]
    subprocess.run([*argv, "-c", "write -q -P 7 0 64k"], check=True)
    back = uefi.revert("ram")
    assert "are reverted together with the memory" in said(back)[0][1]
    assert back.run(progress=False).as_predicted
    uefi.handle.domain.resume()  # QEMU writes them to the file when the guest goes on
    uefi.destroy()
    seen = subprocess.run([*argv, "-c", "read -P 0 0 64k"], check=True, capture_output=True, text=True).stdout
    assert "failed" not in seen
