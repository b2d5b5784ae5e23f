"""What nothing needs on a real host: moved away and back, and removed; nothing that is needed is touched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import content
from support.guests import discard
from support.images import KIB, MIB, create, write
from support.small_disk import small_disk

import vmsnap_nb as vs
from vmsnap_nb.errors import NotFoundError, PlanRefusedError, StalePlanError
from vmsnap_nb.lab.lab import Lab

pytestmark = pytest.mark.system


@pytest.fixture
def folder(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """Base; the disk of a guest on it; and a chain Old <- Older on it that nothing needs."""
    base = create(tmp_path / "Base.qcow2")
    write(base, "write -P 1 0 1M")
    guest = lab.guest("needy", backing=base, boot="disk", protect=False)
    write(create(tmp_path / "旧.qcow2", base), "write -P 2 0 2M")
    write(create(tmp_path / "Older.qcow2", tmp_path / "旧.qcow2"), "write -P 3 0 1M")
    yield tmp_path
    discard(guest)


def names(found: vs.LiveLeftovers, folder: Path) -> list[str]:
    return [Path(one.path).name for one in found if one.path.startswith(str(folder))]


def test_they_are_moved_away_and_back(lab: Lab, folder: Path) -> None:
    found = lab.leftovers(folder)
    assert names(found, folder) == ["Older.qcow2", "旧.qcow2"]
    before = content(folder / "Older.qcow2")
    attic = folder / "attic"
    attic.mkdir()
    plan = found.move(attic, folder / "Older.qcow2", "旧")
    assert [Path(step.image).name for step in plan.steps] == ["Older.qcow2", "旧.qcow2"]
    report = plan.run(progress=False)
    assert report.as_predicted
    assert report.frees.found_total == report.frees.total == 0
    assert sorted(path.name for path in attic.iterdir()) == ["Older.qcow2", "旧.qcow2"]
    # In another folder that is read they are leftovers still; the header names what is not there any more.
    assert names(lab.leftovers(folder), attic) == ["Older.qcow2", "旧.qcow2"]
    lab.leftovers(folder).move(folder, "Older", "旧").run(progress=False)
    assert content(folder / "Older.qcow2") == before


def test_a_move_frees_nothing_of_a_file_that_shares_its_data(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attic = folder / "attic"
    attic.mkdir()
    for module in ("place", "freed"):
        monkeypatch.setattr(f"vmsnap_nb.live.{module}.shared_bytes", lambda _: MIB)
    plan = lab.leftovers(folder).move(attic, folder / "Older.qcow2")
    assert plan.frees.total == 0
    assert plan.run(progress=False).frees.found_total == 0


def test_they_are_removed_and_free_what_they_took(lab: Lab, folder: Path) -> None:
    plan = lab.leftovers(folder).remove(folder / "Older.qcow2", folder / "旧.qcow2")
    assert (plan.frees.total or 0) > 3 * MIB
    report = plan.run(progress=False)
    assert report.as_predicted
    assert report.frees.found_total == report.frees.total
    assert not (folder / "Older.qcow2").exists()
    assert names(lab.leftovers(folder), folder) == []


def test_a_file_that_is_needed_meanwhile_stays(lab: Lab, folder: Path) -> None:
    found = lab.leftovers(folder)
    plan = found.remove(folder / "Older.qcow2")
    create(folder / "New.qcow2", folder / "Older.qcow2")
    with pytest.raises((StalePlanError, PlanRefusedError)):
        plan.run(progress=False)
    assert (folder / "Older.qcow2").exists()
    assert any(c.name == "shared-base" for c in found.remove(folder / "Older.qcow2").concerns if c.level == "refuse")


def test_a_file_in_place_of_another_is_not_removed(lab: Lab, folder: Path) -> None:
    plan = lab.leftovers(folder).remove(folder / "Older.qcow2")
    os.replace(create(folder / "x.qcow2", folder / "旧.qcow2"), folder / "Older.qcow2")
    with pytest.raises(StalePlanError):
        plan.run(progress=False)
    assert (folder / "Older.qcow2").exists()


def test_a_folder_without_libvirt_is_refused_unless_waived(tmp_path: Path) -> None:
    create(tmp_path / "Lone.qcow2")
    found = vs.scan(tmp_path).leftovers()
    assert [one.doubt for one in found] == [
        ("no libvirt connection was available to check which guests use it as a disk")
    ]
    plan = found.remove()
    with pytest.raises(PlanRefusedError, match="no libvirt connection was available"):
        plan.run(progress=False)
    [doubt] = [one for one in plan.concerns if one.name == "unknown-image" and one.level == "refuse"]
    assert "move the file to another folder" in str(doubt.remedy)
    [doubt] = [
        one for one in found.move(tmp_path / "elsewhere").concerns if one.name == "unknown-image" and one.waivable
    ]
    assert doubt.remedy == "check which guests use the file, then waive this concern"
    assert plan.run(progress=False, waive="unknown-image").as_predicted
    assert not (tmp_path / "Lone.qcow2").exists()


def test_another_file_system_and_one_that_is_full(tmp_path: Path) -> None:
    path = create(tmp_path / "Lone.qcow2")
    write(path, "write -P 1 0 2M")
    path.chmod(0o640)
    before, size = content(path), path.stat().st_size
    plan = vs.scan(tmp_path).leftovers()
    with small_disk(tmp_path / "small", "1m") as small:
        with pytest.raises(vs.VmsnapError, match=r"(?s)Lone.*space"):
            plan.move(small).run(progress=False, waive="unknown-image")
        assert list(small.iterdir()) == []
        assert content(path) == before
    with small_disk(tmp_path / "large", "8m") as large:
        assert plan.move(large).run(progress=False, waive="unknown-image").as_predicted
        moved = large / "Lone.qcow2"
        assert (moved.stat().st_size, moved.stat().st_mode & 0o777) == (size, 0o640)
        assert not path.exists()
        assert moved.stat().st_blocks * 512 < size + 64 * KIB
        assert content(moved) == before


def test_names_that_are_not_there(tmp_path: Path) -> None:
    create(tmp_path / "Lone.qcow2")
    found = vs.scan(tmp_path).leftovers()
    with pytest.raises(NotFoundError, match="Lone"):
        found.remove("Lune")
    assert "Lone.qcow2" in found.to_text()
    assert "Lone" in found._repr_mimebundle_()["text/html"]
    (tmp_path / "Lone.qcow2").unlink()
    assert vs.scan(tmp_path).leftovers().to_frame().empty


def test_a_file_of_a_time_that_no_calendar_has(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vmsnap-test-", dir="/dev/shm") as folder:  # other file systems end earlier
        image = create(Path(folder) / "far.qcow2")
        os.utime(image, (253402300800, 253402300800))
        (found,) = vs.scan(folder).leftovers()
        assert (found.path, found.last_written) == (str(image), None)
        assert vs.scan(folder).to_html(tmp_path / "report.html")
