"""The line that says what goes on while a call waits."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from vmsnap_nb.live import phases
from vmsnap_nb.live.phases import Phases
from vmsnap_nb.words.message import t


class Bar:
    """What is shown, and when it is gone."""

    def __init__(self, line: str) -> None:
        self.lines = [line]
        self.shown = threading.Event()
        self.closed = False

    def set_description_str(self, line: str) -> None:
        self.lines.append(line)
        if "booting" in line:
            self.shown.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    made: list[Bar] = []

    def make(line: str) -> Any:
        made.append(Bar(line))
        return made[-1]

    monkeypatch.setattr(phases, "_bar", make)
    monkeypatch.setattr(phases, "_DELAY", 0.01)
    monkeypatch.setattr(phases, "_TICK", 0.01)
    return made


def test_a_wait_shows_its_phases_and_takes_the_line_away(bars: list[Bar]) -> None:
    with Phases(t("start {guest}", guest="alice")) as line:
        line.tell(t("starting QEMU"))
        while not bars:
            threading.Event().wait(0.005)
        line.tell(t("booting its Linux"))
        assert bars[0].shown.wait(30)
    (bar,) = bars
    assert bar.lines[0].startswith("start alice: ")  # a busy machine can be later than the first phase
    assert bar.lines[-1].startswith("start alice: booting its Linux (")
    assert bar.closed


def test_a_short_wait_or_one_of_another_thread_shows_nothing(bars: list[Bar], monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with Phases(t("start {guest}", guest="alice")):
            threading.Event().wait(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    monkeypatch.setattr(phases, "_DELAY", 60)
    with Phases(t("start {guest}", guest="alice")):
        pass
    assert bars == []


def test_a_thread_hears_the_phases_of_its_own_calls() -> None:
    heard: list[str] = []

    def call() -> None:
        with Phases(t("start {guest}", guest="bob")) as line:
            line.tell(t("starting QEMU"))
            line.tell(t("booting its Linux"), lambda: "Linux version")

    def listen() -> None:
        phases.listener.set(lambda phase, tail: heard.append(f"{phase}{': ' + tail() if tail else ''}"))
        call()

    for work in (listen, call):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert heard == ["starting QEMU", "booting its Linux: Linux version"]


def test_a_notebook_shows_what_is_written_meanwhile_below_the_line() -> None:
    bundle = phases._bundle("start <b>", "[1.0] <i>\n[2.0]")
    assert bundle["text/plain"] == "start <b>\n[1.0] <i>\n[2.0]"
    assert bundle["text/html"] == "<div>start &lt;b&gt;</div><pre>[1.0] &lt;i&gt;\n[2.0]</pre>"
    assert phases._bundle("") == {"text/plain": "", "text/html": ""}
