"""The verbs that are tried wherever a libvirt can be reached from, and a run of them that says how each has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from support import ROOT
from vmsnap_nb.errors import InvalidRequestError

__all__ = ["BEFORE_DRIFT", "DRIFT", "INTERRUPTED", "LEFT", "OFF", "RUNNING", "SAVED", "save", "tried"]

FOLDER = ROOT / "build" / "places"

_NEW_LAYER = "guest.snapshot(kind='external-disk', metadata=False)"
RUNNING = {
    "take an external disk snapshot": ["guest.snapshot('s1', kind='external-disk')"],
    "delete an external snapshot": ["guest.delete_snapshot('s1')"],
    "take an external checkpoint": ["guest.snapshot('c1', kind='external-checkpoint')"],
    "revert to an external snapshot": ["guest.revert('c1')"],
    "commit": [_NEW_LAYER, "guest.commit(remove=True)"],
    "shorten": [_NEW_LAYER, _NEW_LAYER, "guest.shorten(keep=4)"],
    "pull": ["guest.pull()"],
    "take an internal checkpoint": ["guest.snapshot('i1', kind='internal-checkpoint')"],
    "revert to an internal snapshot": ["guest.revert('i1', keep_current=False)"],
    "delete an internal snapshot": ["guest.delete_snapshot('i1')"],
    "save": ["guest.save()"],
}
"""By verb how its plan is made, after what comes before it; each begins where the one before it ends."""
SAVED = {"restore": ["guest.restore()"]}
OFF = {
    "take an internal disk snapshot": ["guest.snapshot('i1', kind='internal-disk')"],
    "revert to an internal snapshot": ["guest.revert('i1', keep_current=False)"],
    "delete an internal snapshot": ["guest.delete_snapshot('i1')"],
    "take an external disk snapshot": ["guest.snapshot('s1', kind='external-disk')"],
    "revert to an external snapshot": ["guest.revert('s1')"],
    "revert to an external snapshot, and remove the current overlay": ["guest.revert('s1', keep_current=False)"],
    "delete an external snapshot": ["guest.delete_snapshot('s1')"],
    "shorten": [_NEW_LAYER, _NEW_LAYER, "guest.shorten(keep=2)"],
    "commit": [_NEW_LAYER, "guest.commit(remove=True)"],
    "pull": [_NEW_LAYER, "guest.pull()"],
    "create an overlay": ["host.survey().overlay('new', backing='base')"],
}
BEFORE_DRIFT = {"": ["guest.snapshot('gone', kind='internal-disk')"]}
DRIFT = {"reconcile the records": ["guest.reconcile()"]}
"""Meanwhile something else has removed the snapshot from the image."""
LEFT = {
    "clean up after a merge": [_NEW_LAYER, "guest.commit()", "guest.cleanup()"],
    "remove unneeded files": ["host.leftovers().remove('forgotten')"],
}
INTERRUPTED = {"complete an interrupted operation": ["guest.unfinished()"]}
_NOTHING = "finds nothing: the journal is in files that cannot be opened from there"


def tried(host: Any, verbs: Mapping[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Make and run plans for the guest demo, one after the other; a refused one is not run."""
    found = {}
    for verb, lines in verbs.items():
        for line in lines:
            found[verb] = {"refused": [], "told": _NOTHING}
            try:
                made = eval(line, {"host": host, "guest": host.guest("demo")})
            except InvalidRequestError:
                continue
            for plan in made if isinstance(made, tuple) else (made,):
                found[verb] = _run(plan)
    return found


def _run(plan: Any) -> dict[str, Any]:
    """Run a plan unless it is refused; what may be waived is."""
    refusals = [concern for concern in plan.concerns if concern.level == "refuse"]
    waived = sorted({concern.name for concern in refusals if concern.waivable})
    found: dict[str, Any] = {
        "refused": sorted({concern.name for concern in refusals if not concern.waivable}),
        "waived": waived,
        "performers": sorted({step.performer for step in plan.steps}),
    }
    if not found["refused"]:
        report = plan.run(progress=False, waive=waived)
        found |= {"good": report.as_predicted, "differences": [*map(str, report.differences)]}
    return found


def save(place: str, results: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Leave for scripts/places.py how each verb has ended, by the guest's state."""
    rows = [[state, verb, _told(one)] for state, verbs in results.items() for verb, one in verbs.items()]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{place}.json").write_text(json.dumps(rows, indent=0) + "\n")


def _told(one: Mapping[str, Any]) -> str:
    if one["refused"]:
        return f"refused: {', '.join(one['refused'])}"
    if "told" in one:
        return str(one["told"])
    *first, last = one["performers"]
    waived = f", if {' and '.join(one['waived'])} is waived" if one["waived"] else ""
    return f"works, using {', '.join(first)} and {last}{waived}" if first else f"works, using {last}{waived}"
