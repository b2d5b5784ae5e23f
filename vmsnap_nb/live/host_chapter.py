"""What a report says of a host: its guests, what is wrong, its images, snapshots, space and leftovers."""

from __future__ import annotations

import os
from collections.abc import Iterable

from vmsnap_nb.live.cards import guests_table, versions
from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.findings import host_findings
from vmsnap_nb.live.html_page import part_of
from vmsnap_nb.live.leftovers import found_leftovers
from vmsnap_nb.live.snapshot_lists import snapshot_lists
from vmsnap_nb.live.space import read_space
from vmsnap_nb.views.whole_page import Chapter, Part
from vmsnap_nb.words.message import joined, t

__all__ = ["host_chapter"]


def host_chapter(link: Connection, heading: str, folders: Iterable[str | os.PathLike[str]] = ()) -> Chapter:
    """Return what is said of a host, and of some folders of it."""
    folders = tuple(folders)
    place = link.place(*folders)
    now = place.survey()
    return Chapter(
        heading=heading,
        facts=(
            *(((t("host"), link.uri),) if heading != link.uri else ()),
            *versions(link.handle),
            (t("folders"), joined(now.forest.folders)),
        ),
        parts=(
            part_of(t("Findings"), lambda: host_findings(link, folders)),
            Part(heading=t("Guests"), table=guests_table(domain for domain, _ in link.roll().guests)),
            Part(heading=t("Images"), thing=now.forest),
            part_of(t("Snapshots"), lambda: snapshot_lists(link)),
            part_of(t("Space"), lambda: read_space(now.forest)),
            part_of(t("Leftovers"), lambda: found_leftovers(place, now)),
        ),
    )
