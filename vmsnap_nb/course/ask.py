"""Predictions and quizzes: what a notebook asks, keeps and compares."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from vmsnap_nb.course.index import SCORE_ONLY, find_question, find_quiz
from vmsnap_nb.course.question import NONE, Asked, Options, Outcome, Question, Quizzed, options_of
from vmsnap_nb.course.shown import DATA, question_bundle, question_text, quiz_bundle, quiz_text, told_how
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.arguments import checked
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.words.message import t

__all__ = ["Prediction", "Quiz", "predict", "quiz", "shown_again"]


class Prediction(Listed):
    """A question with a guess, which is stored until `check` compares it with the right answer."""

    def __init__(self, question: Question, answer: object = NONE) -> None:
        self.question = question
        self.guess: object = NONE
        self._answer = answer
        self._box: Any = None

    def choose(self, number: int) -> None:
        """Choose an option by its number in the text, with the same effect as a click.

        Parameters
        ----------
        number : int
            The number of the option; 1 for the first option.

        Raises
        ------
        InvalidRequestError
            The option does not exist.
        """
        options = self.question.options
        if number not in range(1, len(options) + 1):  # the text of an option is no number, either
            raise InvalidRequestError(
                t("choose an option"),
                why=t("there is no option number {number}", number=number),
                next_step=t("choose a number from 1 to {last}", last=len(options)),
            )
        self.guess = options[number - 1].value
        if self._box is not None:
            self._box.select(number - 1)

    def check(self, value: object = NONE) -> Outcome:
        """Compare the guess with the right answer.

        Parameters
        ----------
        value : object, optional
            The right answer, computed from the real images. Default: the question's own `answer`.

        Returns
        -------
        Outcome
            The result: the guess, the right answer, and the explanation.

        Raises
        ------
        InvalidRequestError
            No value was passed, and the question has no answer.
        """
        outcome = self._compare(value)
        if self._box is not None:
            self._box.tell(outcome)
        return outcome

    def _compare(self, value: object = NONE) -> Outcome:
        found = self._answer if value is NONE else value
        found = found() if callable(found) else found
        if found is NONE:
            raise InvalidRequestError(
                t("compare a prediction"),
                why=t("the actual result is not known"),
                next_step=t("pass the actual result: check(value)"),
            )
        return Outcome(self.question, found, self.guess)

    def to_text(self) -> str:
        """Return the question and its options, numbered.

        Returns
        -------
        str
        """
        return question_text(self.question)

    def __repr__(self) -> str:
        return f"<Prediction: {self.question.text}>"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        name = self.question.name
        static = question_bundle(self.question, {"kind": "question", "name": name} if name else {})
        if self._box is None:
            self._box = _widget("QuestionBox", self.question, self._chosen)
        if self._box is None:
            return told_how(static, t("Answer with `.choose(number)`; the first option is number 1."))
        return {**self._box.bundle(**options), **static}

    def _chosen(self, index: int | None) -> None:
        self.guess = NONE if index is None else self.question.options[index].value


class Quiz(Listed):
    """Several questions whose answers are known."""

    def __init__(self, questions: Sequence[Prediction], name: str = "") -> None:
        self.questions = tuple(questions)
        self._name = name
        self._box: Any = None

    def choose(self, *numbers: int) -> None:
        """Choose an option for each question, by number.

        Parameters
        ----------
        *numbers : int
            One number for each question, in order.

        Raises
        ------
        InvalidRequestError
            The option does not exist.
        """
        for question, number in zip(self.questions, numbers, strict=False):
            question.choose(number)

    def check(self) -> Quizzed:
        """Compare all answers.

        Returns
        -------
        Quizzed
            The score, and each answer with its reason. The result is true if all answers are right. The test before
            the course shows only the score.
        """
        if self._name in SCORE_ONLY:
            return Quizzed(tuple(question._compare() for question in self.questions), score_only=True)  # noqa: SLF001
        return Quizzed(tuple(question.check() for question in self.questions))

    def to_text(self) -> str:
        """Return all questions and options, numbered.

        Returns
        -------
        str
        """
        return quiz_text([one.question for one in self.questions])

    def __repr__(self) -> str:
        return f"<Quiz of {len(self.questions)} questions>"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        static = self._static()
        if self._box is None:
            self._box = _widget("QuizBox", self)
        if self._box is None:
            how = t("Answer with `_.choose(number, number, …)`, one number for each question, then `_.check()`.")
            return told_how(static, how)
        return {**self._box.bundle(**options), **static}

    def _static(self) -> dict[str, Any]:
        outcomes = (Outcome(one.question, one._answer) for one in self.questions)  # noqa: SLF001
        return quiz_bundle(outcomes, self._name, answers=self._name not in SCORE_ONLY)


def _widget(kind: str, *arguments: object) -> Any:
    """Return a widget, or None without ipywidgets: then the text says how to choose."""
    try:
        from vmsnap_nb.course import widget
    except ModuleNotFoundError:
        return None
    return getattr(widget, kind)(*arguments)


def _asked(row: Asked) -> Prediction:
    options = row.options
    if isinstance(options, dict):
        options = {value: t(text) for value, text in options.items()}
    answer = NONE if row.answer is None else row.answer
    return Prediction(Question(t(row.text), options_of(options), t(row.why), row.name), answer)


@checked
def predict(
    question: str,
    options: Options = None,
    *,
    answer: Callable[[], object] | Hashable = NONE,
    why: str = "",
) -> Prediction:
    """Ask for a prediction before an experiment.

    Parameters
    ----------
    question : str
        The text of the question or, if no other argument is passed, the name of one of the course's questions.
    options : dict, iterable, optional
        The possible answers, as values or as a dict of values and their texts. Default: yes (True) and no (False).
    answer : callable or value, optional
        The right answer, or a function that `Prediction.check` calls to compute it. Without `answer`, pass the value to
        `check`.
    why : str
        An explanation of the usual misconception, which is shown with the right answer.

    Returns
    -------
    Prediction
        In a notebook, the prediction is displayed with buttons for the options. Without ipywidgets, it is displayed as
        text, and you choose with `Prediction.choose`.

    Raises
    ------
    InvalidRequestError
        There are fewer than two options, or two options are equal.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> p = vs.predict("Is an overlay as large as its base?", why="It holds only what was written to it.")
    >>> p.choose(1)
    >>> p.check(False)
    <Outcome: You expected: yes. It is: no>
    """
    row = find_question(question)
    if row is not None and options is None and answer is NONE and not why:
        return _asked(row)
    return Prediction(Question(question, options_of(options), why), answer)


@checked
def quiz(questions: str | Sequence[Prediction]) -> Quiz:
    """Ask several questions, and check all answers together.

    Parameters
    ----------
    questions : str or sequence of Prediction
        Predictions with an `answer`, or the name of one of the course's lessons. ``before`` and ``after`` are the names
        of the tests before and after the course.

    Returns
    -------
    Quiz
        The quiz, which is displayed in a notebook.

    Raises
    ------
    NotFoundError
        No lesson has that name.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> quiz = vs.quiz([vs.predict("1 + 1?", [1, 2, 3], answer=2), vs.predict("Is 2 even?", answer=True)])
    >>> quiz.choose(2, 2)
    >>> quiz.check()
    <Quiz: 1 of 2 answers are right>
    """
    if isinstance(questions, str):
        return Quiz([_asked(row) for row in find_quiz(questions)], questions)
    return Quiz(questions)


def shown_again(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return in the current language what a saved notebook shows of a question of the course; all else as it is."""
    data = bundle.get(DATA)
    if not data:
        return bundle
    if data["kind"] == "quiz":
        return quiz(data["name"])._static()  # noqa: SLF001
    question = predict(data["name"]).question
    if data["kind"] == "question":
        return question_bundle(question, data)
    return Outcome(question, data["value"])._repr_mimebundle_()
