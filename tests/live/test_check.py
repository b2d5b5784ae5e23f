"""Checks of real images by QEMU: what they find, what they do not open, and what stops them."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import qemu_img, shell
from support.content import content
from support.guests import discard
from support.images import MIB, create, luks, write
from support.labs import start_paused
from support.watch import watch

import vmsnap_nb as vs
from vmsnap_nb.errors import CommandError, ImageError, InUseError, NotFoundError, StalePlanError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.system

COLUMNS = [
    "format",
    "result",
    "check_errors",
    "corruptions",
    "leaks",
    "allocated_clusters",
    "total_clusters",
    "fragmented_clusters",
    "compressed_clusters",
    "image_end",
]


def chain(folder: Path) -> tuple[Path, Path]:
    base = create(folder / "base.qcow2", size=4 * MIB)
    write(base, "write -q 0 1M")
    over = create(folder / "over.qcow2", base)
    write(over, "write -q 2M 256k")
    return base, over


def l1_entry(path: Path, change: int) -> None:
    """Add to the first entry of an image's L1 table, or zero it where the change is 0."""
    with open(path, "r+b") as file:
        header = file.read(104)
        (l1,) = struct.unpack_from(">Q", header, 40)
        file.seek(l1)
        (entry,) = struct.unpack(">Q", file.read(8))
        file.seek(l1)
        file.write(struct.pack(">Q", entry + change if change else 0))


def test_a_sound_image(tmp_path: Path) -> None:
    chain(tmp_path)
    forest = vs.scan(tmp_path)
    found = forest["over"].check()
    assert found == forest.check("over")
    assert (found.result, found.corruptions, found.leaks, found.check_errors) == ("ok", 0, 0, 0)
    assert (found.allocated_clusters, found.total_clusters) == (4, 64)
    frame = found.to_frame()
    assert (frame.index.name, list(frame.columns)) == ("path", COLUMNS)
    assert frame.loc[str(tmp_path / "over.qcow2"), "allocated_clusters"] == 4


def test_leaks_and_damage(tmp_path: Path) -> None:
    base, over = chain(tmp_path)
    l1_entry(over, 0)
    leaks = vs.scan(tmp_path).check("over")
    assert (leaks.result, leaks.leaks > 0, leaks.corruptions) == ("leaks", True, 0)
    l1_entry(base, 0x10000)
    damaged = vs.chain(base)[0].check()
    assert (damaged.result, damaged.corruptions > 0) == ("corrupt", True)
    assert damaged.to_frame().loc[str(base), "result"] == "corrupt"


def test_backing_files_are_not_opened(tmp_path: Path) -> None:
    base, _ = chain(tmp_path)
    base.unlink()
    assert vs.scan(tmp_path).check("over").result == "ok"


def test_a_format_without_checks(tmp_path: Path) -> None:
    raw = create(tmp_path / "disk.img", size=MIB, format="raw")
    create(tmp_path / "over.qcow2", raw, backing_format="raw")
    found = vs.scan(tmp_path).check("disk")
    assert (found.format, found.result, found.allocated_clusters) == ("raw", "no checks", None)
    assert vs.scan(tmp_path).check("disk").to_frame()["leaks"].item() == 0


def test_a_block_map_says_which_layer_is_encrypted(tmp_path: Path) -> None:
    luks("qcow2", tmp_path / "secret.qcow2", MIB)
    with pytest.raises(ImageError, match=r"secret\.qcow2: it is encrypted \(luks\)"):
        vs.scan(tmp_path).blockmap("secret")


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    base, over = chain(tmp_path)
    forest = vs.scan(tmp_path)
    with pytest.raises(NotFoundError):
        forest.check("none")
    with pytest.raises(ImageError, match="not read on this machine"):
        Image("/images/elsewhere.qcow2", "qcow2").check()
    over.unlink()
    with pytest.raises(NotFoundError):
        forest["over"].check()
    os.replace(base, over)
    with pytest.raises(StalePlanError):
        replace(forest["base"], path=str(over), identity=(1, 1)).check()
    with pytest.raises(ImageError, match="does not exist"):
        Image("/gone", status="missing", problem="the file does not exist").check()
    luks("qcow2", tmp_path / "secret.qcow2", MIB)
    with pytest.raises(ImageError, match="encrypted"):
        vs.scan(tmp_path).check("secret")


