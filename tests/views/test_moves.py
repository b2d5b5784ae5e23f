"""How much data a plan copies, in words."""

from __future__ import annotations

import pytest

from vmsnap_nb.views.moves import copied, move_label

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("size", "said"), [(None, "copies an unknown amount of data"), (0, "copies no data"), (3 << 20, "copies 3 MiB")]
)
def test_all_that_is_copied(size: int | None, said: str) -> None:
    assert str(copied(size)) == said


@pytest.mark.parametrize(
    ("size", "down", "up"),
    [
        (None, "commit data", "stream data"),
        (0, "commit, no data", "stream, no data"),
        (512, "commit data, 512 B", "stream data, 512 B"),
    ],
)
def test_what_an_arrow_says(size: int | None, down: str, up: str) -> None:
    assert (str(move_label("commit data", size)), str(move_label("stream data", size))) == (down, up)
