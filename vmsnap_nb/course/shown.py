"""Questions and answers as text, and as HTML that needs no kernel: an answer is folded until somebody opens it.

A question of the course also gives its name and value as data (`DATA`), so that a saved notebook can be shown in
another language without being executed again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from vmsnap_nb.course.question import Outcome, Question, Quizzed
from vmsnap_nb.words.message import t

__all__ = [
    "DATA",
    "marked_up",
    "outcome_bundle",
    "outcome_html",
    "outcome_text",
    "question_bundle",
    "question_text",
    "quiz_bundle",
    "quiz_text",
    "quizzed_bundle",
    "quizzed_text",
    "told_how",
]

DATA = "application/vnd.vmsnap.course+json"
"""The MIME type of what was asked."""
_CODE = re.compile(r"`([^`]+)`")
_SIGN = {"right": "✓", "wrong": "✗", "open": "•"}
# Half transparent, so that both themes keep the colour and the contrast of their text.
_TINT = {"right": "rgba(46,160,67,.16)", "wrong": "rgba(218,54,51,.16)", "open": "rgba(128,128,128,.12)"}
_BOX = "border-left:4px solid {edge};padding:.5em 1em;margin:.3em 0;max-width:60em;background:{tint}"
_EDGE = {"right": "#2ea043", "wrong": "#da3633", "open": "#8a8a8a", "asked": "#2f6fdb"}


def marked_up(text: str) -> str:
    """Return a text as HTML; what is between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _box(inner: str, kind: str) -> str:
    style = _BOX.format(edge=_EDGE[kind], tint=_TINT.get(kind, "transparent"))
    return f'<div class="vmsnap-question" style="{style}">{inner}</div>'


def question_text(question: Question) -> str:
    """Return a question and its options, each with the number by which it is chosen."""
    numbered = [f"  {number}  {option.text}" for number, option in enumerate(question.options, 1)]
    return "\n".join([question.text, *numbered])


def _options_html(question: Question) -> str:
    rows = "".join(f"<li>{marked_up(option.text)}</li>" for option in question.options)
    return f"<ul>{rows}</ul>"


def question_bundle(question: Question, data: dict[str, Any]) -> dict[str, Any]:
    """Return what a notebook shows of a question where there is no kernel."""
    call = t("Predict")
    head = f"<p><strong>{escape(call)}</strong> {marked_up(question.text)}</p>"
    bundle: dict[str, Any] = {
        "text/plain": str(t("{name}: {what}", name=call, what=question_text(question))),
        "text/html": _box(head + _options_html(question), "asked"),
    }
    return bundle | ({DATA: data} if data else {})


def told_how(bundle: dict[str, Any], how: str) -> dict[str, Any]:
    """Return what is shown with how to answer, where there are no buttons."""
    return bundle | {
        "text/plain": f"{bundle['text/plain']}\n{how}",
        "text/html": f"{bundle['text/html']}<p>{marked_up(how)}</p>",
    }


def outcome_text(outcome: Outcome) -> str:
    """Return the verdict and its reason."""
    why = outcome.question.why
    return f"{_SIGN[outcome.mark]} {outcome.verdict}" + (f"\n  {why}" if why else "")


def outcome_html(outcome: Outcome, *, below: bool = False) -> str:
    """Return the verdict and its reason; folded if nothing was guessed. `below` the question it is not repeated."""
    verdict = f"{_SIGN[outcome.mark]} {marked_up(outcome.verdict)}"
    why = f"<p>{marked_up(outcome.question.why)}</p>" if outcome.question.why else ""
    if outcome.mark == "open":
        asked = "" if below else f"<p>{marked_up(outcome.question.text)}</p>"
        summary = t("Answer") if below else t("Show what happened")
        inner = f"{asked}<details><summary>{escape(summary)}</summary><p>{verdict}</p>{why}</details>"
    else:
        inner = f"<p><strong>{verdict}</strong></p>{why}"
    return _box(inner, outcome.mark)


def outcome_bundle(outcome: Outcome) -> dict[str, Any]:
    """Return what a notebook shows of what happened."""
    bundle: dict[str, Any] = {"text/plain": outcome_text(outcome), "text/html": outcome_html(outcome)}
    if outcome.question.name and isinstance(outcome.value, bool | int | float | str):
        bundle[DATA] = {"kind": "outcome", "name": outcome.question.name, "value": outcome.value}
    return bundle


def quiz_text(questions: Sequence[Question]) -> str:
    """Return all questions of a quiz, numbered."""
    return "\n".join(f"{number}. {question_text(question)}" for number, question in enumerate(questions, 1))


def quiz_bundle(answered: Iterable[Outcome], name: str, *, answers: bool = True) -> dict[str, Any]:
    """Return what a notebook shows of a quiz where there is no kernel: each answer is folded, or left out."""
    outcomes = list(answered)
    rows, answer, quiz = [], t("Answer"), t("Quiz")
    for outcome in outcomes:
        folded = (
            f"<details><summary>{escape(answer)}</summary><p>{marked_up(outcome.verdict)}</p>"
            f"<p>{marked_up(outcome.question.why)}</p></details>"
        )
        asked = f"{marked_up(outcome.question.text)}{_options_html(outcome.question)}"
        rows.append(f"<li>{asked}{folded if answers else ''}</li>")
    head = f"<p><strong>{escape(quiz)}</strong></p>"
    bundle: dict[str, Any] = {
        "text/plain": quiz_text([outcome.question for outcome in outcomes]),
        "text/html": _box(f"{head}<ol>{''.join(rows)}</ol>", "asked"),
    }
    return bundle | ({DATA: {"kind": "quiz", "name": name}} if name else {})


def quizzed_text(result: Quizzed) -> str:
    """Return the score, and each answer with its reason."""
    if result.score_only:
        later = t("The lessons give the answers.")
        return f"{result.summary}\n{later}"
    rows = [f"{number}. {outcome_text(one)}" for number, one in enumerate(result.outcomes, 1)]
    return "\n".join([result.summary, *rows])


def quizzed_bundle(result: Quizzed) -> dict[str, Any]:
    """Return what a notebook shows of the result of a quiz."""
    rows = "".join(f"<li>{outcome_html(outcome)}</li>" for outcome in result.outcomes)
    later = t("The lessons give the answers.")
    below = f"<p>{escape(later)}</p>" if result.score_only else f"<ol>{rows}</ol>"
    html = f"<p><strong>{escape(result.summary)}</strong></p>{below}"
    return {"text/plain": quizzed_text(result), "text/html": html}
