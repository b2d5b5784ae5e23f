"""A question with its options, and what became of a guess: plain values."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.number import invalid
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.words.message import Message, t

__all__ = ["NONE", "Asked", "Option", "Options", "Outcome", "Question", "Quizzed", "options_of"]

NONE = object()
"""No value: nothing was guessed, or nothing is known yet. None itself may be an answer."""
Options = Mapping[Hashable, str] | Iterable[Hashable] | None


@dataclass(frozen=True, slots=True)
class Option:
    """One possible answer."""

    value: Hashable
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question of the course; its texts are templates, so that they can be shown in each language."""

    name: str
    text: str
    why: str
    options: Options = None
    answer: Hashable = None  # of a quiz; a prediction has none, since the images tell


def options_of(options: Options) -> tuple[Option, ...]:
    """Return options as values with texts: of a mapping, of a list of values, or yes and no."""
    if options is None:
        return (Option(True, t("yes")), Option(False, t("no")))
    if isinstance(options, str | bytes) or not isinstance(options, Iterable):
        raise invalid(options, "options", t("{name} must be a list, or a dictionary", name="options"))
    pairs = options.items() if isinstance(options, Mapping) else [(value, str(value)) for value in options]
    made = tuple(Option(value, text) for value, text in pairs)
    if len(made) < 2 or len({option.value for option in made}) != len(made):
        raise InvalidRequestError(
            t("ask a question"),
            why=t("it needs at least two options, and they must differ"),
            next_step=t("pass options=[…], or omit them for yes and no"),
        )
    return made


@dataclass(frozen=True)
class Question(Listed):
    """A question, as it is shown."""

    text: str
    options: tuple[Option, ...]
    why: str = ""
    name: str = ""  # of the course, or empty

    def option(self, value: object) -> Option | None:
        """Return the option with this value, of the same type: True is not 1."""
        return next((one for one in self.options if one.value == value and type(one.value) is type(value)), None)

    def words(self, value: object) -> str:
        """Return a value as its option says it, or as it is."""
        found = self.option(value)
        return found.text if found else str(value)


@dataclass(frozen=True)
class Outcome(Listed):
    """The right answer, together with the guess.

    Attributes
    ----------
    question : Question
        The question.
    value : object
        The right answer.
    guess : object
        The option that was chosen before, or `NONE`.
    """

    question: Question
    value: object
    guess: object = field(default=NONE)

    @property
    def right(self) -> bool | None:
        """Whether the guess was right; None if there was no guess."""
        return None if self.guess is NONE else self.guess == self.value

    @property
    def verdict(self) -> Message:
        """A sentence that contains the right answer, and the guess if there was one."""
        happened = self.question.words(self.value)
        if self.guess is NONE:
            return t("It is: {happened}", happened=happened)
        if self.right:
            return t("As you expected: {happened}", happened=happened)
        guess = self.question.words(self.guess)
        return t("You expected: {guess}. It is: {happened}", guess=guess, happened=happened)

    @property
    def mark(self) -> str:
        """``right``, ``wrong``, or ``open`` if there was no guess."""
        return "open" if self.right is None else "right" if self.right else "wrong"

    def to_text(self) -> str:
        """Return the outcome as lines of text."""
        from vmsnap_nb.course.shown import outcome_text

        return outcome_text(self)

    def __repr__(self) -> str:
        return f"<Outcome: {self.verdict}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        from vmsnap_nb.course.shown import outcome_bundle

        return outcome_bundle(self)


@dataclass(frozen=True)
class Quizzed(Listed):
    """The result of a quiz.

    Attributes
    ----------
    outcomes : tuple of Outcome
        One outcome for each question.
    score_only : bool
        Whether only the score is shown, as in the test before the course.
    """

    outcomes: tuple[Outcome, ...]
    score_only: bool = False

    @property
    def score(self) -> int:
        """The number of right answers."""
        return sum(outcome.right is True for outcome in self.outcomes)

    def points(self, most: float) -> float:
        """Return the points for the quiz, which nbgrader reads from the last value of a cell.

        Parameters
        ----------
        most : float
            The points if all answers are right.

        Returns
        -------
        float
            The share of right answers, to two digits.
        """
        return round(float(most) * self.score / len(self.outcomes), 2) if self.outcomes else 0.0

    def __bool__(self) -> bool:
        return self.score == len(self.outcomes)

    @property
    def summary(self) -> Message:
        """The score in a sentence."""
        return t("{right} of {total} answers are right", right=self.score, total=len(self.outcomes))

    def to_text(self) -> str:
        """Return the score, and each answer with its reason."""
        from vmsnap_nb.course.shown import quizzed_text

        return quizzed_text(self)

    def __repr__(self) -> str:
        return f"<Quiz: {self.summary}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        from vmsnap_nb.course.shown import quizzed_bundle

        return quizzed_bundle(self)
