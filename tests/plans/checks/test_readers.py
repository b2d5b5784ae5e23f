"""Checks of who may read what is copied, on made-up permissions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image

from vmsnap_nb.model.permit import Permit
from vmsnap_nb.plans.checks.readers import moved_into, names_elsewhere, new_readers, other_bases
from vmsnap_nb.plans.concern import Concern

BASE, TOP = "/i/base", "/i/my top"
MINE = Permit(owner=1000, user="ann", place=BASE)
CLOSED = Permit(owner=0, user="root", is_system=True, closed_to=frozenset({1000}), place=TOP)


def readers(to: Permit | None, *sources: Permit, up: bool = False) -> list[Concern]:
    permits = {f"/i/source {number}": one for number, one in enumerate(sources)} | ({} if to is None else {TOP: to})
    return list(new_readers(permits, [*permits, *permits, "/i/never looked at"], TOP, up=up))


@pytest.mark.parametrize(("up", "level"), [(True, "refuse"), (False, "warn")])
def test_an_owner_who_may_not_read_the_source_is_told_how_it_is_closed(up: bool, level: str) -> None:
    (found,) = readers(MINE, CLOSED, replace(CLOSED, closed_to=frozenset({7})), up=up)
    assert (found.name, found.level, found.waivable) == ("other-readers", level, True)
    assert found.images == (TOP, "/i/source 0")
    assert "ann" in found.what
    assert "chown '--reference=/i/source 0' -- '/i/my top' && chmod go-r -- '/i/my top'" in found.remedy


def test_the_system_and_what_nobody_looked_at_are_no_new_readers() -> None:
    assert readers(replace(MINE, is_system=True), CLOSED) == []
    assert readers(None, CLOSED) == []
    assert readers(MINE, replace(CLOSED, closed_to=frozenset())) == []
    assert list(new_readers({TOP: replace(MINE, closed_to=frozenset({1000}))}, [TOP], TOP, up=True)) == []


def test_everyone_or_a_group_that_could_not_read_the_source_is_named() -> None:
    open_file, of_group = replace(MINE, everyone=True, group="staff"), replace(MINE, group="staff")
    (everyone,) = readers(open_file, MINE, open_file)
    assert (everyone.name, everyone.level, everyone.images) == ("other-readers", "warn", (TOP, "/i/source 0"))
    assert "chmod o-r -- '/i/my top'" in everyone.remedy
    (members,) = readers(of_group, MINE, of_group, open_file, replace(of_group, group="others"))
    assert (members.level, members.images) == ("warn", (TOP, "/i/source 0", "/i/source 3"))
    assert "staff" in members.what
    assert "chmod g-r -- '/i/my top'" in members.remedy
    assert readers(open_file, open_file) == readers(of_group, of_group) == readers(MINE, of_group, open_file) == []


def test_a_name_that_was_not_read_may_be_anything() -> None:
    tree = forest(image("base", identity=(1, 1)), image("link", identity=(1, 1)))
    hidden = {BASE: replace(MINE, links=3), "/i/link": replace(MINE, links=3, place="/i/link")}
    (found,) = names_elsewhere(tree, hidden, [BASE, BASE])
    assert (found.name, found.level, found.images, found.waivable) == ("shared-base", "refuse", (BASE,), True)
    assert f"find / -xdev -samefile {BASE}" in found.remedy
    seen = {path: replace(one, links=2) for path, one in hidden.items()}
    assert list(names_elsewhere(tree, seen, [BASE])) == []
    (one_place,) = names_elsewhere(tree, {path: replace(one, place=BASE) for path, one in seen.items()}, [BASE])
    assert one_place.images == (BASE,), "a symbolic link is no name of its own"
    assert list(names_elsewhere(tree, {"/i/link": hidden["/i/link"]}, [BASE])) == []


def test_one_file_that_reads_another_base_under_its_other_name() -> None:
    images = (image("base"), image("/j/base"), image("top", "base", identity=(1, 1)))
    other = image("/j/top", "/j/base", identity=(1, 1))
    (found,) = other_bases(forest(*images, other), ["/i/top", "/i/top", "/i/unknown", BASE])
    assert (found.name, found.level, found.waivable) == ("shared-base", "refuse", True)
    assert found.images == ("/i/top", "/j/top")
    assert "qemu-img convert -O qcow2 /j/top NEW.qcow2" in found.remedy
    assert list(other_bases(forest(*images, replace(other, backing=images[2].backing)), ["/i/top"])) == []
    missing = replace(images[1], status="missing")
    assert list(other_bases(forest(images[0], missing, images[2], other), ["/i/top"])) == []
    same = (replace(images[0], identity=(1, 7)), replace(images[1], identity=(1, 7)))
    assert list(other_bases(forest(*same, images[2], other), ["/i/top"])) == []


def test_a_folder_that_everyone_may_enter_opens_files_that_only_their_folder_closed() -> None:
    hidden, closed = replace(MINE, by_folder=True), MINE
    permits = {"/open": Permit(owner=0, everyone=True), "/own": Permit(owner=0), BASE: hidden, TOP: closed}
    (found,) = moved_into(permits, [BASE, TOP, "/i/unknown"], "/open")
    assert (found.name, found.level, found.images) == ("other-readers", "warn", (BASE,))
    assert f"chmod o-r -- {BASE}" in found.remedy
    assert list(moved_into(permits, [BASE], "/own")) == list(moved_into(permits, [BASE], "/unknown")) == []
    assert list(moved_into(permits, [TOP], "/open")) == []
