"""What guests that are not ours answer: each odd answer is a named error, soon, and none takes all memory."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmsnap_nb.errors import GuestError, GuestNotReadyError, VmsnapError
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.system.guest import agent
from vmsnap_nb.system.guest.console import plain, read_console
from vmsnap_nb.system.guest.port import MAX_OUTPUT, Port, run_on_port

libvirt = pytest.importorskip("libvirt")


class Stream:
    """A stream of libvirt whose other end is a guest: `answer` gives what that has written so far, piece by piece."""

    def __init__(self) -> None:
        self.answer: Iterator[bytes] = iter(())
        self.callback: Callable[..., None] | None = None
        self.readable = True
        self.sent = b""
        self.taken = 0

    def eventAddCallback(self, _: int, callback: Callable[..., None], opaque: object) -> None:  # noqa: N802
        self.callback = callback
        threading.Thread(target=self._loop, args=(callback, opaque), daemon=True).start()

    def eventUpdateCallback(self, events: int) -> None:  # noqa: N802
        self.readable = bool(events & libvirt.VIR_STREAM_EVENT_READABLE)

    def eventRemoveCallback(self) -> None:  # noqa: N802
        self.callback = None

    def _loop(self, callback: Callable[..., None], opaque: object) -> None:
        while self.callback is not None:
            if self.readable and self.sent:
                callback(self, libvirt.VIR_STREAM_EVENT_READABLE, opaque)
            time.sleep(0.001)

    def recv(self, size: int) -> bytes | int:
        piece = next(self.answer, None)
        if piece is None:
            return -2
        assert len(piece) <= size
        self.taken += len(piece)
        return piece

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def abort(self) -> None:
        self.callback = None


class Domain:
    def name(self) -> str:
        return "g"

    def openChannel(self, *_: object) -> None:  # noqa: N802
        return


def ask(answer: Callable[[bytes], Iterator[bytes]], timeout: float = 1, deadline: float | None = None) -> Completed:
    """Run a command on a port whose guest answers so; `answer` is given the command's name."""
    stream = Stream()

    class Connection:
        def newStream(self, _: int) -> Stream:  # noqa: N802
            return stream

    def answers() -> Iterator[bytes]:
        yield from answer(stream.sent.split()[0])

    stream.answer = answers()
    with Port(Connection(), Domain(), "p") as port:
        return run_on_port(port, "true", timeout=timeout, deadline=deadline)


def text(answer: bytes) -> Callable[[bytes], Iterator[bytes]]:
    return lambda name: iter([answer.replace(b"NAME", name)])


def test_an_answer_of_ours() -> None:
    done = ask(text(b"garbage\n@other out\nAAAA\n@NAME out\nb3V0\nCg==\n@NAME err\n@NAME end 7 0\n"))
    assert done == Completed(7, "out\n", "", b"out\n", b"")


@pytest.mark.parametrize(
    "answer",
    [
        b"@NAME end x 0\n",
        b"@NAME end\n",
        b"@NAME end 0\n",
        b"@NAME end 0 2\n",
        b"@NAME end -1 0\n",
        b"@NAME end 1000 0\n",
        b"@NAME end \xc2\xb2 0\n",  # a digit that is no number
        b"@NAME end " + b"9" * 5000 + b" 0\n",
        b"@NAME out\nA\n@NAME end 0 0\n",
        b"@NAME out\nAA==AA==\n@NAME end 0 0\n",
        b"@NAME out\n\xff\xfe\n@NAME end 0 0\n",
        b"@NAME err\n\xc3\xa4\xc3\xa4\n@NAME end 0 0\n",
    ],
)
def test_an_odd_answer_is_a_named_error(answer: bytes) -> None:
    with pytest.raises(GuestError, match="not valid") as refused:
        ask(text(answer))
    assert len(str(refused.value)) < 1000
    assert refused.value.next_step


