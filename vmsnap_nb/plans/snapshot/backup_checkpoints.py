"""libvirt's checkpoints, of incremental backups: what it refuses for a guest that has some.

They are no snapshots; a snapshot with memory, which is called a checkpoint as well, has nothing to do with them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.snapshot.steps import DefineRecord, ForgetRecord, MoveRecord, TakeSnapshot
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import joined, t

__all__ = ["refused_while_off", "while_off"]


def refused_while_off(owner: GuestFacts, steps: Iterable[Step]) -> Iterator[Concern]:
    """Check that none of the steps is one that libvirt refuses for a guest that is off and has checkpoints."""
    if not owner.running and any(map(_is_refused, steps)):
        yield from while_off(owner)


def _is_refused(step: Step) -> bool:
    # To forget a record with children, those are written with another parent.
    return isinstance(step, TakeSnapshot | DefineRecord | MoveRecord) or (
        isinstance(step, ForgetRecord) and bool(step.children)
    )


def while_off(owner: GuestFacts) -> Iterator[Concern]:
    """Check that a guest whose record of a snapshot is written while it is off has no checkpoints."""
    guest, checkpoints = owner.domain.name, owner.domain.checkpoints
    if checkpoints:
        forget = "; ".join(
            shlex.join(("virsh", "checkpoint-delete", guest, name, "--metadata")) for name in checkpoints
        )
        yield refuse(
            "backup-chain",
            t(
                "{guest} has checkpoints ({checkpoints}). While the guest is off, libvirt can neither take a "
                "snapshot of it nor write a snapshot record",
                guest=guest,
                checkpoints=joined(checkpoints),
            ),
            either(
                t(
                    "do this while {guest} is running or paused: {command}",
                    guest=guest,
                    command=f"virsh start {shlex.quote(guest)} --paused",
                ),
                t("give up the incremental backups that start at these checkpoints: {commands}", commands=forget),
            ),
            holders=(guest,),
        )