def test_a_check_has_limits(tmp_path: Path) -> None:
    chain(tmp_path)
    forest = vs.scan(tmp_path)

    def ends_in_time() -> None:
        for _ in range(100):  # on a busy machine it can have ended before anybody looks at the clock
            forest.check("over", timeout=0.0001)

    with pytest.raises(CommandError, match="took longer"):
        ends_in_time()
    with pytest.raises(vs.InvalidRequestError):
        vs.scan(tmp_path).check("over", timeout=0)


def test_a_data_file_that_was_not_read_is_not_opened(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    create(folder / "image.qcow2", size=MIB, data_file=elsewhere / "data.raw")
    with watch() as seen, pytest.raises(ImageError, match="was not read"):
        vs.scan(folder).check("image")
    assert str(elsewhere / "data.raw") not in seen


@pytest.mark.timeout(300)
def test_a_guest_that_runs_holds_its_image(lab: Lab, base: Image) -> None:
    guest = lab.guest("checked", backing=base)
    assert guest.check().result == "ok"
    assert guest.chain()[0].check().result == "ok"
    start_paused(guest)
    with pytest.raises(InUseError):
        guest.check()
    guest.destroy()
    discard(guest)


def test_qemu_finds_the_same(tmp_path: Path) -> None:
    _, over = chain(tmp_path)
    assert f'"allocated-clusters": {vs.scan(tmp_path).check("over").allocated_clusters}' in qemu_img(
        "check", "--output=json", over
    )


# -- repair ---------------------------------------------------------------------------------------------------------


def test_a_repair_is_made_on_a_copy(tmp_path: Path) -> None:
    base, over = chain(tmp_path)
    with open(over, "r+b") as file:  # one cluster more than there is in use, as after a crash
        file.seek(0, os.SEEK_END)
        file.write(bytes(65536))
        file.seek(0x10000)
        (block,) = struct.unpack(">Q", file.read(8))
        file.seek(block + 2 * (os.path.getsize(over) // 65536 - 1))
        file.write(b"\0\1")
        file.seek(72)
        file.write(struct.pack(">Q", 2))  # QEMU's own mark of damage
    damaged, was = over.read_bytes(), base.read_bytes()
    forest = vs.scan(tmp_path)
    assert forest.status("over") == "corrupt"
    assert forest.check("over").result == "leaks"
    plan = forest.repair("over", "repaired")
    assert [step.action for step in plan.steps] == ["copy image", "repair copy"]
    assert (plan.writes, plan.creates, plan.refused) == ((), (str(tmp_path / "repaired.qcow2"),), False)
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    assert (over.read_bytes(), base.read_bytes()) == (damaged, was)
    after = vs.scan(tmp_path)
    assert (after.status("repaired"), after.check("repaired").result) == ("ok", "ok")
    assert after.parent("repaired") == str(base)
    assert content(tmp_path / "repaired.qcow2").startswith(str(4 * MIB))
    assert forest.repair("over", "repaired").refused


def test_the_commands_of_a_repair(tmp_path: Path) -> None:
    _, over = chain(tmp_path)
    l1_entry(over, 0)
    plan = vs.scan(tmp_path).repair("over", tmp_path / "a copy.qcow2")
    done = shell(plan.commands, tmp_path)
    assert done.returncode == 0, done.stderr
    assert vs.scan(tmp_path).check("a copy").result == "ok"
    assert vs.scan(tmp_path).check("over").result == "leaks"


def test_what_is_not_repaired(tmp_path: Path) -> None:
    base, _ = chain(tmp_path)
    folder = tmp_path / "other"
    folder.mkdir()
    create(tmp_path / "relative.qcow2", base.name)
    luks("qcow2", tmp_path / "secret.qcow2", MIB)
    create(tmp_path / "data.qcow2", size=MIB, data_file=tmp_path / "data.raw")
    forest = vs.scan(tmp_path)
    assert forest.repair("relative", folder / "copy").refused
    assert not forest.repair("relative", "copy").refused
    assert forest.repair("secret", "copy").refused
    assert forest.repair(str(tmp_path / "data.qcow2"), "copy").refused
    assert forest.repair("over", tmp_path / "nowhere" / "copy").refused
