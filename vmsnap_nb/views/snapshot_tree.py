"""The tree of a guest's snapshots: oldest at the left, an arrow from each to its parent, and where the guest is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vmsnap_nb.model.snapshot import Drift, Snapshot, SnapshotList, SnapshotLists
from vmsnap_nb.views.figure import Block, Box, Figure, Line, Options, Shape, fold_name
from vmsnap_nb.views.folding import Fold, grow
from vmsnap_nb.views.labels import kind_text, state_text
from vmsnap_nb.views.layout import lay_out
from vmsnap_nb.views.shown_text import clip, isolate, shown
from vmsnap_nb.words.message import N_, Message, counted, joined, t

__all__ = ["snapshot_figure", "snapshots_figure"]

STATUS_WORDS: Mapping[Drift, tuple[str, Shape]] = {
    "stale": (N_("STALE"), "gone"),
    "untracked": (N_("UNTRACKED"), "unopened"),
    "missing-file": (N_("FILE MISSING"), "broken"),
    "unknown": (N_("UNKNOWN"), "unopened"),
}
"""For each status but "ok": the template of what the box says, and its shape."""

_HERE = "here"
_MOST_IMPORTANT = 10
_MOST_NOTES = 8
_MOST_GUESTS = 20


def snapshot_figure(snapshots: SnapshotList, options: Options) -> Figure:
    """Return the figure of one guest's snapshots."""
    blocks, notes = _blocks(snapshots, options)
    guest = isolate(clip(shown(snapshots.guest)))
    summary = counted(
        "Guest {guest} with {count} snapshot", "Guest {guest} with {count} snapshots", len(snapshots), guest=guest
    )
    if snapshots.current is not None:
        current = isolate(clip(shown(snapshots.current.name)))
        summary = t("{guest}; current snapshot: {snapshot}", guest=summary, snapshot=current)
    if not len(snapshots):
        notes.insert(0, t("guest {guest} has no snapshots", guest=guest))
    return Figure(summary, tuple(blocks), notes=tuple(notes))


def snapshots_figure(lists: SnapshotLists, options: Options) -> Figure:
    """Return the figure of many guests' snapshots, one below the other; guests without any are only counted."""
    blocks: list[Block] = []
    notes: list[str] = []
    drawn = [snapshots for snapshots in lists if len(snapshots)]
    for snapshots in drawn[:_MOST_GUESTS]:
        more, said = _blocks(snapshots, options)
        guest = isolate(clip(shown(snapshots.guest)))
        blocks += [replace(block, caption=guest if number == 0 else "") for number, block in enumerate(more)]
        notes += [t("{guest}: {note}", guest=guest, note=note) for note in said]
    if len(drawn) > _MOST_GUESTS:
        notes.append(t("{count} more guests with snapshots: see .to_frame()", count=len(drawn) - _MOST_GUESTS))
    if len(lists) > len(drawn):
        none = len(lists) - len(drawn)
        notes.append(counted("{count} guest without snapshots", "{count} guests without snapshots", none))
    total = sum(len(snapshots) for snapshots in lists)
    summary = t(
        "{guests} with {snapshots}",
        guests=counted("{count} guest", "{count} guests", len(lists)),
        snapshots=counted("{count} snapshot", "{count} snapshots", total),
    )
    return Figure(summary, tuple(blocks), notes=tuple(notes))


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
            folded = (fold_name(_folded(what)), Line(counted("{count} snapshot", "{count} snapshots", len(names))))
            return Box(
                what.members[0],
                folded,
                t("folded: {names}", names=joined(names[:20])),
                shape="fold",
                row=row,
                column=column,
                trunks=trunks,
            )
        if what == _HERE:
            return _here(snapshots, row, column, trunks)
        snapshot = rows[what]
        shape = STATUS_WORDS[snapshot.status][1] if snapshot.status != "ok" else "snapshot"
        title = isolate(shown(snapshot.name)) + (f"\n{shown(snapshot.problem)}" if snapshot.problem else "")
        lines = tuple(_lines(snapshot, options))
        current = snapshot.record.current
        return Box(
            what,
            lines,
            title,
            shape=shape,
            row=row,
            column=column,
            active=current,
            trunks=trunks,
            snapshot=snapshot.name,
        )

    trees = grow(roots, children, fold=options.fold, keep=options.keep, columns=options.columns, important=important)
    return [lay_out(tree, make) for tree in trees], _notes(snapshots)


def _folded(fold: Fold) -> Message:
    if fold.kind == "layers":
        return t("… {count} more in between …", count=fold.count)
    if fold.kind == "overlays":
        return t("… {count} more branches …", count=fold.count)
    return t("… {count} more roots …", count=fold.count)


def _notes(snapshots: SnapshotList) -> list[str]:
    notes: list[str] = [
        t("{snapshot}: {problem}", snapshot=isolate(clip(shown(row.name))), problem=shown(row.problem))
        for row in snapshots
        if row.problem
    ]
    if len(notes) > _MOST_NOTES:
        more = len(notes) - _MOST_NOTES + 1
        notes[_MOST_NOTES - 1 :] = [t("… and {count} more snapshots with a problem", count=more)]
    if snapshots.going_back_to is not None:
        name = isolate(clip(shown(snapshots.going_back_to)))
        notes.append(
            t(
                "a revert to snapshot {name} is running or was interrupted; unfinished() returns the plan that "
                "completes it",
                name=name,
            )
        )
    notes += map(shown, snapshots.problems)
    if snapshots.managed_save:
        notes.append(t("its memory is saved (managed save); the next start resumes from it"))
    return notes


def _here(snapshots: SnapshotList, row: int, column: int, trunks: int) -> Box:
    guest = isolate(clip(shown(snapshots.guest)))
    state = t("{guest}: {state}", guest=guest, state=state_text(snapshots.state))
    lines = (Line(t("you are here"), "name"), Line(state))
    title = t("current state of guest {guest}", guest=guest)
    return Box(_HERE, lines, title, shape="guest", row=row, column=column, trunks=trunks)


def _lines(snapshot: Snapshot, options: Options) -> list[Line]:
    record = snapshot.record
    lines = [Line(isolate(clip(shown(record.name))), "name")]
    if snapshot.status != "ok":
        lines.append(Line(t(STATUS_WORDS[snapshot.status][0]), "status"))
    if options.shows("format"):
        lines.append(Line(t("({kind})", kind=kind_text(record.kind)), "format"))
    if options.shows("active") and record.current:
        lines.append(Line(t("(current)"), "active", tone="accent"))
    if options.shows("sizes"):
        if record.created is not None:
            short = f"{record.created:%Y-%m-%d %H:%M} UTC"
            lines.append(Line(f"{record.created:%Y-%m-%d %H:%M:%S} UTC", "size", picture=short))
        if record.state:
            lines.append(Line(state_text(record.state)))
    if options.shows("users") and record.description:
        lines.append(Line(isolate(clip(shown(record.description)))))
    return lines
