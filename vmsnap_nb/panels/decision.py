"""What the decision bar says of a plan and of its report: a sentence, what it costs, what is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from vmsnap_nb.model.snapshot import MANAGED_SAVE
from vmsnap_nb.plans.compare import differences
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.moves import copied
from vmsnap_nb.views.shown_text import capital, distinct_names, human_size, shown
from vmsnap_nb.words.message import Message, clauses, counted, joined, listed, sentences, t

__all__ = [
    "brief",
    "brief_html",
    "changed_anything",
    "decision_html",
    "losses_html",
    "lost_html",
    "outcome_html",
    "said_html",
    "waivable",
]

_NAMED = 4
"""Files that the bar names; the list beside the figure has all."""
_LONG = 500
"""Letters of a text that scrolls in the bar: by keyboard, too."""
_LOSSES = frozenset({"state-lost", "memory-lost"})


def decision_html(plan: Plan, rate: float | None = None) -> str:
    """Return what is to be decided: the title of a plan, and what it costs.

    `rate` are the bytes per second of the last copy here, from which the time is estimated.
    """
    if plan.refused:
        first = next(concern for concern in plan.concerns if concern.level == "refuse")
        reasons = [first.what] if not first.remedy else [first.what, first.remedy]
        return said_html(
            t("Refused: {title}", title=shown(plan.title)),
            details=sentences(capital(brief(one)) for one in reasons),
            tip=sentences(map(capital, reasons)),
            mark="vmsnap-refused",
        )
    return said_html(shown(plan.title), chips=_costs(plan, rate), details=t("Nothing has been changed yet."))


def said_html(
    sentence: str,
    *,
    chips: Iterable[tuple[str, str]] = (),
    details: str = "",
    tip: str = "",
    mark: str = "",
    role: str = "status",
) -> str:
    """Return a sentence for the bar, with chips (text and tooltip) and a line below, which may have a tooltip."""
    parts = "".join(
        f'<span class="vmsnap-chip" title="{escape(tip)}">{escape(text)}</span>'
        if tip
        else f'<span class="vmsnap-chip">{escape(text)}</span>'
        for text, tip in chips
    )
    scrolls = ' tabindex="0"' if len(details) > _LONG else ""
    tooltip = f' title="{escape(shown(tip))}"' if tip and tip != details else ""
    first, *more = details.split("\n")
    said = "\n".join([capital(first if more else details), *map(shown, more)])
    below = f'<span class="vmsnap-below"{scrolls}{tooltip}>{escape(said)}</span>' if details else ""
    text = f"<strong>{escape(capital(sentence))}</strong>"
    return f'<div role="{role}" class="vmsnap-sentence {mark}">{text}{parts}{below}</div>'


def _costs(plan: Plan, rate: float | None) -> Iterator[tuple[str, str]]:
    if plan.moves:
        size = plan.bytes_to_copy
        yield copied(size), ""
        speed = getattr(getattr(plan, "request", None), "bandwidth", 0) or rate
        if size and speed:
            yield t("about {seconds:.0f} s", seconds=max(1.0, size / speed)), ""
    if plan.creates:
        yield counted("creates {count} file", "creates {count} files", len(plan.creates)), _paths(plan.creates)
    if written := [path for path in plan.writes if path not in plan.unlinks]:
        yield counted("changes {count} file", "changes {count} files", len(written)), _paths(written)
    if not plan.writes and (records := _gone_records(plan)):  # otherwise they are among the losses
        names = "\n".join(map(shown, records))
        yield counted("removes {count} record", "removes {count} records", len(records)), names
    freed = plan.frees.total if plan.unlinks else None
    if freed:
        yield t("frees {size}", size=human_size(freed)), ""


def lost_html(plan: Plan) -> str:
    """Return what is lost by a plan, as HTML; empty if nothing is, and then nobody has to be asked twice."""
    return losses_html(_lost(plan))


def losses_html(losses: Iterable[str]) -> str:
    """Return a list of what is lost, each in HTML."""
    lines = "".join(f"<li>{line}</li>" for line in losses)
    return f'<ul class="vmsnap-lost">{lines}</ul>' if lines else ""


def _lost(plan: Plan) -> Iterator[str]:
    names = distinct_names((path, path.rpartition("/")[2]) for path in (*plan.invalid, *plan.unlinks))
    stays = [path for path in plan.invalid if path not in plan.unlinks]
    if stays:
        words = counted("Becomes invalid: {names}", "Become invalid: {names}", len(stays), names="{names}")
        yield _files(words, [(names[path], path) for path in stays])
    if plan.unlinks:
        words = t("Removed: {names}", names="{names}")
        yield _files(words, [(names[path], path) for path in plan.unlinks])
    losses = [c.what for c in plan.concerns if c.level == "warn" and c.name in _LOSSES]
    yield from map(brief_html, losses)
    if plan.writes and not losses:  # a record alone holds no data
        yield from (escape(t("Snapshot {name} is deleted", name=shown(name))) for name in _gone_records(plan))


def _gone_records(plan: Plan) -> list[str]:
    after = {(record.guest, record.name) for record in plan.after.records}
    gone = (record for record in plan.before.records if (record.guest, record.name) not in after)
    return [record.name for record in gone if record.name != MANAGED_SAVE]


def brief(text: str) -> str:
    """Return a message that names files without their folders; a folder itself is named as a whole."""
    if not isinstance(text, Message):
        return text.rstrip("/").rpartition("/")[2] if text.startswith("/") and "\n" not in text else text
    fields = {
        name: brief(value) if isinstance(value, str) and not name.startswith("folder") else value
        for name, value in text.fields.items()
    }
    return Message(text.template, text.plural, **fields)


def brief_html(text: str) -> str:
    """Return a sentence that names files without their folders, in HTML; its tooltip has the whole paths."""
    said = brief(text)
    tip = f' title="{escape(shown(text))}"' if said != text else ""
    return f"<span{tip}>{escape(shown(capital(said)))}</span>"


def _paths(paths: Iterable[str]) -> str:
    return "\n".join(map(shown, paths))


def _files(words: Message, files: list[tuple[str, str]]) -> str:
    listed = [f'<code title="{escape(shown(path))}">{escape(shown(name))}</code>' for name, path in files[:_NAMED]]
    if len(files) > _NAMED:
        listed.append(escape(t("{count} more", count=len(files) - _NAMED)))
    return escape(words).replace("{names}", t(", ").join(listed))


def waivable(plan: Plan) -> dict[str, list[str]]:
    """Return what each concern risks that refuses the plan, by name; nothing where one of them cannot be waived."""
    refusing = [concern for concern in plan.concerns if concern.level == "refuse"]
    found: dict[str, list[str]] = {}
    for concern in refusing:
        found.setdefault(concern.name, []).append(brief(concern.what))
    return found if all(concern.waivable for concern in refusing) else {}


def changed_anything(report: Report) -> bool:
    """Return whether anything is other than before the run: not so after one that was cancelled in time."""
    plan = report.plan
    return bool(differences(plan.before, report.after, plan.about, plan.changes))


def _after_cancelling(report: Report) -> Message:
    if changed_anything(report):
        return t("the figure shows the current state")
    begun = (done.step for done in report.steps if done.state == "undone" and done.step.entry_path)
    paths = [path for step in begun for path in step.writes if path in report.after.images]
    if images := [shown(report.after[path].name) for path in paths]:
        return t("the chain is unchanged, but {images} may already contain some of the data", images=listed(images))
    return t("nothing was changed")


def outcome_html(report: Report) -> str:
    """Return how a run ended: what is, and not what was planned."""
    plan = report.plan
    title = shown(plan.title)
    if report.cancelled:
        return said_html(t("Cancelled: {title}", title=title), details=_after_cancelling(report))
    if not report.as_predicted:
        said = t("Done, but not as the plan predicted: {differences}", differences=clauses(report.differences))
        return said_html(title, details=brief(said), tip=said, mark="vmsnap-failed")
    chips: list[tuple[str, str]] = []
    if copied := sum(step.size for step in report.steps):
        chips.append((t("copied {size}", size=human_size(copied)), ""))
    seconds = sum(step.seconds or 0.0 for step in report.steps)
    chips.append((t("{seconds:.1f} s", seconds=seconds), ""))
    left = [path for path in plan.invalid if path in report.after.images and report.after.status(path) == "invalid"]
    details = t("Done, as the plan predicted.")
    if left:
        names = joined(shown(report.after[path].name) for path in left)
        details = t("Done, as the plan predicted. Invalid but still on disk: {names}", names=names)
    return said_html(title, chips=chips, details=details, mark="vmsnap-done")
