"""The card of a lab: its guests and what they do, what it takes on disk, and by what it runs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmsnap_nb.live.cards import fact, guests_table, versions
from vmsnap_nb.model.size import human_size
from vmsnap_nb.system.files.taken import bytes_on_disk
from vmsnap_nb.views.cards import Card
from vmsnap_nb.words.message import counted, t

if TYPE_CHECKING:
    from vmsnap_nb.lab.acceleration import Acceleration
    from vmsnap_nb.lab.lab import Lab

__all__ = ["lab_card", "space_used"]

_COUNTING = 0.5
"""Seconds after which the files of a lab are not counted further."""


def lab_card(lab: Lab, acceleration: Acceleration | None) -> Iterator[Card]:
    """Read the card of a lab, what may take longer at the end; no guest is booted to find out its acceleration."""
    if lab.closed:
        closed = ((t("state"), t("closed")), (t("space used"), fact(lambda: _space(lab.root))))
        yield Card(t("Lab {folder}", folder=lab.root), closed)
        return
    domains = lab.domains()
    running = sum(any(use.running for use in domain.uses) for domain in domains)
    facts = (
        (t("driver"), lab.driver),
        (
            t("guests"),
            counted(
                "{count} guest, {running} running", "{count} guests, {running} running", len(domains), running=running
            ),
        ),
        (
            t("acceleration"),
            t("not known yet (lab.acceleration tests it)") if acceleration is None else _how(acceleration),
        ),
        (t("when closed"), t("guests keep running") if lab.keep else t("guests that it started are shut down")),
    )
    card = Card(t("Lab {folder}", folder=lab.root), facts, ((t("Guests"), guests_table(domains)),))
    yield card
    card = replace(card, facts=(*facts, (t("space used"), fact(lambda: _space(lab.root)))))
    yield card
    for version in versions(lab.connection):
        card = replace(card, facts=(*card.facts, version))
        yield card


def _how(acceleration: Acceleration) -> str:
    return t("{kind}: {reason}", kind=acceleration.kind, reason=acceleration.reason)


def _space(root: Path) -> str:
    used, all_of_it = space_used(root, time.monotonic() + _COUNTING)
    size, free = human_size(used), human_size(shutil.disk_usage(root).free)
    if all_of_it:
        return t("{size}; {free} free", size=size, free=free)
    return t("more than {size}; {free} free", size=size, free=free)


def space_used(root: Path, deadline: float) -> tuple[int, bool]:
    """Return how many bytes the files of a folder take on disk, and whether all of them were counted in time."""
    used, seen = 0, set[tuple[int, int]]()
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))
            except OSError:  # gone meanwhile
                continue
            if (found.st_dev, found.st_ino) not in seen:  # a hard link takes nothing
                seen.add((found.st_dev, found.st_ino))
                used += bytes_on_disk(found)
        if time.monotonic() > deadline:
            return used, False
    return used, True
