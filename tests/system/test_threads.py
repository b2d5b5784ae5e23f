"""Work in threads, and the same without them."""

from __future__ import annotations

import threading
import time

import pytest

from vmsnap_nb.system.threads import TOTAL, in_threads, shared_by


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


@pytest.mark.parametrize(("hosts", "most"), [(1, 40), (32, TOTAL // 32), (1000, 1)])
def test_hosts_that_are_read_at_once_share_the_threads(hosts: int, most: int) -> None:
    with shared_by(hosts):
        assert len(set(in_threads(lambda _: threading.current_thread().name, range(80), 40))) <= most
