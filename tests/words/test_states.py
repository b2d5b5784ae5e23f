"""The states of guests and of images have words in both languages, in plans as in figures."""

from __future__ import annotations

from typing import cast, get_args

import pytest

from vmsnap_nb.model.image import Status
from vmsnap_nb.words.message import Message
from vmsnap_nb.words.states import state_words


@pytest.mark.parametrize(
    ("state", "english", "chinese"),
    [
        ("running", "running", "运行中"),
        ("shut off", "shut off", "已关机"),
        ("pmsuspended", "suspended", "已挂起"),
        ("not-a-file", "not a file", "不是文件"),
    ],
)
def test_a_state_is_a_message(state: str, english: str, chinese: str) -> None:
    said = cast(Message, state_words(state))
    assert (said.in_language("en"), said.in_language("zh")) == (english, chinese)


def test_every_state_of_an_image_has_words() -> None:
    assert [one for one in get_args(Status) if one != "ok" and not isinstance(state_words(one), Message)] == []


def test_an_unknown_state_stays_as_it_is() -> None:
    assert state_words("melted") == "melted"
