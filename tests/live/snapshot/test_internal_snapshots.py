"""A change of an internal snapshot that fails at any call of qemu-img: the image is repaired, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from support.commands import qemu_img, run
from support.content import content
from support.faults.inject import ERRORS, KINDS, STRIKES, Injector
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.internal_snapshots import changing_inside
from vmsnap_nb.system.qemu import qemu_img as tool

pytestmark = pytest.mark.system

EVERY = (1 << len(KINDS)) - 1
FAULTS = {
    "kill": (STRIKES["kill-caller"], EVERY),
    "flush": (STRIKES["fail"], 1 << KINDS.index("sync")),
}
CHANGES = {"create": ("-c", "new"), "delete": ("-d", "i1"), "revert": ("-a", "i1")}


Change = Literal["create", "delete", "revert"]


@pytest.fixture(scope="module")
def injector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Injector]:
    injector = Injector(tmp_path_factory.mktemp("injector"))
    yield injector
    injector.disarm()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "disk.qcow2"
    create(path, size=8 * MIB)
    for number in (1, 2):
        write(path, f"write -q -P {number} {number}M 512k")
        qemu_img("snapshot", "-c", f"i{number}", path)
    write(path, "write -q -P 9 2M 1M")
    return path


def readings(path: Path) -> dict[str, str]:
    """What the disk reads, and each snapshot that is listed."""
    [image] = vs.scan(path.parent)
    return {"": content(path), **{one.name: content(path, snapshot=one.name) for one in image.snapshots}}


def change_inside(
    path: Path, change: str, injector: Injector, fault: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change a snapshot inside an image, and kill qemu-img at a call, or let that call fail."""
    strike, kinds = FAULTS[fault]
    option, name = CHANGES[change]
    injector.arm(path.parent, at=at, action=strike, error=ERRORS["enospc"], kinds=kinds, roles=2)
    monkeypatch.setenv("LD_PRELOAD", str(injector.library))
    try:
        tool.run(("qemu-img", "snapshot", option, name, str(path)), tried="change it")
    finally:
        monkeypatch.delenv("LD_PRELOAD")
        injector.disarm()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_inside_that_fails_leaves_a_whole_image(
    change: Change, fault: str, injector: Injector, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = readings(template)
    repaired = 0
    for at in range(1, 60):
        path = tmp_path / "disk.qcow2"
        shutil.copy(template, path)
        said: list[str] = []
        injector.forget()
        try:
            with changing_inside([str(path)], CHANGES[change][1], change):
                change_inside(path, change, injector, fault, at, monkeypatch)
        except VmsnapError as error:
            said = [str(error), *getattr(error, "__notes__", ())]
        if not injector.hit:
            break
        repaired += any("repaired" in text for text in said)
        assert os.listdir(tmp_path) == ["disk.qcow2"], (at, said)
        assert run("qemu-img", "check", "-q", path, check=False).returncode in (0, 3), (at, said)
        now = readings(path)
        expected = {name: value for name, value in before.items() if name in now and name}
        assert {name: value for name, value in now.items() if name in expected} == expected, (at, said)
        assert now[""] in {before[""], before["i1"] if change == "revert" else ""}, (at, said)
        assert {"i1", "i2"} - now.keys() <= ({"i1"} if change == "delete" else set()), (at, said)
    assert at > 5
    assert change == "delete" or repaired, "some of them leave damage"
