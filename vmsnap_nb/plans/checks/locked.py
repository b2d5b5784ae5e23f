"""Remedies that QEMU's locks keep anybody from following while a guest is running."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.concern import Concern, either
from vmsnap_nb.words.message import Message, joined, t

__all__ = ["with_guests_off"]

_CHANGE = frozenset({"amend", "bitmap", "rebase", "resize"})
"""What qemu-img does only with images that nobody has open; all else but a guest's own image it reads at any time."""


def with_guests_off(forest: Forest, concerns: Iterable[Concern]) -> Iterator[Concern]:
    """Yield concerns with remedies that say which guests must be off before their commands can be run."""
    for concern in concerns:
        remedy = _remedy(forest, concern.remedy)
        yield concern if remedy == concern.remedy else replace(concern, remedy=remedy)


def _remedy(forest: Forest, remedy: Message) -> Message:
    """Return a remedy that says which guests must be off; one that leaves a choice says so where that is needed."""
    fields = getattr(remedy, "fields", {})
    if set(fields) == {"first", "second"}:
        return either(_remedy(forest, fields["first"]), _remedy(forest, fields["second"]))
    commands = tuple(_commands(remedy))
    guests = dict.fromkeys(guest for command in commands for guest in _holders(forest, command))
    if not guests:
        return remedy
    return t(
        "shut down {guests} first, because QEMU locks the images of running guests. Then {remedy}",
        remedy=remedy,
        guests=joined(guests),
    )


def _commands(remedy: Message) -> Iterator[str]:
    """Yield the command lines of qemu-img in a remedy, also of those that leave a choice."""
    for field in getattr(remedy, "fields", {}).values():
        if isinstance(field, Message):
            yield from _commands(field)
        elif isinstance(field, str) and field.startswith("qemu-img "):
            yield from field.split("; ")


def _holders(forest: Forest, command: str) -> Iterator[str]:
    """Yield the running guests that have images of a command open in a way that keeps qemu-img from them."""
    try:
        _, verb, *words = shlex.split(command)
    except ValueError:
        return
    if "-U" in words:
        return
    named = names_of(forest, (word.rpartition("file.filename=")[2] for word in words))
    for use in forest.uses:
        if not use.running:
            continue
        layers = forest.known_lineage(use.path) if verb in _CHANGE else () if use.readonly else (use.path,)
        if not named.isdisjoint(layers):
            yield use.guest
