"""What is printed does not act on the terminal, whatever files and guests are called."""

from __future__ import annotations

import contextlib
import io
import traceback
from types import SimpleNamespace
from typing import Any

import pytest

from vmsnap_nb.errors import ConcernWarning, InUseError, PlanRefusedError, VmsnapError
from vmsnap_nb.lab import magic
from vmsnap_nb.model.completed import Completed
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


def test_what_a_guest_wrote_has_colours_and_nothing_else_that_acts_on_a_terminal() -> None:
    wrote = "\x1b[1;31mred\x1b[0m 50%\r100%\n" + NAME + "\x1b]52;c;cm0=\x07\x1b[6n"
    shown = "\x1b[1;31mred\x1b[0m 50%\r100%\n" + SHOWN.replace("\\r", "\r") + r"\x1b]52;c;cm0=\x07\x1b[6n"
    assert str(Completed(0, wrote, "")) == shown
    assert wrote in Completed(0, wrote, "").stdout
    printed = io.StringIO()
    guest = SimpleNamespace(execute=lambda *_, **__: Completed(0, wrote, ""))
    magics: dict[str, Any] = {}
    shell = SimpleNamespace(
        user_ns={}, register_magic_function=lambda function, *, magic_kind, magic_name: magics.update(it=function)
    )
    magic.register(shell)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(magic, "_find", lambda *_: guest)
        magics["it"]("g", "true")
    assert printed.getvalue() == f"{shown}\n[g: exit status 0]\n"