@settings(max_examples=100)
@given(
    answer=st.binary(max_size=300)
    | st.lists(
        st.sampled_from([b"@NAME", b"@", b"@x", b"out", b"err", b"end", b" ", b"\n", b"0", b"1", b"QUFB", b"\0", b"\r"])
    ).map(b"".join)
)
def test_any_answer_is_one_or_a_named_error(answer: bytes) -> None:
    try:
        done = ask(text(answer + b"\n@NAME end 0 0\n"), timeout=5)
    except GuestError:
        return
    assert isinstance(done, Completed)


def flood(piece: bytes) -> Callable[[bytes], Iterator[bytes]]:
    def pieces(name: bytes) -> Iterator[bytes]:
        yield b"@" + name + b" out\n"
        while True:
            yield piece

    return pieces


@pytest.mark.parametrize("piece", [b"y\n" * 32768, bytes(65536), b"QUFB" * 19 + b"\n", b"@x out\n" * 5000])
def test_a_flood_ends_with_the_time_and_takes_no_memory(piece: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(GuestNotReadyError, match="longer than 1 s"):
        ask(flood(piece))
    assert time.monotonic() - began < 2.5


def test_a_guest_is_not_read_further_than_somebody_takes_it() -> None:
    stream = Stream()
    stream.answer = flood(b"y" * 60000)(b"")
    stream.sent = b"begun"

    class Connection:
        def newStream(self, _: int) -> Stream:  # noqa: N802
            return stream

    with Port(Connection(), Domain(), "p"):
        time.sleep(0.3)
        assert stream.taken < 1 << 20
        assert not stream.readable


def test_a_guest_that_hangs_and_one_that_closes_its_port() -> None:
    began = time.monotonic()
    with pytest.raises(GuestNotReadyError, match="longer than 1 s"):
        ask(lambda _: iter(()))
    assert 1 < time.monotonic() - began < 2
    with pytest.raises(GuestNotReadyError, match="closed"):
        ask(text(b""), timeout=60)


def test_output_is_cut_at_its_limit_and_says_so() -> None:
    def much(count: int) -> Callable[[bytes], Iterator[bytes]]:
        def pieces(name: bytes) -> Iterator[bytes]:
            yield b"@" + name + b" out\n"
            data = base64.b64encode(bytes(count))
            yield from (data[start : start + 76] + b"\n" for start in range(0, len(data), 76))
            yield b"@" + name + b" end 0 0\n"

        return pieces

    whole, cut = ask(much(MAX_OUTPUT), timeout=60), ask(much(2 * MAX_OUTPUT), timeout=60)
    assert (len(whole.stdout_bytes), whole.cut) == (MAX_OUTPUT, False)
    assert (len(cut.stdout_bytes), cut.cut) == (MAX_OUTPUT, True)
    assert "the output is truncated" in str(cut)
    assert "cut=True" in repr(cut)
    assert "cut" not in str(whole)


def test_errors_show_only_a_part_of_much_output() -> None:
    with pytest.raises(GuestError) as failed:
        Completed(1, "", "x" * 100000).check()
    assert len(str(failed.value)) < 5000
    with pytest.raises(GuestError, match="longer than 1 s") as late:
        ask(lambda name: iter([b"@%s out\n" % name, b"QUFB" * 16000 + b"\n", b"@%s end 137 1\n" % name]), timeout=1)
    assert len(str(late.value)) < 5000


def test_the_listener_sends_a_little_more_than_is_kept() -> None:
    from importlib import resources

    listener = resources.files("vmsnap_nb.lab").joinpath("boot", "listen.sh").read_text()
    assert f"bs=65536 count={MAX_OUTPUT // 65536 + 1} " in listener


# -- the agent ----------------------------------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the agent of every guest answer so, one after the other."""
    import libvirt_qemu

    def give(*texts: str) -> None:
        rest = iter(texts)
        monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", lambda *_: next(rest))

    return give


PID = '{"return": {"pid": 1}}'


def ended(**fields: object) -> str:
    return json.dumps({"return": {"exited": True, "exitcode": 0, **fields}})


def test_an_answer_of_an_agent(answers: Callable[..., None]) -> None:
    answers(PID, ended(**{"out-data": "b3V0Cg==", "out-truncated": True}))
    done = agent.run_by_agent(Domain(), "true", timeout=5)
    assert (done.exit_status, done.stdout, done.cut) == (0, "out\n", True)
    answers(PID, '{"return": {"exited": true, "signal": 9}}')
    assert agent.run_by_agent(Domain(), "true", timeout=5).exit_status == 137


@pytest.mark.parametrize(
    "texts",
    [
        ["garbage"],
        ["[" * 100000],
        ['{"x": 1}'],
        ["null"],
        ['{"return": []}'],
        ['{"return": {}}'],
        ['{"return": {"pid": "1"}}'],
        ['{"return": {"pid": true}}'],
        ['{"return": {"pid": 1e999}}'],
        ['{"return": {"pid": ' + "9" * 5000 + "}}"],
        [PID, '{"return": {}}'],
        [PID, '{"return": {"exited": 1}}'],
        [PID, '{"return": {"exited": true}}'],
        [PID, ended(exitcode="x")],
        [PID, ended(exitcode=2**40)],
        [PID, ended(signal="x")],
        [PID, ended(**{"out-data": "A"})],
        [PID, ended(**{"out-data": ["QUFB"]})],
        [PID, ended(**{"err-data": "\u5feb"})],
    ],
)
def test_an_odd_answer_of_an_agent_is_a_named_error(answers: Callable[..., None], texts: list[str]) -> None:
    answers(*texts)
    with pytest.raises(GuestError, match="not valid") as refused:
        agent.run_by_agent(Domain(), "true", timeout=5)
    assert len(str(refused.value)) < 1000


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
field_names = st.sampled_from(["pid", "exited", "exitcode", "signal", "out-data", "err-data", "out-truncated"])


@settings(max_examples=100)
@given(
    first=st.just(PID) | json_value.map(json.dumps) | st.text(),
    then=st.dictionaries(field_names, json_value).map(lambda fields: json.dumps({"return": fields})) | st.text(),
)
def test_any_answer_of_an_agent_is_one_or_a_named_error(first: str, then: str) -> None:
    import libvirt_qemu

    rest = iter([first])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libvirt_qemu, "qemuAgentCommand", lambda *_: next(rest, then))
        try:
            assert isinstance(agent.run_by_agent(Domain(), "true", timeout=0.01), Completed)
        except GuestError:
            return


