"""Things that can be shown, one of each kind, and names that are hard to show."""

from __future__ import annotations

from support.forests import figure_2, image
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Disks
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.concern import warn
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report, StepDone
from vmsnap_nb.plans.step import CreateOverlay, Protect


def overlay_plan(before: Forest, **fields: object) -> Plan:
    new = image("new", "RootBase", allocated=None)
    assert new.backing is not None
    base = before["/i/RootBase"]
    given = {
        "title": "create new on RootBase",
        "before": before,
        "steps": (CreateOverlay(path=new.path, backing=new.backing), Protect(path=base.path)),
        "after": before.edited(put=[new]),
        "concerns": (warn("in-use", "guest demo runs", "shut it down", waivable=True),),
        "way": "by qemu-img",
        "subjects": (new.path, base.path),
        **fields,
    }
    return Plan(**given)  # type: ignore[arg-type]


HOSTILE = {
    "angle": "<x>",
    "script": "<script>alert(1)<script>",
    "quote": 'a"b',
    "apostrophe": "it's",
    "backslash": "back\\slash",
    "escape": "\\N\\G\\E\\l",
    "last": "ends with \\",
    "bar": "a|b{c}d",
    "entity": "a&lt;b &amp; c",
    "emoji": "😀 family 👨‍👩‍👧",
    "chinese": "虚拟机",
    "hebrew": "שלום",
    "arabic": "مرحبا",
    "colon": "a:b:c",
    "dollar": "$(rm -rf)",
    "markdown": "**a** `b`",
}


def things() -> dict[str, Shown]:
    """One of each kind that can be shown."""
    plan = overlay_plan(figure_2())
    return {
        "forest": figure_2(),
        "chain": figure_2().chain("/i/Overlay-1C"),
        "disks": Disks("demo", (Disk("vda", "/i/a.qcow2", "qcow2", "virtio", capacity=1 << 30),), (3,)),
        "plan": plan,
        "report": Report(plan, tuple(StepDone(step, "done", 0.5) for step in plan.steps), plan.after),
    }
