"""Whatever an entry says, and however its images are found, there is a plan, or a refusal that says what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.forests import MIB, UNIT, image
from support.readings import identified, reading, recorded

from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.plans.merge.request import FinishPullRequest, FinishRequest, unfinished, unfinished_needs
from vmsnap_nb.plans.merge.steps import CommitLayers, LiveCommit, MarkInvalid, RemoveFile, Repoint
from vmsnap_nb.plans.plan import Plan

NAMES = ("base", "a", "b", "c", "d")
PATHS = tuple(f"/i/{name}" for name in NAMES)
STATUSES = ("ok", "ok", "ok", "ok", "invalid", "missing", "corrupt", "outside", "in-use")
XML = "<domain><devices><disk><source file='{}'/><target dev='vda'/></disk></devices></domain>"


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Forest, Domain]:
    images = []
    for number, name in enumerate(NAMES):
        if draw(st.integers(0, 9)) == 0:
            continue
        usual = NAMES[number - 1] if number else None
        below = draw(st.sampled_from((usual, usual, usual, None, *NAMES)))
        status = draw(st.sampled_from(STATUSES))
        fields: dict[str, Any] = {
            "status": status,
            "format": draw(st.sampled_from(("qcow2", "qcow2", "qcow2", "raw", None))),
            "virtual_size": draw(st.sampled_from((64 * MIB, 64 * MIB, 32 * MIB, None))),
            "held": draw(st.sampled_from(("", "", "read", "write"))),
            "encryption": draw(st.sampled_from((None, None, None, "luks"))),
        }
        images.append(image(name, below, **fields))
    state: Any = draw(st.sampled_from(("running", "paused", "shut off")))
    disk = draw(st.sampled_from((PATHS[-1], PATHS[-1], *PATHS)))
    guest = Domain("g", "u", state, True, (Disk("vda", disk, "qcow2"),))
    uses = guest.uses if draw(st.integers(0, 5)) else ()
    return identified(Forest({one.path: one for one in images}, uses, ("/i",))), guest


@st.composite
def entries(draw: st.DrawFn, tree: Forest) -> MergeEntry:
    low, high = sorted(draw(st.lists(st.integers(0, 4), min_size=2, max_size=2, unique=True)))
    merged = PATHS[low + 1 : high + 1]
    entry = MergeEntry(
        base=PATHS[low],
        top=merged[-1],
        merged=merged,
        children=tuple(draw(st.sets(st.sampled_from(PATHS[high + 1 :] or PATHS), max_size=2))),
        phase=draw(st.sampled_from(("copying", "ready", "pivoting", "copied"))),
        remove=draw(st.booleans()),
        active=draw(st.booleans()),
        by_libvirt=draw(st.booleans()),
    )
    return recorded(tree, entry) if draw(st.integers(0, 4)) else entry


def check(plan: Plan) -> None:
    """A plan can be run, or says why not and what a person can do."""
    for concern in plan.concerns:
        if concern.level == "refuse" and concern.name in {
            "disk-changed",
            "missing-base",
            "damaged-image",
            "active-job",
        }:
            assert concern.remedy, concern
    assert plan.to_text()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_entry_in_every_world_has_a_plan_or_a_refusal(data: st.DataObject) -> None:
    tree, guest = data.draw(worlds())
    entry = data.draw(entries(tree))
    pairs = [(entry.top, entry.base)]
    alike: Any = data.draw(st.sampled_from(("alike", "unlike", "unknown")))
    facts: dict[str, Any] = {
        "entries": (entry,),
        "alike": frozenset(pairs if alike == "alike" else ()),
        "unlike": frozenset(pairs if alike == "unlike" else ()),
        "untouched": frozenset({entry.path} if data.draw(st.booleans()) else ()),
        "jobs": data.draw(st.sampled_from(({}, {}, {"vda": "active commit"}, {"vda": "pull"}, {"": "saving"}))),
        "definition": XML.format(data.draw(st.sampled_from(PATHS))),
    }
    if data.draw(st.booleans()):
        facts["maps"] = {path: LayerMap(path, 64 * MIB, (Extent(UNIT, UNIT),)) for path in PATHS}
    now = reading(tree, guest, **facts)
    for name in ("", "g"):
        unfinished_needs(tree, name)
        for request in (*unfinished(now, name), FinishRequest(guest=name, disk="vda" if name else None, entry=entry)):
            assert isinstance(request, FinishRequest)
            request.needs(tree)
            plan = request.plan(now)
            check(plan)
            if plan.refused:
                continue
            destroys = [step for step in plan.steps if isinstance(step, MarkInvalid | RemoveFile)]
            copies = [step for step in plan.steps if isinstance(step, CommitLayers | LiveCommit)]
            assert entry.files or not destroys, "nobody knows whether these are the images"
            known = alike == "alike" or entry.top not in tree.images or tree[entry.top].status in ("invalid", "missing")
            held = {one: tree[one].held for one in (entry.base, entry.top) if one in tree.images}
            if copies and entry.phase in ("ready", "pivoting"):
                assert held[entry.top] == "write", "QEMU itself writes to the top"
            elif destroys and not copies and entry.phase != "copying":
                assert known or held[entry.base] == "write", "the base holds what is destroyed"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_interrupted_pull_has_a_plan_or_a_refusal(data: st.DataObject) -> None:
    tree, guest = data.draw(worlds())
    disk = guest.disks[0].source
    assert disk is not None
    entry = PullEntry(image=disk, written=data.draw(st.sampled_from((*NAMES, "/away/x", "nbd://h/x"))), format="qcow2")
    jobs: Any = data.draw(st.sampled_from(({}, {"vda": "pull"})))
    now = reading(replace(tree, uses=guest.uses), guest, entries=(entry,), jobs=jobs)
    for request in unfinished(now, "g"):
        assert isinstance(request, FinishPullRequest)
        request.needs(now.forest)
        plan = request.plan(now)
        check(plan)
        assert all(isinstance(step, Repoint) or step.action for step in plan.steps)
