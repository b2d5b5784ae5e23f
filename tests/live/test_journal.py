"""The journal on the disk: an entry is there as a whole or not at all, and only in its own place."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fuse import provided
from support.images import create, filled
from support.nobody import as_nobody

import vmsnap_nb as vs
from vmsnap_nb.errors import NoSpaceError, NotFoundError, PermissionDeniedError, VmsnapError
from vmsnap_nb.live import journal
from vmsnap_nb.live.journal import (
    drop_entry,
    drop_unless_begun,
    is_begun,
    is_untouched,
    read_all,
    read_entries,
    read_entry,
    revert_entries,
    write_entry,
)
from vmsnap_nb.live.journal_notices import begun
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, Use
from vmsnap_nb.plans.checks.notes import strangers
from vmsnap_nb.plans.journal import (
    InsideEntry,
    MergeEntry,
    PullEntry,
    RecordEntry,
    RevertEntry,
    SnapshotEntry,
    Stranger,
    Switch,
    UnknownEntry,
    UnreadEntry,
    text_of,
)
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.system.files.temporary import leftovers


def merge(folder: Path, base: str = "base") -> MergeEntry:
    return MergeEntry(base=str(folder / base), top=str(folder / "top"), merged=(str(folder / "top"),))


def merged(folder: Path) -> MergeEntry:
    """An entry about files that are there."""
    entry = merge(folder)
    for path in (entry.base, entry.top):
        Path(path).write_text("")
    return entry


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_until_it_is_dropped(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    write_entry(entry)
    assert names(tmp_path) == [os.path.basename(entry.path)]
    assert Path(entry.path).read_text() == text_of(entry)
    assert read_entry(entry.path, MergeEntry) == entry
    copied = replace(entry, phase="copied")
    write_entry(copied)
    assert read_entries([str(tmp_path)], MergeEntry) == (copied,)
    drop_entry(entry)
    assert names(tmp_path) == []
    drop_entry(entry)
    assert read_entry(entry.path, MergeEntry) is None


@pytest.mark.parametrize("by", ["rename", "link"])
@pytest.mark.parametrize("is_own", [True, False])
def test_an_entry_that_has_ended_stays_ended_whoever_kept_it(tmp_path: Path, by: str, *, is_own: bool) -> None:
    """Who may rename files in the folder can keep one, and put it back as soon as the plan has ended."""
    entry, kept = merge(tmp_path), tmp_path / "kept"
    write_entry(entry)
    if not is_own:  # another process has written it
        os.close(journal._WRITTEN.pop(entry.path))
    getattr(os, by)(entry.path, kept)
    drop_entry(entry)
    assert not os.path.lexists(entry.path)
    os.rename(kept, entry.path)
    if is_own or by == "link":
        assert read_all([str(tmp_path)]) == ()
    write_entry(entry)
    assert read_entry(entry.path, MergeEntry) == entry
    drop_entry(entry)
    assert entry.path not in journal._WRITTEN


def test_an_entry_whose_removal_was_lost_in_a_power_failure_has_ended(tmp_path: Path) -> None:
    """What was written over its beginning can have reached the disk before that its name is gone."""
    entry = merge(tmp_path)
    write_entry(entry)
    os.link(entry.path, tmp_path / "kept")
    drop_entry(entry)
    os.rename(tmp_path / "kept", entry.path)
    left = Path(entry.path)
    left.write_text(left.read_text()[:6] + text_of(entry)[6:])  # a file system may keep its length, too
    left.chmod(left.stat().st_mode | stat.S_ISVTX)
    assert read_all([str(tmp_path)]) == ()
    write_entry(entry)
    assert read_all([str(tmp_path)]) == (entry,)
    drop_entry(entry)


def test_an_earlier_phase_of_an_entry_has_ended_with_the_next(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    write_entry(entry)
    os.link(entry.path, tmp_path / "kept")
    write_entry(replace(entry, phase="copied"))
    os.replace(tmp_path / "kept", entry.path)
    assert read_all([str(tmp_path)]) == ()
    drop_entry(entry)


def test_what_another_has_put_in_the_place_of_an_entry_stays(tmp_path: Path) -> None:
    entry, other = merge(tmp_path), tmp_path / "other"
    write_entry(entry)
    other.write_text("important")
    os.link(other, tmp_path / "second")
    os.replace(tmp_path / "second", entry.path)
    drop_entry(entry)
    assert other.read_text() == "important"


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    entry = merge(tmp_path, "快照\udcff")
    write_entry(entry)
    assert read_entries([str(tmp_path)], MergeEntry) == (entry,)


@pytest.mark.parametrize("fails", ["fsync", "replace"])
@pytest.mark.parametrize("before", [True, False])
def test_a_write_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, before: bool
) -> None:
    entry = merge(tmp_path)
    if before:
        write_entry(entry)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        with pytest.raises(NoSpaceError, match="write the journal entry"):
            write_entry(replace(entry, phase="copied"))
    assert read_entries([str(tmp_path)], MergeEntry) == ((entry,) if before else ())
    assert names(tmp_path) == ([os.path.basename(entry.path)] if before else [])


def test_an_interrupt_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_entry(merge(tmp_path))
    assert names(tmp_path) == []


def test_what_a_killed_process_leaves_of_an_entry_is_cleaned_up(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        try:
            write_entry(merge(tmp_path))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert [path for path, _ in leftovers(str(tmp_path))] == [str(left)]


def test_a_partial_file_that_was_left_is_no_entry_and_in_nobodys_way(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    partial = Path(f"{entry.path}.partial")
    for text in (text_of(entry), text_of(entry)[:20], '{"version": 9}'):
        partial.write_text(text)
        assert read_entries([str(tmp_path)], MergeEntry) == ()
        assert read_entries([str(tmp_path)], UnknownEntry) == ()
    write_entry(entry)
    assert read_entries([str(tmp_path)], MergeEntry) == (entry,)


# -- files that somebody else may have put there ---------------------------------------------------------------


def _fifo(path: Path, _: str) -> None:
    os.mkfifo(path)


def _link(path: Path, text: str) -> None:
    target = path.with_name("elsewhere")
    target.write_text(text)
    path.symlink_to(target)


def _of_another_user(path: Path, text: str) -> None:
    path.write_text(text)
    os.chown(path, 12345, 12345)


def _open_to_others(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o666)


def _folder(path: Path, _: str) -> None:
    path.mkdir()


def _large(path: Path, text: str) -> None:
    path.write_text(text + " " * (5 << 20))


PLANTED = {
    _fifo: "not a regular file",
    _link: "symbolic link",
    _of_another_user: "another user",
    _open_to_others: "other users can write",
    _folder: "not a regular file",
    _large: "too large",
}


@pytest.mark.parametrize("plant", PLANTED)
def test_what_somebody_else_may_have_planted_is_named_and_no_entry(
    tmp_path: Path, plant: Callable[[Path, str], None]
) -> None:
    if plant is _of_another_user and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    entry = merge(tmp_path)
    plant(Path(entry.path), text_of(entry))
    assert read_entry(entry.path, MergeEntry) is None
    assert read_entries([str(tmp_path)], MergeEntry) == ()
    [stranger] = read_all([str(tmp_path)])
    assert isinstance(stranger, Stranger)
    assert stranger.path == entry.path
    assert PLANTED[plant] in stranger.why


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_entry_in_a_file_system_of_another_user_is_a_strangers_whatever_owner_it_tells(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    with provided(Path(entry.path), text_of(entry).encode(), by=12345, uid=0, mode=0o1644):
        assert os.stat(entry.path).st_uid == 0
        assert read_entry(entry.path, MergeEntry) is None
        [stranger] = read_all([str(tmp_path)])
        assert isinstance(stranger, Stranger)
        assert "another user (uid 12345)" in stranger.why


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_file_that_was_renamed_is_no_entry(tmp_path: Path, mode: int) -> None:
    """The disk of a guest is a file of root, and whoever may write to its folder can rename it."""
    entry = merge(tmp_path)
    disk = tmp_path / "disk.raw"
    disk.write_text(text_of(entry) + 4096 * " ")
    disk.rename(entry.path)
    assert read_entry(entry.path, MergeEntry) == entry
    tmp_path.chmod(mode)
    assert read_entry(entry.path, MergeEntry) is None
    [unread] = read_all([str(tmp_path)])
    assert isinstance(unread, UnreadEntry)
    [refused] = strangers(Reading(forest=Forest({}), strangers=(unread,)))
    assert refused.level == "refuse"
    assert refused.remedy is not None
    command = f"chmod +t -- {entry.path}"
    assert command in refused.remedy
    subprocess.run(command.split(), check=True)
    assert read_entry(entry.path, MergeEntry) == entry
    write_entry(entry)
    assert read_entry(entry.path, MergeEntry) == entry


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_owner_of_a_folder_can_rename_files_in_it_too(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    Path(entry.path).write_text(text_of(entry))
    os.chown(tmp_path, 12345, -1)
    assert read_entry(entry.path, MergeEntry) is None
    write_entry(entry)
    assert read_entry(entry.path, MergeEntry) == entry


def test_what_a_folder_holds_that_cannot_be_listed_is_unknown(nobodys_folder: Path, tmp_path: Path) -> None:
    assert read_all([str(tmp_path / "none")]) == ()
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    [unread] = read_all([str(loop)])
    assert unread == UnreadEntry(path=str(loop), why=os.strerror(errno.ELOOP), is_folder=True)
    [refused] = strangers(Reading(forest=Forest({}), strangers=(unread,)))
    assert (refused.level, refused.images) == ("refuse", (str(loop),))
    closed = nobodys_folder / "closed"
    closed.mkdir()
    for mode, level in ((0o733, "refuse"), (0o711, "note")):
        # Who can create no entries there either is told, as one whose images are in a folder of libvirt.
        if os.geteuid() != 0:
            mode &= ~0o700 | (0o300 if mode & 0o022 else 0o100)
        closed.chmod(mode)
        found = as_nobody(lambda: {one.what: one.level for one in _as_concerns(str(closed))})
        assert list(found.values()) == [level]


def _as_concerns(folder: str) -> tuple[Any, ...]:
    unread = read_all([folder])
    assert all(isinstance(one, UnreadEntry) for one in unread)
    return tuple(strangers(Reading(forest=Forest({}), strangers=unread)))  # type: ignore[arg-type]


def test_an_entry_of_root_that_may_not_be_read_is_unknown_and_one_of_another_user_is_a_strangers(
    nobodys_folder: Path,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    for name, owner in (("0", 0), ("1", 12345)):
        path = nobodys_folder / f".vmsnap-merge-{name}.json"
        path.write_text("{}")
        path.chmod(0o600)
        os.chown(path, owner, owner)
    found = as_nobody(
        lambda: {os.path.basename(one.path): type(one).__name__ for one in read_all([str(nobodys_folder)])}
    )
    assert found == {".vmsnap-merge-0.json": "UnreadEntry", ".vmsnap-merge-1.json": "Stranger"}


def test_an_entry_is_not_written_through_a_link(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    other = tmp_path / "other"
    other.write_text("keep me")
    for name in (entry.path, f"{entry.path}.partial"):
        Path(name).symlink_to(other)
    write_entry(entry)
    assert other.read_text() == "keep me"
    assert read_entry(entry.path, MergeEntry) == entry


def test_an_entry_can_be_read_again_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_entry(merge(tmp_path))
    finally:
        os.umask(before)
    assert read_entry(merge(tmp_path).path, MergeEntry) == merge(tmp_path)


def test_a_folder_under_the_name_of_an_entry_has_a_next_step(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    os.mkdir(entry.path)
    for act in (write_entry, drop_entry):
        with pytest.raises(VmsnapError, match=entry.path) as raised:
            act(entry)
        assert raised.value.next_step == "move the folder with that name away, then try again"
    assert os.listdir(tmp_path) == [os.path.basename(entry.path)]


def test_there_is_no_folder_to_write_into(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="write the journal entry"):
        write_entry(merge(tmp_path / "gone"))
    drop_entry(merge(tmp_path / "gone"))


def test_an_entry_is_removed_where_its_folder_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    entry = merge(tmp_path)
    write_entry(entry)
    monkeypatch.setattr(os, "fsync", full)
    drop_entry(entry)
    assert names(tmp_path) == []


def test_an_entry_that_cannot_be_removed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    entry = merge(tmp_path)
    write_entry(entry)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", forbidden)
        with pytest.raises(PermissionDeniedError, match="remove the journal entry"):
            drop_entry(entry)
    assert read_entry(entry.path, MergeEntry) == entry


def test_a_folder_or_file_that_cannot_be_read_has_no_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, file, folder = tmp_path / "there", tmp_path / "file", tmp_path / "folder"
    for path in (there, folder):
        path.mkdir()
    file.write_text("")
    entry = merge(there)
    write_entry(entry)
    Path(merge(there, "other").path).mkdir()  # a folder under the name of an entry
    write_entry(merge(folder))
    listed = os.listdir

    def forbidden(path: str) -> list[str]:
        if path == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(path)

    monkeypatch.setattr(journal.os, "listdir", forbidden)
    folders = [str(path) for path in (tmp_path / "gone", file, folder, there, there)]
    assert read_entries(folders, MergeEntry) == (entry,)


def test_each_kind_is_read_by_its_class(tmp_path: Path) -> None:
    folder = str(tmp_path)
    pull = PullEntry(image=str(tmp_path / "top"), written="base")
    revert = RevertEntry(folder=folder, guest="demo", uuid="0c0c", name="a", to="off")
    for entry in (merge(tmp_path), pull, revert):
        write_entry(entry)
    unknown = tmp_path / ".vmsnap-merge-0.json"
    unknown.write_text('{"version": 7}')
    assert read_entries([folder], MergeEntry) == (merge(tmp_path),)
    assert read_entries([folder], PullEntry) == (pull,)
    assert read_entries([folder], RevertEntry) == (revert,)
    assert read_entries([folder], UnknownEntry) == (UnknownEntry(path=str(unknown), version=7),)
    assert read_entry(pull.path, MergeEntry) is None


def test_an_entry_in_another_place_is_not_acted_on_and_not_ignored(tmp_path: Path) -> None:
    entry = merge(tmp_path / "elsewhere")
    moved, renamed = tmp_path / os.path.basename(entry.path), tmp_path / ".vmsnap-merge-0000000000000000.json"
    moved.write_text(text_of(entry))
    renamed.write_text(text_of(merge(tmp_path)))
    assert read_entries([str(tmp_path)], MergeEntry) == ()
    folder = str(tmp_path / "elsewhere")
    damaged, elsewhere = sorted(read_all([str(tmp_path)]), key=lambda found: found.path != str(renamed))
    assert elsewhere == UnknownEntry(path=str(moved), version=3, folder=folder, is_elsewhere=True)
    assert isinstance(damaged, UnreadEntry)
    assert damaged.is_damaged


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "\0" * len(text),
        lambda text: text + text,
        lambda text: text[len(text) // 2 :] + text[: len(text) // 2],
    ],
    ids=["empty", "half of it", "zeros", "twice", "halves exchanged"],
)
def test_an_own_entry_that_a_loss_of_power_has_damaged_is_not_ignored(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    entry = merge(tmp_path)
    Path(entry.path).write_text(damage(text_of(entry)))
    [found] = read_all([str(tmp_path)])
    assert isinstance(found, UnreadEntry)
    [concern] = strangers(Reading(forest=Forest({}), strangers=(found,)))
    assert (concern.name, concern.level, concern.waivable) == ("active-job", "refuse", True)
    assert f"cannot read the journal entry {entry.path}" in concern.what
    assert "make the file readable" not in concern.remedy


def test_an_entry_that_was_begun_under_another_name_of_its_folder_is_not_ignored(tmp_path: Path) -> None:
    folder, link = tmp_path / "real", tmp_path / "link"
    folder.mkdir()
    link.symlink_to("real")
    filled(folder / "base")
    top = create(folder / "top", "base")
    entry = journal.begun(MergeEntry(base=str(folder / "base"), top=str(top), merged=(str(top),)))
    write_entry(entry)
    name = os.path.basename(entry.path)
    assert read_all([str(link)]) == (UnknownEntry(path=str(link / name), version=3, folder=str(folder)),)
    assert read_all([str(link), str(folder)]) == (entry,)
    for plan in (vs.scan(link).overlay("new.qcow2", backing="top"), vs.scan(link).pull("top")):
        [refused] = [one for one in plan.concerns if one.name == "active-job" and one.level == "refuse"]
        assert f"vmsnap_nb.scan('{folder}').unfinished()" in refused.remedy
    [finish] = vs.scan(folder).unfinished()
    assert finish.run(progress=False).as_predicted
    assert not vs.scan(link).overlay("new.qcow2", backing="base").refused


def test_what_was_begun_is_said_of_the_guest_whose_image_it_is_by_any_name(tmp_path: Path) -> None:
    path = {name: str(tmp_path / name) for name in ("base", "other", "top", "lone")}
    filled(Path(path["base"]))
    os.link(path["base"], path["other"])
    create(Path(path["top"]), "other")
    filled(Path(path["lone"]))
    uses = (Use("demo", "vda", path["top"]), Use("lone", "vda", path["lone"]))
    switch = Switch(target="vda", source=path["base"], file=path["top"])
    for entry in (
        merge(tmp_path),
        PullEntry(image=path["base"], written="below"),
        InsideEntry(image=path["base"], name="s", change="create", table=0),
        SnapshotEntry(guest="demo", uuid="0c0c", name="s", disks=(switch,)),
    ):
        write_entry(entry)
    read = replace(vs.scan(tmp_path), uses=uses)
    base = path["base"]
    merge_said = f"the merge of {path['top']} into {base} was cancelled or interrupted; {base} may already contain some"
    said = [
        f"a change to an internal snapshot of {base} is running, or was interrupted",
        f"{merge_said} of the data",
        f"a pull into {base} is running, or was interrupted",
    ]
    assert [str(one.what) for one in begun(read)] == said
    assert [str(one.what) for one in begun(read, "demo")] == [
        *said,
        "snapshot s of demo is being taken, or was interrupted",
    ]
    assert list(begun(read, "lone")) == []
    later = tmp_path / ".vmsnap-merge-0.json"
    later.write_text('{"version": 7}')
    assert [str(one.what) for one in begun(read, "lone")] == [
        f"{later} records an operation that is running, or was interrupted"
    ]


def test_the_reverts_of_a_guest_are_found_beside_its_images(tmp_path: Path) -> None:
    domain = Domain("demo", "0c0c", disks=(Disk("vda", str(tmp_path / "top")),))
    assert list(revert_entries(domain, ())) == []
    entry = RevertEntry(folder=str(tmp_path), guest="demo", uuid="0c0c", name="a", to="off")
    write_entry(entry)
    write_entry(replace(entry, uuid="0d0d"))
    assert list(revert_entries(domain, ())) == [entry]


def test_times_tell_what_was_written_since(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    base, top = Path(entry.base), Path(entry.top)
    assert is_begun(entry)
    assert not is_untouched(entry)
    for path in (base, top):
        path.write_text("")
    write_entry(entry)
    written = os.stat(entry.path).st_mtime_ns
    for since, started, untouched in ((-1, False, True), (0, True, True), (1, True, False)):
        for path in (base, top):
            os.utime(path, ns=(0, written + since))
        assert is_begun(entry) is started
        assert is_untouched(entry) is untouched
    assert drop_unless_begun(entry, known=False)
    os.utime(base, ns=(0, written - 1))
    assert drop_unless_begun(entry, known=True)
    assert read_entry(entry.path, MergeEntry) == entry
    assert not drop_unless_begun(entry, known=False)
    assert read_entry(entry.path, MergeEntry) is None


def test_what_was_written_since_is_known_although_the_clock_was_set_back(tmp_path: Path) -> None:
    entry = merge(tmp_path)
    base, top = Path(entry.base), Path(entry.top)
    for path in (base, top):
        path.write_text("")
        os.utime(path, ns=(0, 5 << 30))
    entry = journal.begun(entry)
    write_entry(entry)
    assert not is_begun(entry)
    assert is_untouched(entry)
    for path in (base, top):
        os.utime(path, ns=(0, 4 << 30))
    assert is_begun(entry)
    assert not is_untouched(entry)
    assert drop_unless_begun(replace(entry, files=()), known=False), "the file tells, not who asks"


def test_device_numbers_hold_only_until_the_machine_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = journal.begun(merged(tmp_path))
    elsewhere = tuple(replace(fact, device=fact.device + 1) for fact in entry.files)
    write_entry(replace(entry, files=elsewhere))
    found = read_entry(entry.path, MergeEntry)
    assert found is not None
    assert found.files == elsewhere
    monkeypatch.setattr(journal, "_booted", lambda: time.time() + 2)
    assert read_entry(entry.path, MergeEntry) == entry
    copied = tmp_path / "copy"
    copied.write_text("another file of that name, as after a restore")
    copied.replace(entry.top)
    now = read_entry(entry.path, MergeEntry)
    assert now is not None
    assert [fact.device for fact in now.files] == [entry.files[0].device, elsewhere[1].device]
    assert entry.began is not None
    write_entry(replace(entry, files=elsewhere, began=replace(entry.began, at="once")))
    assert read_entries([str(tmp_path)], MergeEntry)[0].files == elsewhere


@pytest.mark.parametrize("kind", ["revert", "snapshot", "record"])
def test_an_entry_of_a_guest_that_is_not_known_is_named_and_can_be_forgotten(tmp_path: Path, kind: str) -> None:
    """As of one that was undefined: no other plan and no list says why its images are kept."""
    top, over = str(create(tmp_path / "top.qcow2")), str(tmp_path / "over.qcow2")
    entry = {
        "revert": RevertEntry(folder=str(tmp_path), guest="gone", uuid="u", name="s", to="off"),
        "snapshot": SnapshotEntry(
            guest="gone", uuid="u", name="s", disks=(Switch(target="vda", source=top, file=over),)
        ),
        "record": RecordEntry(folder=str(tmp_path), guest="gone", uuid="u", name="s", xml="<domainsnapshot/>"),
    }[kind]
    write_entry(entry)
    folder = vs.scan(tmp_path)
    assert [(one.where, "(UUID u)" in one.what) for one in folder.findings() if one.name == "active-job"] == [
        (entry.path, True)
    ]
    [plan] = folder.unfinished()
    [concern] = plan.concerns
    assert (concern.level, concern.waivable) == ("refuse", True)
    assert "host.guest('gone').unfinished()" in concern.remedy
    assert plan.run(waive=["active-job"], progress=False).as_predicted
    assert folder.refresh().unfinished() == ()
    assert os.listdir(tmp_path) == ["top.qcow2"]
