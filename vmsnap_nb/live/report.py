"""What was done by a plan that has run, and how to remove what it has left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmsnap_nb.model.shown import pickled_as
from vmsnap_nb.plans.merge.request import CleanupRequest
from vmsnap_nb.plans.report import Report

if TYPE_CHECKING:
    from vmsnap_nb.live.plan import LivePlan

__all__ = ["LiveReport"]


@dataclass(frozen=True, repr=False)
class LiveReport(Report):
    """A report with a method that plans the removal of invalid files."""

    plan: LivePlan

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled_as(Report, self)

    def cleanup(self) -> LivePlan:
        """Plan to remove the files that this merge made invalid; nothing changes until you call `run`.

        Valid files remain, such as the lower layers after a pull; ``plan.run(remove=True)`` removes these layers as
        well.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            The merge left no invalid files, or they were removed already.
        """
        memory = [path for one in self.plan.concerns if one.name == "memory-lost" for path in one.images]
        return self.plan.bind(CleanupRequest(among=(*self.plan.invalid, *memory)), self.plan.place)
