"""What is said of two states of a tree of files."""

from __future__ import annotations

from vmsnap_nb.model.file_compare import compare
from vmsnap_nb.model.files import FileEntry


def entry(path: str, inode: int, **fields: object) -> FileEntry:
    return FileEntry(path, inode=inode, **({"mtime_ns": 1, "ctime_ns": 1, "mode": 0o644} | fields))  # type: ignore[arg-type]


def said(
    before: list[FileEntry], after: list[FileEntry], *, differ: bool = False, unread: str = ""
) -> list[tuple[str, str]]:
    found = compare(
        {one.path: one for one in before},
        {one.path: one for one in after},
        content_differs=lambda one, other: differ,
        is_same_file=lambda one, other: True,
        unread=[unread] if unread else [],
    )
    return [(one.path, one.change) for one in found]


def test_nothing_changed() -> None:
    both = [entry("/a", 1), entry("/b", 2, kind="folder")]
    assert said(both, both) == []
    assert said([], []) == []


def test_each_kind_of_change() -> None:
    before = [entry("/a", 1), entry("/b", 2), entry("/c", 3), entry("/d", 4), entry("/e", 5)]
    after = [
        entry("/b", 2, size=9),
        entry("/c", 3, mode=0o600),
        entry("/d", 4, ctime_ns=2),
        entry("/f", 6),
        entry("/g", 5),
    ]
    assert said(before, after) == [
        ("/a", "removed"),
        ("/b", "changed"),
        ("/c", "metadata"),
        ("/d", "metadata"),
        ("/f", "added"),
        ("/g", "renamed"),
    ]


def test_content_alone() -> None:
    same = [entry("/a", 1)]
    assert said(same, same, differ=True) == [("/a", "changed")]


def test_a_link_that_leads_elsewhere_and_a_file_that_became_a_folder() -> None:
    before = [entry("/a", 1, kind="link", target="x"), entry("/b", 2)]
    after = [entry("/a", 1, kind="link", target="y"), entry("/b", 2, kind="folder")]
    assert said(before, after) == [("/a", "changed"), ("/b", "changed")]


def test_times_of_a_folder_change_with_its_files_and_are_no_row() -> None:
    before = [entry("/a", 1, kind="folder")]
    assert said(before, [entry("/a", 1, kind="folder", mtime_ns=5, ctime_ns=5)]) == []
    assert said(before, [entry("/a", 1, kind="folder", mode=0o700)]) == [("/a", "metadata")]


def test_what_moved_along_with_its_folder_is_no_row_unless_it_changed() -> None:
    before = [entry("/a", 1, kind="folder"), entry("/a/x", 2), entry("/a/y", 3), entry("/a/in", 4, kind="folder")]
    after = [
        entry("/b", 1, kind="folder"),
        entry("/b/x", 2),
        entry("/b/y", 3, size=7),
        entry("/b/in", 4, kind="folder"),
    ]
    assert said(before, after) == [("/b", "renamed"), ("/b/y", "changed")]


def test_a_second_name_is_added_and_not_renamed() -> None:
    assert said([entry("/a", 1)], [entry("/a", 1), entry("/b", 1)]) == [("/b", "added")]


def test_of_a_folder_that_was_not_read_nothing_is_said() -> None:
    before = [entry("/a", 1, kind="folder"), entry("/a/x", 2), entry("/ab", 3)]
    assert said(before, [entry("/a", 1, kind="folder")], unread="/a") == [("/ab", "removed")]