@pytest.mark.parametrize("hangs_at", [0, 1])
def test_an_agent_that_hangs_ends_with_the_time(monkeypatch: pytest.MonkeyPatch, hangs_at: int) -> None:
    import libvirt_qemu

    calls = iter(range(100))

    def ask(*_: Any) -> str:
        if next(calls) >= hangs_at:
            time.sleep(20)
        return PID

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", ask)
    began = time.monotonic()
    with pytest.raises(GuestNotReadyError):
        agent.run_by_agent(Domain(), "true", timeout=0.5)
    assert not agent.agent_answers(Domain(), seconds=0.2)
    assert time.monotonic() - began < 3


# -- the console --------------------------------------------------------------------------------------------


def test_a_console_log_that_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    for name in ("fifo", "link", "/dev/zero", "."):
        began = time.monotonic()
        with pytest.raises(VmsnapError, match="read the console log"):
            read_console(str(tmp_path / name))
        assert time.monotonic() - began < 5
    assert read_console(str(tmp_path / "nowhere")) == ""


def test_much_of_a_console_is_cut_and_read_soon(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for piece in (b"\x1b[", b"\x1b[0;", b"0" * 100, b"\xff", b"\n"):
        log.write_bytes(piece * ((8 << 20) // len(piece)) + b"end")
        began = time.monotonic()
        assert read_console(str(log)).endswith("end") or piece.startswith(b"\x1b")
        assert time.monotonic() - began < 10


@given(
    st.text() | st.lists(st.sampled_from(["\x1b", "[", "]", "0", ";", "m", "\x07", "\x9b", "\r", "\n"])).map("".join)
)
def test_nothing_is_left_that_a_terminal_acts_on(written: str) -> None:
    shown = plain(written)
    assert not any(
        character < " " or "\x7f" <= character <= "\x9f" for character in shown.replace("\n", "").replace("\t", "")
    )
