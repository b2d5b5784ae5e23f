"""What speaks against a plan so that it does not run."""

from __future__ import annotations

from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.plans.plan import Plan


def refused(plan: Plan | LivePlan) -> set[str]:
    return {concern.name for concern in plan.concerns if concern.level == "refuse"}
