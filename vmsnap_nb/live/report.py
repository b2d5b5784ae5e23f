"""What was done by a plan that has run, and how to remove what it has left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmsnap_nb.plans.merge import plan_cleanup
from vmsnap_nb.plans.report import Report

if TYPE_CHECKING:
    from vmsnap_nb.live.plan import LivePlan
    from vmsnap_nb.model.forest import Forest
    from vmsnap_nb.plans.plan import Plan

__all__ = ["LiveReport"]


@dataclass(frozen=True, repr=False)
class LiveReport(Report):
    """A report that knows where its plan ran."""

    plan: LivePlan

    def cleanup(self) -> LivePlan:
        """Plan to remove the files that this merge has made invalid; nothing happens until its `run`.

        Files that are valid stay, as the lower layers after a pull: ``plan.run(remove=True)`` takes those as well.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            It has left nothing invalid behind, or that is gone already.
        """
        plan = self.plan

        def make(forest: Forest) -> Plan:
            return plan_cleanup(forest, plan.invalid)

        return plan.bind(make, plan.world)
