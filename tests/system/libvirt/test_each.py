"""Questions about many objects are asked at once where each answer takes long, and in order where it does not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest

from vmsnap_nb.system.libvirt.each import ask_each


def test_answers_are_in_order_and_slow_ones_are_waited_for_together() -> None:
    threads = set[str]()

    def slow(number: int) -> int:
        threads.add(threading.current_thread().name)
        time.sleep(0.01)
        return -number

    assert ask_each(slow, range(20)) == [-number for number in range(20)]
    assert len(threads) > 2


def test_quick_answers_need_no_threads() -> None:
    assert set(ask_each(lambda _: threading.current_thread().name, range(5))) == {threading.current_thread().name}
    assert ask_each(str, ()) == []


@pytest.mark.parametrize("late", [0.01, 1.0])
def test_a_single_slow_answer_is_no_reason_for_threads(monkeypatch: pytest.MonkeyPatch, late: float) -> None:
    clock = iter([0.0, *(late + number / 10_000 for number in range(50))])
    monkeypatch.setattr("vmsnap_nb.system.libvirt.each.time", SimpleNamespace(monotonic=lambda: next(clock)))

    def question(number: int) -> str:
        return threading.current_thread().name

    assert set(ask_each(question, range(50))) == {threading.current_thread().name}


def test_of_a_few_slow_answers_among_quick_ones_threads_come_when_they_are_slow_on_average() -> None:
    def question(number: int) -> str:
        time.sleep(0.01 if number % 2 else 0)
        return threading.current_thread().name

    assert len(set(ask_each(question, range(30)))) > 2


def test_the_first_error_is_raised() -> None:
    def question(number: int) -> int:
        time.sleep(0.005)
        if number >= 7:
            raise ValueError(str(number))
        return number

    with pytest.raises(ValueError, match="7"):
        ask_each(question, range(10))


def test_a_process_that_ends_asks_without_threads() -> None:
    code = """
        import atexit, time
        from vmsnap_nb.system.libvirt.each import ask_each
        atexit.register(lambda: print(ask_each(lambda one: time.sleep(0.005) or one, list(range(8)))))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[0, 1, 2, 3, 4, 5, 6, 7]\n", "")
