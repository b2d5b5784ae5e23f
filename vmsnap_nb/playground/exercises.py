"""The exercises of the page: tasks in reading, predictions and quizzes, as HTML, and what became of an answer."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from vmsnap_nb.course.ask import Quiz, predict, quiz
from vmsnap_nb.course.index import LESSONS
from vmsnap_nb.course.question import Question
from vmsnap_nb.course.shown import marked_up, outcome_html
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.playground.questions import PREDICTIONS, TASKS, Prediction, Task
from vmsnap_nb.words.message import N_, t

__all__ = ["checked", "exercise_groups", "shown_exercise"]

_LESSONS = {
    "quickstart": N_("Quickstart"),
    "backing-files": N_("Backing files and overlays"),
    "snapshots": N_("Snapshots"),
    "external-snapshots": N_("External snapshots"),
    "merging": N_("Merging"),
    "panels": N_("Panels"),
    "offline-repair": N_("Offline repair"),
    "real-host": N_("A real host"),
}
_QUIZ = "quiz:"


def exercise_groups() -> list[dict[str, Any]]:
    """Return what can be chosen, in groups."""
    quizzes = [{"name": _QUIZ + name, "title": t(_LESSONS[name])} for name in LESSONS]
    predictions = [{"name": one.name, "title": t(one.asked.text).replace("`", "")} for one in PREDICTIONS]
    tasks = [{"name": task.name, "title": t(task.title)} for task in TASKS]
    return [
        {"title": t("Read"), "exercises": tasks},
        {"title": t("Predict"), "exercises": predictions},
        {"title": t("Quiz of a lesson"), "exercises": quizzes},
    ]


def shown_exercise(name: str) -> dict[str, Any]:
    """Return an exercise: the images that it is about, its text, and the options of each question."""
    found = _find(name)
    if isinstance(found, Task):
        return {"scene": name, "html": f"<p>{marked_up(t(found.task))}</p>", "hint": marked_up(t(found.help.idea))}
    if isinstance(found, Quiz):
        return {"scene": None, "html": "", "questions": [_question(one.question) for one in found.questions]}
    context = f"<p>{marked_up(t(found.context))}</p>" if found.context else ""
    return {"scene": found.scene, "html": context, "questions": [_question(predict(name).question)]}


def checked(name: str, answers: list[Any], images: Callable[[str], LiveForest]) -> str:
    """Return as HTML what became of the answers; `images` reads those of a scene."""
    found = _find(name)
    if isinstance(found, Task):
        return _task_html(found, str(answers[0]), images(name))
    if isinstance(found, Quiz):
        for question, answer in zip(found.questions, answers, strict=True):
            if answer is not None:
                question.choose(answer + 1)
        result = found.check()
        rows = "".join(f"<li>{outcome_html(outcome)}</li>" for outcome in result.outcomes)
        return f"<p><strong>{escape(result.summary)}</strong></p><ol>{rows}</ol>"
    asked = predict(name)
    if answers[0] is not None:
        asked.choose(answers[0] + 1)
    return outcome_html(asked.check(found.answer(images(found.scene))), below=True)


def _find(name: str) -> Task | Quiz | Prediction:
    if name.startswith(_QUIZ):
        return quiz(name.removeprefix(_QUIZ))
    everything: dict[str, Task | Prediction] = {one.name: one for one in (*TASKS, *PREDICTIONS)}
    return everything[name]


def _question(question: Question) -> dict[str, Any]:
    return {"html": marked_up(question.text), "options": [marked_up(option.text) for option in question.options]}


def _task_html(task: Task, answer: str, forest: LiveForest) -> str:
    given = {word.removesuffix(".qcow2").lower() for word in answer.replace(",", " ").replace("，", " ").split()}
    expected = {name.lower() for name in task.answer(forest)}
    if given != expected:
        wrong = t("This is not the correct answer yet.")
        return f"<p>✗ {escape(wrong)}</p>"
    right, why = t("Correct."), marked_up(t(task.help.why))
    return f"<p><strong>✓ {escape(right)}</strong></p><p>{why}</p>"
