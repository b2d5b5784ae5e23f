"""A guest that is paused at its start, and whose disk is read while it is off."""

from __future__ import annotations

import os
from pathlib import Path

from support.content import content
from support.images import write
from support.labs import start_paused
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.image import Image


class Paused:
    """A guest that is paused at its start, so that its disk changes only by what is done here."""

    def __init__(self, lab: Lab, base: Image, name: str) -> None:
        self.guest = lab.guest(name, backing=base, boot="disk")
        self.images = Path(self.guest.chain().top).parent
        self.layers = 0
        self.write()
        self.start()

    def start(self) -> None:
        start_paused(self.guest)

    @property
    def names(self) -> list[str]:
        return [image.name.removeprefix(f"{self.guest.name}.") for image in self.guest.chain()]

    @property
    def statuses(self) -> dict[str, str]:
        return {row.name: row.status for row in self.guest.snapshots()}

    def write(self, size: str = "1M") -> None:
        self.layers += 1
        write(Path(self.guest.chain().top), f"write -q -P {self.layers} {20 + self.layers * 3}M {size}")

    def take(self, *names: str, kind: str = "external-disk", size: str = "1M") -> None:
        """Take snapshots; the guest is off for a moment after each, since something must be written."""
        for name in names:
            assert self.guest.snapshot(name, kind=kind).run(progress=False).as_predicted  # type: ignore[arg-type]
            self.guest.destroy()
            self.write(size)
            self.start()

    def delete(self, name: str, **options: object) -> LivePlan:
        plan = self.guest.delete_snapshot(name, **options)  # type: ignore[arg-type]
        report = plan.run(progress=False)
        assert report.as_predicted, report.differences
        assert set(self.statuses.values()) <= {"ok"}
        assert not any(os.path.lexists(path) for path in plan.unlinks)
        assert list(self.images.glob(".vmsnap*")) == []
        return plan

    def finish(self) -> None:
        """Do all that was cut short: what is taken back, is merged again then."""
        for _ in range(2):
            for plan in self.guest.unfinished():
                assert plan.run(progress=False).as_predicted
        assert self.guest.unfinished() == ()

    def reads(self) -> str:
        """What its disk holds, once it has ended."""
        self.guest.destroy()
        return content(self.guest.chain().top)
