"""A guess is kept and compared with what happened; without a kernel the answer is folded; both languages agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import vmsnap_nb as vs
from vmsnap_nb.course.ask import shown_again
from vmsnap_nb.course.index import LESSONS, TESTS
from vmsnap_nb.course.question import NONE, Asked, options_of
from vmsnap_nb.course.shown import DATA
from vmsnap_nb.words.po import entries

PO = Path(vs.__file__).parent / "words" / "zh"
ROWS = [row for both in LESSONS.values() for rows in both for row in rows]
TESTED = [row for rows in TESTS.values() for row in rows]


def shown(thing: Any) -> dict[str, Any]:
    bundle: dict[str, Any] = thing._repr_mimebundle_()
    return bundle


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_has_five_predictions_and_a_quiz_of_five(lesson: str) -> None:
    predictions, quiz = LESSONS[lesson]
    assert len(predictions) >= 5
    assert len(quiz) == 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_quiz_knows_its_answer_and_a_prediction_does_not(row: Asked) -> None:
    values = [option.value for option in options_of(row.options)]
    assert (row.answer in values) if "/quiz/" in row.name else row.answer is None


def test_the_tests_before_and_after_ask_other_questions_about_the_same_things() -> None:
    before, after = ([row.name.partition("/")[2] for row in TESTS[name]] for name in ("before", "after"))
    assert before == after
    assert len({row.text for row in (*TESTED, *ROWS)}) == len(TESTED) + len(ROWS)
    for row in TESTED:
        assert row.answer in [option.value for option in options_of(row.options)], row.name


def test_names_are_unique_and_the_right_answer_is_not_always_at_the_same_place() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    places = [
        [option.value for option in options_of(row.options)].index(row.answer)
        for _, quiz in LESSONS.values()
        for row in quiz
    ]
    assert max(places.count(place) for place in set(places)) < len(places) * 2 / 3


def test_a_guess_is_compared_with_what_happened() -> None:
    question = vs.predict("How many files?", [1, 2], why="An overlay is a file.")
    assert question.check(2).right is None
    question.choose(1)
    outcome = question.check(2)
    assert outcome.right is False
    assert "You expected: 1. It is: 2" in outcome.to_text()
    assert "An overlay is a file." in outcome.to_text()
    question.choose(2)
    assert question.check(2).right


def test_what_happened_is_asked_for_when_it_is_compared() -> None:
    files = ["a"]
    question = vs.predict("How many files?", [1, 2], answer=lambda: len(files))
    files.append("b")
    question.choose(2)
    assert question.check().right


def test_without_anything_to_compare_with_it_says_what_to_pass() -> None:
    with pytest.raises(vs.InvalidRequestError, match="check"):
        vs.predict("Is it so?").check()


@pytest.mark.parametrize("options", [["a"], ["a", "a"], {}])
def test_options_must_be_at_least_two_that_differ(options: Any) -> None:
    with pytest.raises(vs.InvalidRequestError, match="at least two options"):
        vs.predict("Which?", options)


@pytest.mark.parametrize("number", [0, 3, "1"])
def test_an_option_that_is_not_there_is_not_chosen(number: Any) -> None:
    question = vs.predict("Is it so?")
    with pytest.raises(vs.InvalidRequestError, match="from 1 to 2"):
        question.choose(number)
    assert question.guess is NONE


def test_true_is_not_one() -> None:
    question = vs.predict("How many?", [1, 2]).question
    assert question.option(True) is None
    assert question.option(1) is not None


def test_without_a_kernel_the_answer_is_folded_and_the_question_gives_nothing_away() -> None:
    question = vs.predict("Is `a<b>` so?", why="Because & so.")
    html = shown(question)["text/html"]
    assert "<code>a&lt;b&gt;</code>" in html
    assert "Because" not in html
    folded = shown(question.check(True))["text/html"]
    assert folded.index("<details>") < folded.index("It is: yes") < folded.index("Because &amp; so.")
    question.choose(1)
    assert "<details>" not in shown(question.check(True))["text/html"]


def test_a_quiz_without_a_kernel_folds_each_answer() -> None:
    html = shown(vs.quiz("merging"))["text/html"]
    assert html.count("<details>") == 5


def test_a_quiz_counts_what_is_right() -> None:
    quiz = vs.quiz([vs.predict("1 + 1?", [1, 2], answer=2), vs.predict("Is 2 even?", answer=True)])
    quiz.choose(2)
    result = quiz.check()
    assert (result.score, bool(result)) == (1, False)
    assert result.points(3) == 1.5
    assert "1 of 2 answers are right" in result.to_text()
    assert "It is: yes" in shown(result)["text/html"]
    quiz.choose(2, 1)
    assert quiz.check()


def test_a_lesson_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(vs.NotFoundError, match="merging"):
        vs.quiz("mergin")


def test_without_ipywidgets_it_is_a_text_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "vmsnap_nb.course.widget", raising=False)
    monkeypatch.delattr("vmsnap_nb.course.widget", raising=False)
    question = vs.predict("merging/direction")
    bundle = shown(question)
    assert "application/vnd.jupyter.widget-view+json" not in bundle
    assert "1  commit, down" in bundle["text/plain"]
    assert ".choose(number)" in bundle["text/plain"]
    assert "<code>.choose(number)</code>" in bundle["text/html"]
    assert ".choose(number, number, …)" in shown(vs.quiz("merging"))["text/plain"]
    question.choose(1)
    assert question.check("pull").right is False


# -- the widgets ---------------------------------------------------------------------------------------------


def test_a_click_is_the_guess_and_the_outcome_is_said_to_a_screen_reader() -> None:
    question = vs.predict("Is it so?", why="It is not.")
    assert "application/vnd.jupyter.widget-view+json" in shown(question)
    box = question._box
    assert box.options.index is None
    box.options.index = 1
    assert question.guess is False
    question.check(False)
    assert 'role="status"' in box.result.value
    assert "As you expected: no" in box.result.value
    question.choose(1)
    assert box.options.index == 0


def test_the_button_of_a_quiz_shows_score_and_reasons() -> None:
    quiz = vs.quiz("quickstart")
    shown(quiz)
    for one in quiz.questions:
        wanted = one.check().value
        index = [option.value for option in one.question.options].index(wanted)
        one._box.options.index = index
    quiz._box.button.click()
    assert "5 of 5 answers are right" in quiz._box.score.value
    assert "Only the active layer is written to." in quiz.questions[0]._box.result.value


# -- another language ----------------------------------------------------------------------------------------


def test_a_saved_notebook_is_shown_again_in_chinese() -> None:
    saved = [shown(vs.predict("merging/direction")), shown(vs.predict("merging/direction").check("pull"))]
    saved.append(shown(vs.quiz("merging")))
    other = {"text/plain": "x"}
    vs.set_language("zh")
    try:
        question, outcome, quiz = (shown_again(bundle) for bundle in saved)
        assert shown_again(other) is other
    finally:
        vs.set_language(None)
    assert "哪个方向复制得更少" in question["text/html"]
    assert "实际是：向上合并" in outcome["text/html"]
    assert "向下合并写入哪个文件" in quiz["text/html"]
    assert [bundle[DATA] for bundle in (question, outcome, quiz)] == [bundle[DATA] for bundle in saved]
    assert shown_again(saved[1]) == saved[1]


def test_an_option_is_translated_as_an_answer_and_not_as_the_label_of_something_else() -> None:
    """Two texts that are the same in English share one translation, so each text in this list was read as an answer."""
    catalogues = {
        path.stem: {text for text, _ in entries(path.read_text(encoding="utf-8"))} for path in PO.glob("*.po")
    }
    elsewhere = set().union(*(texts for name, texts in catalogues.items() if name != "course"))
    used = {str(text) for row in (*ROWS, *TESTED) if isinstance(row.options, dict) for text in row.options.values()}
    assert used & elsewhere == {
        *("external disk snapshot", "internal disk snapshot"),
        *("no", "none", "paused", "running"),
    }


def test_the_test_before_the_course_gives_no_answer_away() -> None:
    quiz = vs.quiz("before")
    quiz.choose(*[1] * 8)
    assert "<details>" not in shown(quiz)["text/html"]
    result = quiz.check()
    assert result.score == sum(one.value == one.question.options[0].value for one in result.outcomes) > 0
    assert not [one for one in quiz.questions if one._box.result.value]
    for text in (result.to_text(), shown(result)["text/html"]):
        assert str(result.summary) in text
        assert not [one for one in result.outcomes if one.question.why in text or one.verdict in text]
    assert "<details>" in shown(vs.quiz("after"))["text/html"]
