"""What is printed does not act on the terminal, whatever files and guests are called."""

from __future__ import annotations

import traceback

import pytest

from vmsnap_nb.errors import ConcernWarning, InUseError, PlanRefusedError, VmsnapError
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.plans.concern import Concern, refuse
from vmsnap_nb.views.error_lines import error_lines
from vmsnap_nb.words.message import t

pytestmark = pytest.mark.quick

NAME = "\x1b[2J\x1b]0;x\x07\r\u202e\x9b31m\u2028\udcff"
SHOWN = r"\x1b[2J\x1b]0;x\x07\r\u202e\x9b31m\u2028\xff"


def concern() -> Concern:
    return refuse("in-use", t("{image} is in use", image=NAME), t("stop {program}", program=NAME))


def test_errors_and_their_notes() -> None:
    error = InUseError(t("read {image}", image=NAME), said=NAME, why=NAME, next_step=NAME)
    error.add_note(NAME)
    assert str(error) == f"cannot read {SHOWN}\n  why:  {SHOWN}\n  said: {SHOWN}\n  next: {SHOWN}"
    for text in ("\n".join(error_lines(error)), "".join(traceback.format_exception(error))):
        assert text.count(SHOWN) == 5
        assert NAME[0] not in text
    assert error.quoted == NAME  # for programs it is as it was
    assert SHOWN in str(PlanRefusedError(NAME, [concern()]))
    assert str(ConcernWarning(NAME, concern())).count(SHOWN) == 3
    assert str(VmsnapError("read\nlines")) == "cannot read\nlines"


def test_what_objects_say_of_themselves() -> None:
    assert SHOWN in repr(concern())

    class Named(Listed):
        def __repr__(self) -> str:
            return f"<{NAME}>"

    class More(Named):
        pass

    assert repr(Named()) == repr(More()) == f"<{SHOWN}>"
