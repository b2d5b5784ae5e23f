"""Plans as shell scripts and as tasks for Ansible: on real images they leave what a run leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import qemu_img
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.plans.machine import Machine
from vmsnap_nb.plans.step import DefineDomain

pytestmark = pytest.mark.system

NAME = os.uname().nodename
PLANS: dict[str, Callable[[vs.LiveForest], vs.LivePlan]] = {
    "commit": lambda forest: forest.commit("b c"),
    "commit several": lambda forest: forest.commit("b c", "it's base", remove=True),
    "pull": lambda forest: forest.pull("top"),
    "overlay": lambda forest: forest.overlay("new {{ x }} $(touch no)", "a\\200"),
    "remove": lambda forest: forest.remove("a\\200"),
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A chain of images with data, and names that a shell could take for something else."""
    folder = tmp_path / "ours"
    folder.mkdir()
    below = create(folder / "it's base.qcow2", size="1M")
    for number, name in enumerate(("a\\200", "b c", "top")):
        path = folder / f"{name}.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below.name, path)
        subprocess.run(
            ["qemu-io", "-c", f"write -P {number + 1} {number * 65536} 65536", str(path)],
            check=True,
            capture_output=True,
        )
        below = path
    return folder


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh"], input=script, cwd=folder, capture_output=True, text=True, check=False)


def tasks(text: str) -> list[dict[str, Any]]:
    class Loader(yaml.SafeLoader):
        """Ansible's tag for what is no template."""

    Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))
    found: list[dict[str, Any]] = yaml.load(text, Loader)
    return found


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """What each image is, and the content of the disk that it reads."""
    found = {}
    for image in vs.scan(folder):
        backing = None if image.backing is None else os.path.basename(image.backing.written)
        raw = folder / "content"
        content = b""
        if image.status == "ok":
            qemu_img("convert", "-O", "raw", image.path, raw)
            content = raw.read_bytes()
            raw.unlink()
        found[os.path.basename(image.path)] = (image.status, backing, content)
    return found


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("way", ["script", "ansible"])
def test_it_leaves_what_a_run_leaves(images: Path, tmp_path: Path, name: str, way: str) -> None:
    by_hand = tmp_path / "by hand"
    shutil.copytree(images, by_hand, copy_function=shutil.copy2)
    plan = PLANS[name](vs.scan(by_hand))
    if way == "script":
        done = shell(plan.script(), tmp_path)
        assert done.returncode == 0, done.stderr
    else:
        for task in tasks(plan.to_ansible()):
            done = shell(task["ansible.builtin.shell"]["cmd"], tmp_path)
            assert done.returncode == 0, done.stderr
    assert PLANS[name](vs.scan(images)).run(progress=False).as_predicted
    assert seen(by_hand) == seen(images)
    assert not (tmp_path / "no").exists()


def test_it_ends_at_the_first_error(images: Path) -> None:
    plan = vs.scan(images).commit("b c", remove=True)
    script = plan.script().replace("qemu-img commit", "false && true")  # `set -e` alone would go on
    done = shell(script, images)
    assert done.returncode == 1
    assert (images / "b c.qcow2").exists()
    assert "2." not in done.stdout


def test_it_refuses_what_was_modified_or_exists(images: Path) -> None:
    forest = vs.scan(images)
    commit, overlay = forest.commit("b c").script(), forest.overlay("new", "top").script()
    os.utime(images / "b c.qcow2", (1, 1))
    (images / "new.qcow2").touch()
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    for script, why in ((commit, "b c.qcow2: was modified"), (overlay, "new.qcow2: exists")):
        done = shell(script, images)
        assert why in done.stderr, done.stderr
        assert done.returncode == 4
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_it_runs_on_its_machine_alone(images: Path) -> None:
    plan = vs.scan(images).overlay("new", "top")
    elsewhere = replace(plan, machine=Machine(name="another.example", uri="qemu:///system"))
    done = shell(elsewhere.script(), images)
    assert done.returncode == 3
    assert "for the machine another" in done.stderr
    assert not (images / "new.qcow2").exists()
    first = tasks(elsewhere.to_ansible())[0]
    assert shell(first["ansible.builtin.shell"]["cmd"], images).returncode == 3
    here = replace(plan, machine=Machine(name=NAME, uri="qemu:///system"))
    assert shell(here.script(), images).returncode == 0
    assert (images / "new.qcow2").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a namespace another host name")
def test_on_a_machine_with_another_name_it_ends_before_anything_is_done(images: Path) -> None:
    plan = vs.scan(images).commit("b c")
    made = images.parent / "made.sh"
    made.write_text(plan.script())
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    there = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec sh "$1"', "sh", str(made)]
    done = subprocess.run(there, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "not for elsewhere" in done.stderr
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before
    there[4] = 'hostname "$(hostname).example.org"; exec sh "$1"'  # the same machine, with its domain
    done = subprocess.run(there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_machine_that_calls_itself_a_command_runs_none(images: Path) -> None:
    name = "box\nid >ran\r\n-x"
    plan = replace(vs.scan(images).overlay("new", "top"), machine=Machine(name=name, uri="qemu:///system"))
    assert shell(plan.script(), images).returncode == 3
    assert shell(tasks(plan.to_ansible())[0]["ansible.builtin.shell"]["cmd"], images).returncode == 3
    assert not (images / "ran").exists()
    far = replace(plan, machine=Machine(name="-oProxyCommand=id", uri="qemu+unix:///system?socket=/s", here=False))
    assert far.commands[0].startswith("ssh -- -oProxyCommand=id ")


def test_a_refused_plan_has_no_script_unless_it_is_waived(images: Path) -> None:
    create(images / "other.qcow2", images / "a\\200.qcow2")
    plan = vs.scan(images).commit("b c")
    for call in (plan.script, plan.to_ansible):
        with pytest.raises(vs.PlanRefusedError, match="shared-base"):
            call()
        assert "qemu-img commit" in call(waive=["shared-base"])


def test_lines_for_another_machine_name_it(images: Path) -> None:
    plan = vs.scan(images).commit("b c")
    far = replace(plan, machine=Machine(name="box", uri="qemu+ssh://root@box:2222/system", here=False))
    assert far.commands[0].startswith("ssh -p 2222 -- root@box 'qemu-img commit ")
    assert far.to_frame()["command"].iloc[0] == far.commands[0]
    assert f"$ {far.commands[0]}" in far.to_text()
    assert "ssh " not in far.script()  # which runs there
    tcp = replace(plan, machine=Machine(name="box", uri="qemu+tcp://10.0.0.7:16509/system", here=False))
    assert tcp.commands[0].startswith("ssh -- 10.0.0.7 ")
    define = DefineDomain(name="g", path="/i/a", xml="<domain/>", uri="qemu+ssh://root@box:2222/system")
    far = replace(far, steps=(define,))
    assert far.commands[0].startswith("virsh -c qemu+ssh://root@box:2222/system define")
    assert "\nvirsh -c qemu:///system define" in far.script()
