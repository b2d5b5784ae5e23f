"""The command line on a host: a plan for images knows the guests, though no libvirt was named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, qemu_img

from vmsnap_nb.command.main import main

pytestmark = pytest.mark.hosts


def test_a_plan_for_images_knows_the_guests_of_this_machine(
    connection: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI"):
        monkeypatch.delenv(name, raising=False)
    qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", "web.qcow2")
    define(connection, "web", file_disk(IMAGES / "web.qcow2"))
    assert main(["plan", "commit", str(IMAGES / "web.qcow2"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert [(one["name"], one["holders"]) for one in json.loads(out)["concerns"] if one["level"] == "refuse"] == [
        ("in-use", ["web"])
    ]
    assert err == ""
    assert main(["run", "commit", "--guest", "web", "--yes"]) == 0
    assert main(["chain", "--guest", "web", "--json"]) == 0
    records = json.loads(capsys.readouterr().out.partition("Done, as predicted.")[2])["records"]
    assert [row["image"] for row in records] == ["base"]
    assert Path(IMAGES / "web.qcow2").exists()


def test_a_user_without_permission_is_told(system: SystemLibvirt) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "1M")
    code = """
    import os, tempfile
    from vmsnap_nb.command.main import main
    os.environ.pop("LIBVIRT_DEFAULT_URI", None)
    folder = tempfile.mkdtemp()
    import subprocess
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*create, folder + "/a.qcow2", "1M"], check=True)
    subprocess.run([*create, "-F", "qcow2", "-b", "a.qcow2", folder + "/b.qcow2"], check=True)
    status = main(["plan", "commit", folder + "/b.qcow2"])
    subprocess.run(["rm", "-r", folder], check=True)
    sys.exit(status)
    """
    done = system.python(code, groups=())
    assert done.returncode == 0, done.stderr
    assert "note: cannot determine which guests use these images: cannot connect to qemu:///system: " in done.stderr
