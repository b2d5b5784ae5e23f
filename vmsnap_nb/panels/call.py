"""What a panel asks for: a call that gives a plan, and the same as code for a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from vmsnap_nb.live.plan import LivePlan

__all__ = ["Call"]


@dataclass(frozen=True)
class Call:
    """A call that gives a plan; as text, the same for a cell."""

    subject: Any  # a Guest or a LiveForest
    called: str  # what it is called in a cell
    verb: str
    options: dict[str, Any]

    def plan(self) -> LivePlan:
        """Make the plan, of what is there now."""
        return cast(LivePlan, getattr(self.subject, self.verb)(**self.options))

    def __str__(self) -> str:
        return f"{self.called}.{self.verb}({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"
