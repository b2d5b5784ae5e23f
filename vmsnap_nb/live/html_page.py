"""Reports as a page of HTML: of some folders, and how a page is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from vmsnap_nb.errors import InvalidRequestError, VmsnapError
from vmsnap_nb.live.leftovers import found_leftovers
from vmsnap_nb.live.plan import Place
from vmsnap_nb.live.space import read_space
from vmsnap_nb.model.shown import Shown, Tabled
from vmsnap_nb.plans.findings import find_all, findings_needs
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.paths import absolute
from vmsnap_nb.views.whole_page import MARK, Chapter, Part, page_html
from vmsnap_nb.words.message import t

__all__ = ["folder_chapter", "part_of", "write_page"]

_PROGRAM = "vmsnap_nb"


def write_page(
    path: str | os.PathLike[str], title: str, chapters: Iterable[Chapter], *, overwrite: bool = False
) -> str:
    """Write a report, whole or not at all; another file than an older report is replaced only if `overwrite` says so.

    Return its path.
    """
    target = os.path.realpath(absolute(path))
    tried = t("write the report {path}", path=target)
    mode = _mode_of(target)
    if mode is not None and not overwrite and not _is_report(target):
        raise InvalidRequestError(
            tried,
            why=t("this file exists, and is not a report"),
            next_step=t("choose another name; or pass overwrite=True, on the command line --overwrite"),
        )
    text = page_html(title, chapters, made=datetime.now(UTC), by=_PROGRAM)
    with os_errors(tried):
        write_whole(Path(target), text.encode(errors="backslashreplace"), 0o600 if mode is None else mode)
    return target


def _mode_of(path: str) -> int | None:
    try:
        return os.stat(path).st_mode & 0o777
    except FileNotFoundError:
        return None


def _is_report(path: str) -> bool:
    """Return whether a file is a report that was written before."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


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
    findings = find_all(place.look(now, findings_needs(forest)))
    return Chapter(
        heading=t("Folders"),
        parts=(
            Part(heading=t("Findings"), thing=findings),
            Part(heading=t("Images"), thing=forest),
            part_of(t("Space"), lambda: read_space(forest)),
            part_of(t("Leftovers"), lambda: found_leftovers(place, now)),
        ),
    )
