"""The tree of a guest's snapshots: oldest at the left, an arrow from each to its parent, and where the guest is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.snapshot import Drift, Snapshot, SnapshotList, SnapshotLists
from vmsnap_nb.views.figure import Block, Box, Figure, Line, Options, Shape
from vmsnap_nb.views.folding import Fold, grow
from vmsnap_nb.views.layout import lay_out
from vmsnap_nb.views.words import clip, isolate, shown

__all__ = ["STATE_WORDS", "snapshot_figure", "snapshots_figure"]

STATE_WORDS: Mapping[str, str] = {"disk-snapshot": "running, without memory", "shutoff": "shut off"}
"""What is said of a state that libvirt has another word for."""

STATUS_WORDS: Mapping[Drift, tuple[str, Shape]] = {
    "stale": ("STALE", "gone"),
    "untracked": ("UNTRACKED", "unopened"),
    "missing-file": ("FILE MISSING", "broken"),
}
"""For each status but "ok": what the box says, and its shape."""

_HERE = "you are here"
_MOST_IMPORTANT = 10
_MOST_NOTES = 8
_MOST_GUESTS = 20


def snapshot_figure(snapshots: SnapshotList, options: Options) -> Figure:
    """Give the figure of one guest's snapshots."""
    blocks, notes = _blocks(snapshots, options)
    guest = isolate(clip(shown(snapshots.guest)))
    summary = f"Guest {guest} with {plural(len(snapshots), 'snapshot')}"
    if snapshots.current is not None:
        summary += f", the current one is {isolate(clip(shown(snapshots.current.name)))}"
    if not len(snapshots):
        notes.insert(0, f"guest {guest} has no snapshots")
    return Figure(summary, tuple(blocks), notes=tuple(notes))


def snapshots_figure(lists: SnapshotLists, options: Options) -> Figure:
    """Give the figure of many guests' snapshots, one below the other; guests without any are only counted."""
    blocks: list[Block] = []
    notes: list[str] = []
    drawn = [one for one in lists if len(one)]
    for one in drawn[:_MOST_GUESTS]:
        more, said = _blocks(one, options)
        guest = isolate(clip(shown(one.guest)))
        blocks += [replace(block, caption=guest if number == 0 else "") for number, block in enumerate(more)]
        notes += [f"{guest}: {note}" for note in said]
    if len(drawn) > _MOST_GUESTS:
        notes.append(f"{len(drawn) - _MOST_GUESTS} more guests with snapshots: see .to_frame()")
    if len(lists) > len(drawn):
        notes.append(f"{plural(len(lists) - len(drawn), 'guest')} without snapshots")
    total = sum(len(one) for one in lists)
    return Figure(f"{plural(len(lists), 'guest')} with {plural(total, 'snapshot')}", tuple(blocks), notes=tuple(notes))


def _blocks(snapshots: SnapshotList, options: Options) -> tuple[list[Block], list[str]]:
    rows = {f"{number} {row.name}": row for number, row in enumerate(snapshots)}
    keys = {row.name: key for key, row in reversed(rows.items()) if row.status != "untracked"}
    roots: list[str] = []
    children: dict[str, list[str]] = {}
    for key, row in rows.items():
        parent = keys.get(row.record.parent) if row.record.parent is not None else None
        if parent is None or row.status == "untracked":
            roots.append(key)
        else:
            children.setdefault(parent, []).append(key)
    current = next((key for key, row in rows.items() if row.record.current), None)
    if current is not None:
        children.setdefault(current, []).append(_HERE)
    elif rows:
        roots.append(_HERE)
    drifted = [key for key, row in rows.items() if row.status != "ok"]
    important = {_HERE, *([current] if current else []), *drifted[:_MOST_IMPORTANT]}

    def make(what: str | Fold, *, row: int, column: int, trunks: int) -> Box:
        if isinstance(what, Fold):
            names = [shown(rows[key].name) for key in what.members if key in rows]
            noun = {"layers": "in between", "overlays": "branches", "bases": "roots"}[what.kind]
            folded = (Line(f"… {what.count} more {noun} …", "name"), Line(plural(len(names), "snapshot")))
            return Box(what.members[0], folded, "folded: " + ", ".join(names[:20]), "fold", row, column, trunks=trunks)
        if what == _HERE:
            return _here(snapshots, row, column, trunks)
        snapshot = rows[what]
        shape = STATUS_WORDS[snapshot.status][1] if snapshot.status != "ok" else "snapshot"
        title = isolate(shown(snapshot.name)) + (f"\n{shown(snapshot.problem)}" if snapshot.problem else "")
        lines = tuple(_lines(snapshot, options))
        current = snapshot.record.current
        return Box(what, lines, title, shape, row, column, current, trunks=trunks, snapshot=snapshot.name)

    trees = grow(roots, children, fold=options.fold, keep=options.keep, important=important)
    notes = [f"{isolate(clip(shown(r.name)))}: {shown(r.problem)}" for r in snapshots if r.problem]
    if len(notes) > _MOST_NOTES:
        notes[_MOST_NOTES - 1 :] = [f"… and {len(notes) - _MOST_NOTES + 1} more with a problem"]
    if snapshots.going_back_to is not None:
        name = isolate(clip(shown(snapshots.going_back_to)))
        notes.append(f"it goes back to {name}, or that was cut short: unfinished() gives the plan that finishes it")
    if snapshots.managed_save:
        notes.append("its memory is saved (managed save): the next start goes on from there")
    return [lay_out(tree, make) for tree in trees], notes


def _here(snapshots: SnapshotList, row: int, column: int, trunks: int) -> Box:
    guest = isolate(clip(shown(snapshots.guest)))
    lines = (Line("you are here", "name"), Line(f"{guest}: {snapshots.state}"))
    return Box(_HERE, lines, f"what guest {guest} does now", "guest", row, column, trunks=trunks)


def _lines(snapshot: Snapshot, options: Options) -> list[Line]:
    record = snapshot.record
    lines = [Line(isolate(clip(shown(record.name))), "name")]
    if snapshot.status != "ok":
        lines.append(Line(STATUS_WORDS[snapshot.status][0], "status"))
    if options.shows("format"):
        lines.append(Line(f"({record.kind.replace('-', ' ')})", "format"))
    if options.shows("active") and record.current:
        lines.append(Line("(current)", "active"))
    if options.shows("sizes"):
        if record.created is not None:
            lines.append(Line(f"{record.created:%Y-%m-%d %H:%M:%S} UTC"))
        state = STATE_WORDS.get(record.state, record.state)
        if state:
            lines.append(Line(shown(state)))
    if options.shows("users") and record.description:
        lines.append(Line(isolate(clip(shown(record.description)))))
    return lines
