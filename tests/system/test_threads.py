"""Work in threads, and the same without them."""

from __future__ import annotations

import threading
import time

import pytest

from vmsnap_nb.system.threads import in_threads


def slow(number: int) -> str:
    time.sleep(0.01)
    if number == 7:
        raise ValueError(number)
    return threading.current_thread().name


def test_at_most_so_many_at_once() -> None:
    names = in_threads(slow, range(6), 3)
    assert all(name.startswith("vmsnap-each") for name in names)
    assert 1 < len(set(names)) <= 3
    assert in_threads(slow, range(1), 3) == [threading.current_thread().name]
    assert in_threads(slow, (), 3) == []


def test_one_after_the_other_where_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert in_threads(slow, range(6), 3) == [threading.current_thread().name] * 6


def test_an_error_is_that_of_the_first_item() -> None:
    with pytest.raises(ValueError, match="7"):
        in_threads(slow, range(9), 3)
