"""Surveys: what counts as an image, who says what of whom, and what is read again."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import time
from pathlib import Path

import pytest
from support.commands import qemu_img
from support.images import MIB, create, extension, header, luks, sparse
from support.nobody import as_nobody
from support.watch import watch

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.system import survey as survey_module
from vmsnap_nb.system.entries import is_incomplete, listing_of, stamp_of
from vmsnap_nb.system.files.temporary import temporary
from vmsnap_nb.system.image_file import Stamp, stamp
from vmsnap_nb.system.qcow2.directories import Room
from vmsnap_nb.system.qcow2.format import BACKING_FORMAT, DATA_FILE_NAME
from vmsnap_nb.system.survey import Survey

OLD = time.time_ns() - 10**12


def scan(*folders: Path, **options: object) -> Forest:
    return Survey([str(folder) for folder in folders], **options).read()  # type: ignore[arg-type]


def overlay(path: Path, backing: str, format: str | None = "qcow2", **fields: object) -> Path:
    ext = b"" if format is None else extension(BACKING_FORMAT, format.encode())
    head = header(backing=os.fsencode(backing), extensions=ext + bytes(8), **fields)  # type: ignore[arg-type]
    return sparse(path, head)


def names(forest: Forest) -> list[str]:
    return [os.path.basename(path) for path in forest.images]


def settle(folder: Path) -> None:
    """Wait until what was written is old enough to be kept in mind."""
    time.sleep(0.05)


# -- what is an image ---------------------------------------------------------------------------------------


def test_what_counts_as_an_image(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").touch()
    (tmp_path / "named.qcow2").write_text("no image at all")
    sparse(tmp_path / "image", header())
    (tmp_path / "sub").mkdir()
    sparse(tmp_path / "sub" / "deeper", header())
    (tmp_path / "sub" / "raw").write_bytes(b"x" * 1000)
    overlay(tmp_path / "over", "sub/raw", "raw")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    forest = scan(tmp_path)
    assert names(forest) == ["image", "over", "deeper", "raw"]
    raw = forest[str(tmp_path / "sub" / "raw")]
    assert (raw.format, raw.status, raw.virtual_size, raw.file_size) == ("raw", "ok", 1024, 1000)
    assert forest.folders == (str(tmp_path),)
    assert forest.read_at is not None


def test_an_empty_folder_is_an_empty_forest(tmp_path: Path) -> None:
    assert len(scan(tmp_path)) == 0
    assert len(Survey().read()) == 0
    missing = scan(tmp_path / "nowhere")
    assert [(image.status, image.problem) for image in missing] == [("missing", "there is no such folder")]


def test_folders_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    sparse(tmp_path / "sub" / "image", header())
    with watch() as seen:
        assert names(scan(tmp_path, tmp_path / "sub", tmp_path)) == ["image"]
    assert seen.count(str(tmp_path / "sub")) == 1
    assert seen.count(str(tmp_path / "sub" / "image")) == 1


def test_a_file_given_as_a_folder_is_an_image(tmp_path: Path) -> None:
    image = sparse(tmp_path / "image", header())
    assert names(scan(image)) == ["image"]


def test_without_a_format_qemu_would_guess(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"x" * 512)
    sparse(tmp_path / "marked", header())
    overlay(tmp_path / "over-raw", "raw", None)
    overlay(tmp_path / "over-marked", "marked", None)
    forest = scan(tmp_path)
    assert {name: forest[str(tmp_path / name)].format for name in ("raw", "marked")} == {
        "raw": "raw",
        "marked": "qcow2",
    }
    for name in ("over-raw", "over-marked"):
        backing = forest[str(tmp_path / name)].backing
        assert backing is not None
        assert backing.format is None
    assert {image.problem for image in forest} == {""}


def test_images_that_are_named_are_read_wherever_they_are(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    image, raw = sparse(outside / "image", header()), outside / "disk.raw"
    raw.write_bytes(b"x" * 600)
    forest = Survey(images={str(image): None, str(raw): "raw", str(outside / "none"): None}).read()
    assert [i.status for i in forest] == ["ok", "ok", "missing"]
    assert forest[str(raw)].virtual_size == 1024
    unknown = Survey(images={str(raw): None}).read()[str(raw)]
    assert (unknown.status, unknown.format, unknown.file_size) == ("unknown", None, 600)
    assert "raw" in unknown.problem
    wrong = Survey(images={str(raw): "qcow2"}).read()[str(raw)]
    assert wrong.status == "corrupt"
    assert "is used as qcow2" in wrong.problem
    mixed = Survey(images={str(image): "vmdk"}).read()[str(image)]
    assert (mixed.status, mixed.format) == ("ok", "qcow2")
    assert "vmdk" in mixed.problem


def test_what_a_guest_uses_is_read_wherever_it_is(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    sparse(inside / "base", header())
    disk = overlay(outside / "disk", str(inside / "base"))
    (inside / "link").symlink_to(disk)
    use = Use("demo", "vda", str(disk), "running")
    forest = Survey((str(inside),)).read([use])
    assert forest[str(disk)].status == "ok"
    assert forest.users(str(inside / "base")) == (use,)
    assert forest[str(inside / "link")].status == "outside"
    linked = Survey((str(inside),)).read([Use("demo", "vda", str(inside / "link"))])
    assert linked[str(inside / "link")].status == "ok"
    address = Survey().read([Use("demo", "vda", "nbd://box/x")])
    assert [image.status for image in address] == ["remote"]


# -- who says what ------------------------------------------------------------------------------------------


def test_when_overlays_disagree_the_content_decides(tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    sparse(tmp_path / "base", header())
    overlay(tmp_path / "one", "base", "qcow2")
    overlay(tmp_path / "two", "base", "raw")
    forest = scan(tmp_path)
    assert forest[base].format == "qcow2"
    assert f"{tmp_path}/two records raw as its backing format" in forest[base].problem
    (tmp_path / "one").unlink()
    forest = scan(tmp_path)
    assert (forest[base].format, forest[base].virtual_size) == ("raw", 256 * 1024)
    assert "looks like qcow2" in forest[base].problem
    overlay(tmp_path / "two", "base", "vmdk")
    assert "records vmdk as its backing format" in scan(tmp_path)[base].problem


def test_the_format_that_a_guest_gives_counts_more_than_what_an_overlay_records(tmp_path: Path) -> None:
    sparse(tmp_path / "base", header())
    disk = str(overlay(tmp_path / "disk", "base", "qcow2"))
    overlay(tmp_path / "two", "disk", "raw")
    for told in ("qcow2", "raw"):
        image = Survey((str(tmp_path),), images={disk: told}).read()[disk]
        assert (image.format, image.backing is not None) == (told, told == "qcow2")
        assert ("/two records raw as its backing format" in image.problem) == (told == "qcow2")


def test_taken_for_what_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"x" * 1000)
    overlay(tmp_path / "over", "base", "qcow2")
    image = scan(tmp_path)[str(tmp_path / "base")]
    assert image.status == "corrupt"
    assert "does not look like" in image.problem


# -- links --------------------------------------------------------------------------------------------------


def test_two_names_of_one_file(tmp_path: Path) -> None:
    sparse(tmp_path / "base", header())
    (tmp_path / "soft").symlink_to("base")
    os.link(tmp_path / "base", tmp_path / "hard")
    overlay(tmp_path / "over-soft", "soft")
    overlay(tmp_path / "over-hard", "hard")
    forest = scan(tmp_path)
    assert forest.duplicates == ((str(tmp_path / "base"), str(tmp_path / "hard"), str(tmp_path / "soft")),)
    both = {str(tmp_path / "over-soft"), str(tmp_path / "over-hard")}
    assert {name: set(forest.children(str(tmp_path / name))) for name in ("base", "soft", "hard")} == {
        "base": both,
        "soft": both,
        "hard": both,
    }
    assert set(forest.leaves) == both


@pytest.mark.system
def test_relative_names_start_at_the_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    create(tmp_path / "a" / "base", size=MIB)
    create(tmp_path / "b" / "over", "base", size=MIB)
    (tmp_path / "a" / "over").symlink_to("../b/over")
    qemu_img("info", "--backing-chain", tmp_path / "a" / "over")  # QEMU finds the base beside the link …
    forest = scan(tmp_path)
    assert forest.lineage(str(tmp_path / "a" / "over")) == (str(tmp_path / "a/over"), str(tmp_path / "a/base"))
    with pytest.raises(AssertionError, match="No such file"):
        qemu_img("info", "--backing-chain", tmp_path / "b" / "over")  # … and nowhere else
    assert forest[str(tmp_path / "b" / "base")].status == "missing"


@pytest.mark.system
def test_dots_after_a_link_go_where_the_system_goes(tmp_path: Path) -> None:
    real = tmp_path / "real" / "deep"
    real.mkdir(parents=True)
    create(tmp_path / "real" / "base", size=MIB)
    create(real / "over", "../base", size=MIB)
    (tmp_path / "link").symlink_to("real/deep")
    forest = Survey((str(tmp_path / "link"), str(tmp_path))).read()
    over = str(tmp_path / "link" / "over")
    assert forest.parent(over) == str(tmp_path / "real" / "base")
    assert [forest[path].status for path in forest.lineage(over)] == ["ok", "ok"]
    qemu_img("info", "--backing-chain", over)


@pytest.mark.system
@pytest.mark.parametrize("way", ["relative", "absolute", "file:", "json:", "escaped", "from outside"])
def test_dots_after_a_link_go_where_the_system_goes_in_any_reference(tmp_path: Path, way: str) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    create(tmp_path / "real" / "base", size=MIB)
    (tmp_path / "link").symlink_to("real/deep")
    folder, name = tmp_path, f"{tmp_path}/link/../base"
    options = json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": name}})
    written = {"absolute": name, "file:": f"file:{name}", "json:": f"json:{options}", "relative": "link/../base"}
    written["escaped"] = "json:" + options.replace("..", "\\u002e\\u002e")
    if way == "from outside":  # by its letters it is in no folder that is read
        folder, written[way] = tmp_path / "real", "../link/../base"
    create(folder / "over", written[way])
    forest = scan(folder)
    assert forest.lineage(str(folder / "over")) == (str(folder / "over"), str(tmp_path / "real" / "base"))
    reference = forest[str(folder / "over")].backing
    assert reference is not None
    assert reference.is_certain


@pytest.mark.system
def test_dots_after_a_link_lead_to_the_data_file(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    image = create(tmp_path / "image", size=MIB, data_file=f"{tmp_path}/real/data")
    qemu_img("amend", "-f", "qcow2", "-o", f"data_file={tmp_path}/link/../data", image)
    data = scan(tmp_path)[str(image)].data_file
    assert data is not None
    assert data.path == str(tmp_path / "real" / "data")


def test_a_folder_given_by_a_link_knows_its_real_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    sparse(tmp_path / "real" / "base", header())
    overlay(tmp_path / "real" / "over", str(tmp_path / "real" / "base"))
    (tmp_path / "link").symlink_to("real")
    forest = scan(tmp_path / "link")
    assert [forest[path].status for path in forest.lineage(str(tmp_path / "link" / "over"))] == ["ok", "ok"]
    assert forest.children(str(tmp_path / "link" / "base"))


def test_files_in_a_linked_folder_are_found_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    sparse(tmp_path / "real" / "base", header())
    (tmp_path / "link").symlink_to("real")
    overlay(tmp_path / "over", "link/base")
    forest = scan(tmp_path)
    assert names(forest) == ["over", "base", "base"]
    assert forest.children(str(tmp_path / "real" / "base")) == (str(tmp_path / "over"),)


# -- data files ---------------------------------------------------------------------------------------------


def test_data_files_belong_to_their_image(tmp_path: Path) -> None:
    data = sparse(tmp_path / "data", header())  # a guest can write anything there, also this
    ext = extension(DATA_FILE_NAME, os.fsencode(data)) + bytes(8)
    image = str(sparse(tmp_path / "image", header(incompatible=4, autoclear=2, extensions=ext)))
    forest = scan(tmp_path)
    assert names(forest) == ["image"]
    assert (forest[image].data_file_raw, forest[image].status, forest[image].problem) == (True, "ok", "")
    data.unlink()
    forest = scan(tmp_path)
    assert forest[image].status == "unreadable"
    assert str(data) in forest[image].problem
    sparse(tmp_path / "unnamed", header(incompatible=4))
    assert "does not name" in scan(tmp_path)[str(tmp_path / "unnamed")].problem


def test_a_relative_data_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 512)
    ext = extension(DATA_FILE_NAME, b"data") + bytes(8)
    image = sparse(tmp_path / "image", header(incompatible=4, extensions=ext))
    forest = scan(tmp_path)
    assert names(forest) == ["image"]
    assert "against its current folder" in forest[str(image)].problem


@pytest.mark.system
def test_qemu_looks_for_relative_data_files_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    create(Path("image"), size=MIB, data_file="data")
    qemu_img("map", "image")
    monkeypatch.chdir("/")
    with pytest.raises(AssertionError, match="No such file"):
        qemu_img("map", tmp_path / "image")


def with_data(path: Path, data: Path | str) -> str:
    ext = extension(DATA_FILE_NAME, os.fsencode(data)) + bytes(8)
    return str(sparse(path, header(incompatible=4, autoclear=2, extensions=ext)))


def test_a_data_file_elsewhere_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    data = sparse(outside / "data", bytes(512))
    (inside / "link").symlink_to(data)
    looked: list[str] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: looked.append(str(path)) or real(path, **more))
    images = {
        name: with_data(inside / name, at) for name, at in (("a", data), ("b", inside / "link"), ("c", "nbd://h"))
    }
    for follow in (False, True):
        forest = scan(inside, follow=follow)
        found = {name: forest[path].data_status for name, path in images.items()}
        assert found == {"a": "outside", "b": "outside", "c": "remote"}
        assert all(forest[path].problem for path in images.values())
        assert follow or str(data) not in looked
    assert scan(inside, outside)[images["a"]].data_status == "ok"


def test_a_data_file_that_is_no_file_blocks_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = with_data(tmp_path / "image", tmp_path / "pipe")
    image = scan(tmp_path)[path]
    assert (image.status, image.data_status) == ("unreadable", "not-a-file")
    assert "FIFO" in image.problem


def test_a_data_file_hides_no_overlay(tmp_path: Path) -> None:
    sparse(tmp_path / "base", header())
    victim = overlay(tmp_path / "victim", "base")
    with_data(tmp_path / "evil", tmp_path / "victim")
    forest = scan(tmp_path)
    assert forest.children(str(tmp_path / "base")) == (str(victim),)


# -- reading again ------------------------------------------------------------------------------------------


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of the files that are read, not only looked at."""
    seen: list[str] = []
    real = survey_module.read_image

    def read_image(path: str, folder: str, target: str | None = None, *, room: Room) -> tuple[Image, Stamp | None]:
        seen.append(os.path.basename(path))
        return real(path, folder, target, room=room)

    monkeypatch.setattr(survey_module, "read_image", read_image)
    return seen


