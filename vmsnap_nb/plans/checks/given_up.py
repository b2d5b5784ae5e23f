"""Checks of what QEMU does not do after it has written the memory of a paused guest, until the guest runs again.

Tried with QEMU 7.2: it writes the memory no second time ("Can't migrate the vm that was paused due to previous
migration"), and to no image that it had open at that moment ("Block node is read-only"), whatever is below which.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.words.message import Message, listed, t

__all__ = ["no_second_memory", "no_writes"]


def no_second_memory(owner: GuestFacts, instead: Message) -> Iterator[Concern]:
    """Check that QEMU has not written the memory of a guest since it was paused; `instead` is what works then."""
    guest = owner.domain.name
    if owner.given_up:
        yield refuse(
            "not-supported",
            t(
                "the memory of {guest} has already been saved since the guest was paused, and QEMU cannot save it "
                "again until {guest} runs",
                guest=guest,
            ),
            either(_resumed(guest), instead),
            holders=(guest,),
        )


def no_writes(owner: GuestFacts, images: Collection[str]) -> Iterator[Concern]:
    """Check that QEMU may write to images; which of them it has opened later is not known, so it can be waived."""
    guest = owner.domain.name
    if owner.given_up and images:
        yield refuse(
            "not-supported",
            t(
                "the memory of {guest} was saved while the guest was paused. Until {guest} runs again, QEMU does not "
                "write to images that were open at that time: {images}",
                guest=guest,
                images=listed(images),
            ),
            either(_resumed(guest), t("waive this if these images were only opened after that, as new overlays are")),
            images=tuple(images),
            holders=(guest,),
            waivable=True,
        )


def _resumed(guest: str) -> Message:
    name = shlex.quote(guest)
    return t(
        "resume {guest} for a moment, and plan again: {command}",
        guest=guest,
        command=f"virsh resume {name} && virsh suspend {name}",
    )
