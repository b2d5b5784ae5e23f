"""Reports as a page of HTML: of some folders, and how a page is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from vmsnap_nb.errors import InvalidRequestError, VmsnapError
from vmsnap_nb.live.leftovers import found_leftovers
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.space import read_space
from vmsnap_nb.model.shown import Shown, Tabled
from vmsnap_nb.plans.findings import find_all, findings_needs
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.paths import absolute, check_link
from vmsnap_nb.views.whole_page import MARK, Chapter, Part, page_html
from vmsnap_nb.words.message import t
from vmsnap_nb.words.options import option

__all__ = ["folder_chapter", "part_of", "write_page"]

_PROGRAM = "vmsnap_nb"


def write_page(
    path: str | os.PathLike[str], title: str, chapters: Iterable[Chapter], *, overwrite: bool = False
) -> str:
    """Write a report, whole or not at all; another file than an older report is replaced only if `overwrite` says so.

    Return its path.
    """
    target = absolute(path)
    tried = t("write the report {path}", path=target)
    check_link(target, tried)
    if os.path.islink(target):
        target = os.path.realpath(target)
    if os.path.isdir(target):
        raise InvalidRequestError(
            tried,
            why=t("this is a folder"),
            next_step=t("name a file in it, such as {path}", path=os.path.join(target, "report.html")),
        )
    mode = _mode_of(target)
    if os.path.lexists(target) and not overwrite and not _is_report(target):
        raise InvalidRequestError(
            tried,
            why=t("the file already exists and is not a report"),
            next_step=t("choose another name, or pass {option}", option=option("overwrite")),
        )
    text = page_html(title, chapters, made=datetime.now(UTC), by=_PROGRAM)
    with os_errors(tried):
        write_whole(Path(target), text.encode(errors="backslashreplace"), 0o600 if mode is None else mode)
    return target


def _mode_of(path: str) -> int | None:
    """Return the permission bits of a file of this user; None where there is none, and none is to be kept."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.S_IMODE(found.st_mode) & 0o777 if found.st_uid == os.geteuid() else None


def _is_report(path: str) -> bool:
    """Return whether a file is a report that was written before."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and os.read(fd, len(MARK)) == MARK.encode()
    finally:
        os.close(fd)


def part_of(heading: str, read: Callable[[], Shown | Tabled]) -> Part:
    """Return the part of a report that is read; where that fails, it says so."""
    try:
        return Part(heading=heading, thing=read())
    except VmsnapError as error:
        return Part(heading=heading, problem=str(error))


def folder_chapter(place: Place) -> Chapter:
    """Return what is said of some folders, from one reading."""
    now = place.survey()
    forest = now.forest
    findings = find_all(place.look(now, findings_needs(forest)), uri=place.uri, machine=place.far_machine())
    return Chapter(
        heading=t("Folders"),
        parts=(
            Part(heading=t("Findings"), thing=findings),
            Part(heading=t("Images"), thing=forest),
            part_of(t("Space"), lambda: read_space(forest)),
            part_of(t("Leftovers"), lambda: found_leftovers(place, now)),
        ),
    )