def test_only_what_has_changed_is_read_again(tmp_path: Path, read_files: list[str]) -> None:
    (tmp_path / "raw").write_bytes(b"x" * 512)
    sparse(tmp_path / "base", header())
    overlay(tmp_path / "over", "base")
    overlay(tmp_path / "top", "raw", "raw")
    settle(tmp_path)
    survey = Survey((str(tmp_path),))
    first = survey.read()
    assert taken(read_files) == ["base", "over", "raw", "top"]
    again = survey.read()
    assert taken(read_files) == []
    assert again.images == first.images
    overlay(tmp_path / "over", "other")
    settle(tmp_path)
    changed = survey.read()
    assert taken(read_files) == ["over"]
    assert changed.parent(str(tmp_path / "over")) == str(tmp_path / "other")
    (tmp_path / "top").unlink()
    sparse(tmp_path / "new", header())
    settle(tmp_path)
    changed = survey.read()
    assert taken(read_files) == ["new"]
    assert names(changed) == ["base", "new", "over", "other"]
    survey.read()
    assert taken(read_files) == []


def taken(names: list[str]) -> list[str]:
    result = sorted(names)
    names.clear()
    return result


@pytest.mark.parametrize("way", ["content", "replaced", "mode", "longer", "old time"])
def test_every_kind_of_change_is_seen(tmp_path: Path, way: str) -> None:
    image = overlay(tmp_path / "image", "aaaa")
    os.utime(image, ns=(OLD, OLD))
    settle(tmp_path)
    survey = Survey((str(tmp_path),))
    before = survey.read()[str(image)]
    if way == "content":
        overlay(image, "bbbb")
    elif way == "replaced":
        overlay(tmp_path / "new", "bbbb")
        shutil.move(tmp_path / "new", image)
    elif way == "mode":
        image.chmod(0o444)
    elif way == "longer":
        os.truncate(image, MIB)
    elif way == "old time":  # as a program does that puts the times back
        with open(image, "r+b") as file:
            file.seek(8)
            file.write(struct.pack(">QI", 128, 3))
        os.utime(image, ns=(OLD, OLD))
    after = survey.read()[str(image)]
    assert after == scan(tmp_path)[str(image)]
    assert after != before


