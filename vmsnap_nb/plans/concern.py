"""What speaks against a plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vmsnap_nb.model.shown import Carded
from vmsnap_nb.words.message import NOTHING, Message, t

__all__ = [
    "CONCERNS",
    "Concern",
    "ConcernName",
    "Concerns",
    "either",
    "refuse",
    "remark",
    "sorted_concerns",
    "warn",
]

ConcernName = Literal[
    "file-exists",
    "missing-base",
    "loop",
    "smaller-size",
    "shared-base",
    "in-use",
    "backing-format-missing",
    "backing-format-wrong",
    "no-space",
    "grows-base",
    "mixed-kinds",
    "active-job",
    "managed-save",
    "memory-lost",
    "state-lost",
    "not-supported",
    "not-encrypted",
    "other-readers",
    "untrusted-backing",
    "untrusted-note",
    "no-permission",
    "read-only",
    "name-taken",
    "no-agent",
    "disk-changed",
    "damaged-image",
    "hardware-changed",
    "other-image",
    "deleted-image",
    "backup-chain",
    "unknown-image",
]
CONCERNS: frozenset[str] = frozenset(ConcernName.__args__)  # type: ignore[attr-defined]
"""All names that a concern can have."""

_LEVELS = ("refuse", "warn", "note")


@dataclass(frozen=True, slots=True, repr=False)
class Concern(Carded):
    """A reason to refuse a plan, or a warning about it.

    Attributes
    ----------
    name : str
        A name from `CONCERNS`; `LivePlan.run` accepts this name in ``waive``.
    level : str
        ``refuse``, ``warn`` or ``note``.
    what : Message
        A sentence that names the images and guests.
    remedy : Message
        The remedy; empty if there is none.
    images : tuple of str
        The paths of the images to which the concern applies.
    holders : tuple of str
        The guests (or processes) to which the concern applies.
    waivable : bool
        Whether a user may waive the concern by name; False if the system would refuse the change anyway.
    """

    name: ConcernName
    level: Literal["refuse", "warn", "note"]
    what: Message
    remedy: Message = NOTHING
    images: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    waivable: bool = False

    @property
    def docs(self) -> str:
        """The address of the section on this kind of concern, relative to the documentation's first page."""
        return f"troubleshooting.html#{self.name}"

    def __repr__(self) -> str:
        return f"<Concern {self.name} ({self.level}): {self.what}>"


class Concerns(tuple[Concern, ...], Carded):
    """A tuple of concerns, with the most serious first; notebooks display it as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self:
            return "<no concerns>"
        number = "1 concern" if len(self) == 1 else f"{len(self)} concerns"
        return f"<{number}: {', '.join(f'{one.name} ({one.level})' for one in self)}>"


def refuse(
    name: ConcernName,
    what: Message,
    remedy: Message = NOTHING,
    *,
    images: tuple[str, ...] = (),
    holders: tuple[str, ...] = (),
    waivable: bool = False,
) -> Concern:
    """Return a concern for which the plan does not run."""
    return Concern(name, "refuse", what, remedy, images=images, holders=holders, waivable=waivable)


def warn(
    name: ConcernName,
    what: Message,
    remedy: Message = NOTHING,
    *,
    images: tuple[str, ...] = (),
    holders: tuple[str, ...] = (),
    waivable: bool = False,
) -> Concern:
    """Return a concern that the user is warned of."""
    return Concern(name, "warn", what, remedy, images=images, holders=holders, waivable=waivable)


def remark(
    name: ConcernName,
    what: Message,
    remedy: Message = NOTHING,
    *,
    images: tuple[str, ...] = (),
    holders: tuple[str, ...] = (),
    waivable: bool = False,
) -> Concern:
    """Return a concern that is only shown."""
    return Concern(name, "note", what, remedy, images=images, holders=holders, waivable=waivable)


def either(first: Message, second: Message) -> Message:
    """Return a remedy that leaves a choice between two."""
    return t("{first}. Or {second}", first=first, second=second)


def sorted_concerns(concerns: Iterable[Concern]) -> tuple[Concern, ...]:
    """Return each concern once, the most serious first; of a file that QEMU still has open none says to restore it."""
    found = dict.fromkeys(concerns)
    kept = {p for one in found if one.name == "deleted-image" and _is_final(one) for p in one.images}
    said = (one for one in found if one.name != "missing-base" or not one.images or not kept.issuperset(one.images))
    return tuple(sorted(said, key=lambda concern: _LEVELS.index(concern.level)))


def _is_final(concern: Concern) -> bool:
    return concern.level == "refuse" and not concern.waivable
