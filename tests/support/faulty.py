"""Steps of a plan that are performed otherwise than they should be, or alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.plans.step import Step

Act = Callable[[Any, Action], Undo]
"""Gets a step and how it is really performed, and performs it; gives what takes it back, as the real one does."""


def faulty(plan: LivePlan, kind: type[Step] | str, act: Act) -> LivePlan:
    """Return a plan whose steps of one kind are performed by `act`: a class or its name; `Step` is every kind."""

    def concerns(other: type[Step]) -> bool:
        return other.__name__ == kind if isinstance(kind, str) else issubclass(other, kind)

    assert any(concerns(type(step)) for step in plan.steps), f"no step of this plan is a {kind}"
    actions = {k: partial(act, perform=action) if concerns(k) else action for k, action in plan.place.actions.items()}
    return replace(plan, place=replace(plan.place, actions=actions))


def perform(plan: LivePlan, step: Step) -> Undo:
    """Perform one step without a look whether it may be; gives what takes it back."""
    return plan.place.actions[type(step)](step)


def killed(step: Step, perform: Action) -> NoReturn:
    """Perform a step; then this process ends as in a loss of power."""
    perform(step)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still there")