def test_two_changes_in_one_tick_of_the_clock(tmp_path: Path) -> None:
    image = tmp_path / "image"
    survey = Survey((str(tmp_path),))
    for number in range(200):
        overlay(image, f"{number:04}")
        assert survey.read().parent(str(image)) == str(tmp_path / f"{number:04}")


def test_named_images_can_change_between_two_readings(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"x" * 512)
    survey = Survey((str(tmp_path),))
    assert len(survey.read()) == 0
    survey.images[str(raw)] = "raw"
    assert survey.read()[str(raw)].format == "raw"


def test_many_threads_may_read_with_one_survey(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for number in range(50):
        overlay(tmp_path / f"{number}", f"{number - 1}")
    survey = Survey((str(tmp_path),))
    with ThreadPoolExecutor(4) as pool:
        forests = list(pool.map(lambda _: survey.read().images, range(20)))
    assert all(images == forests[0] for images in forests)


def test_a_missing_qemu_img_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk.vdi").write_bytes(bytes(0x40) + struct.pack("<I", 0xBEDA107F) + bytes(500))
    monkeypatch.setenv("PATH", str(tmp_path))
    image = scan(tmp_path)[str(tmp_path / "disk.vdi")]
    assert (image.format, image.status) == ("vdi", "unknown")
    assert "apt install qemu-utils" in image.problem


@pytest.mark.parametrize("way", ["folder link", "file link", "hard link", "link to a link"])
def test_an_image_is_the_same_by_a_name_outside_of_the_folders(tmp_path: Path, way: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    base = sparse(inside / "base", header())
    name = outside / "l" / "base"
    if way == "folder link":
        (outside / "l").symlink_to(inside)
    elif way == "link to a link":
        (outside / "m").symlink_to(inside)
        (outside / "l").symlink_to(outside / "m")
    else:
        (outside / "l").mkdir()
        name.symlink_to(base) if way == "file link" else os.link(base, name)
    sibling, top = overlay(inside / "sibling", str(name)), overlay(inside / "top", str(base))
    forest = Survey([str(inside)]).read()
    assert forest[str(name)].status == "ok"
    assert set(forest.children(str(base))) == {str(sibling), str(top)}
    assert set(forest.same_file(str(base))) == {str(base), str(name)}


def test_a_file_outside_of_the_folders_is_resolved_and_not_opened(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    base = sparse(outside / "base", header())
    (outside / "other").symlink_to(base)
    for name in ("base", "other", "none"):
        overlay(inside / f"on {name}", str(outside / name))
    opened: list[str] = []

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(outside) in str(arguments[0]):
            opened.append(str(arguments[0]))

    sys.addaudithook(hear)
    forest = Survey([str(inside)]).read()
    assert opened == []
    assert {forest[str(outside / name)].status for name in ("base", "other", "none")} == {"outside"}
    # Both names are one file, so what is based on the one is based on the other.
    assert set(forest.children(str(base))) == {str(inside / "on base"), str(inside / "on other")}
    assert forest.children(str(outside / "none")) == (str(inside / "on none"),)


@pytest.mark.parametrize("place", ["/proc/1/root/x.qcow2", "/proc/1/cwd", "../../proc/1/root/x", "l/x"])
def test_a_reference_through_a_link_that_may_not_be_read_stops_no_reading(nobodys_folder: Path, place: str) -> None:
    """Another user's image can name a link of a process in /proc: then the others are read all the same."""
    folder, below = nobodys_folder, os.path.join(nobodys_folder, place)
    (folder / "l").symlink_to("/proc/1/root")
    overlay(folder / "planted", below)
    sparse(folder / "own", header())

    def statuses() -> dict[str, str]:
        surveys = [Survey((str(folder),), follow=follow) for follow in (False, True)]
        forests = [survey.read() for survey in (*surveys, Survey((str(folder),), images={below: None}))]
        return {path: image.status for forest in forests for path, image in forest.images.items()}

    found = as_nobody(statuses)
    assert found.pop(str(folder / "own")) == "ok"
    assert set(found.values()) <= {"ok", "unreadable", "not-a-file", "outside", "missing"}


# -- what is in a folder --------------------------------------------------------------------------------------------


def test_folders_of_the_kernel_are_not_entered_and_long_ones_not_to_their_end(tmp_path: Path) -> None:
    assert [listing_of(folder, most=3) for folder in ("/proc", "/sys", "/dev")] == [[], [], []]
    for name in "edcba":
        (tmp_path / name).touch()
    found = listing_of(str(tmp_path), most=2)
    assert isinstance(found, list)
    assert len(found) == 3, "one more tells that there are more"
    every = listing_of(str(tmp_path), most=5)
    assert isinstance(every, list)
    assert [entry.name for entry in every] == list("abcde")
    assert isinstance(listing_of(str(tmp_path / "none"), most=5), FileNotFoundError)


def test_files_of_ours_that_are_not_complete_are_told_by_their_names(tmp_path: Path) -> None:
    with temporary(str(tmp_path)) as own:
        name = os.path.basename(own.path)
        (tmp_path / "theirs.partial").touch()
        (tmp_path / "target").mkdir()
        with os.scandir(tmp_path) as entries:
            assert {entry.name for entry in entries if is_incomplete(entry)} == {name}
    (tmp_path / name).mkdir()
    with os.scandir(tmp_path) as entries:
        assert not any(map(is_incomplete, entries)), "a folder may hold images"
    (tmp_path / name).rmdir()
    (tmp_path / name).symlink_to(tmp_path / "target")
    with os.scandir(tmp_path) as entries:
        assert [entry.name for entry in entries if is_incomplete(entry)] == [name], "links are not followed"


def test_a_link_has_a_stamp_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"x" * 77)
    with os.scandir(tmp_path) as entries:
        stamps = {entry.name: stamp_of(entry) for entry in entries}
    assert stamps == {name: stamp((tmp_path / name).lstat()) for name in ("link", "file")}
    assert stamps["link"] != stamps["file"]


def test_an_encrypted_image_that_an_overlay_takes_for_raw_is_encrypted_all_the_same(tmp_path: Path) -> None:
    luks("luks", tmp_path / "base.img", MIB)
    create(tmp_path / "top.qcow2", tmp_path / "base.img", size=MIB, backing_format="raw")
    image = Survey((str(tmp_path),)).read()[str(tmp_path / "base.img")]
    assert (image.format, image.encryption) == ("raw", "luks")
