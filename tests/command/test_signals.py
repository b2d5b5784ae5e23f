"""SIGTERM and SIGHUP while the command line runs a plan: it is cancelled and undone, as by Ctrl-C."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.content import content
from support.images import MIB, create, write
from support.labs import start_paused

import vmsnap_nb as vs
from vmsnap_nb.command.main import main
from vmsnap_nb.lab.lab import Lab

WAIT = 60


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.guest
def test_a_pull_of_a_running_guest_is_cancelled(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also if both signals come at once, as a service manager sends them."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    name = "signalled"
    low = create(tmp_path / "low.qcow2", size=64 * MIB)
    write(low, "write -q -P 7 0 64M")
    guest = lab.guest(name, backing=low, boot="disk", protect=False)
    start_paused(guest)
    before = [image.path for image in guest.chain()]
    domain = guest.handle.domain
    handlers = [signal.signal(number, lambda *_: pytest.fail("not caught")) for number in numbers]

    over = threading.Event()

    def end() -> None:
        until(lambda: over.is_set() or (domain.blockJobInfo("vda") or {}).get("cur"))
        for number in () if over.is_set() else numbers:
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=end)
    thread.start()
    try:
        words = ("--bandwidth", MIB, "--yes", "--connect", lab.uri)
        status = main(["run", "pull", "--guest", name, *map(str, words)])
        caught = [signal.getsignal(number).__name__ for number in numbers]  # type: ignore[union-attr]
    finally:
        over.set()
        thread.join()
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
    out, err = capsys.readouterr()
    assert status in {128 + number for number in numbers}, err
    assert caught == ["<lambda>"] * len(numbers)
    assert "cancelled" in out
    assert err.endswith("vmsnap-nb: interrupted\n")
    assert [image.path for image in guest.chain()] == before
    assert guest.unfinished() == ()
    guest.destroy()
    assert content(Path(before[-1])) == content(low)


SLOW = r"""#!/bin/sh
case "$*" in commit*) printf '    (10.00/100%%)\r'; sleep 2 ;; esac
exec QEMU_IMG "$@"
"""


@pytest.mark.system
@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_closed(tmp_path: Path, *, ignored: bool) -> None:
    """It cancels a merge; one that ignores SIGHUP, as after nohup, goes on to its end."""
    create(tmp_path / "base.qcow2", size=8 * MIB)
    create(tmp_path / "middle.qcow2", "base.qcow2")
    write(tmp_path / "middle.qcow2", "write -q -P 7 0 8M")
    create(tmp_path / "top.qcow2", "middle.qcow2")
    before = content(tmp_path / "top.qcow2")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "qemu-img").write_text(SLOW.replace("QEMU_IMG", shutil.which("qemu-img") or ""))
    (tools / "qemu-img").chmod(0o755)
    command = [sys.executable, "-m", "vmsnap_nb", "run", "commit", str(tmp_path / "middle.qcow2"), "--yes"]
    if ignored:
        command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command]
    else:  # also if these tests were started by nohup
        command = ["env", "--default-signal=HUP", *command]
    terminal, own = pty.openpty()
    termios.tcsetwinsize(own, (24, 80))
    with subprocess.Popen(
        ["setsid", "--ctty", *command],
        stdin=own,
        stdout=own,
        stderr=own,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
    ) as process:
        os.close(own)
        said = b""
        while b"10%" not in said:  # its progress bar, which it goes on writing to the terminal
            said += os.read(terminal, 4096)
        os.close(terminal)
        with suppress(subprocess.TimeoutExpired):
            process.wait(WAIT)
        assert process.poll() is not None
    assert content(tmp_path / "top.qcow2") == before
    now = vs.scan(tmp_path)
    if ignored:
        assert [image.name for image in now.chain("top")] == ["base", "top"]
        assert now.unfinished() == ()
        return
    assert process.returncode == 128 + signal.SIGHUP
    assert [image.name for image in now.chain("top")] == ["base", "middle", "top"]
    # The script's `sleep` was killed with it, but nobody waits for it: it has the images open until it is gone.
    until(lambda: not any(plan.refused for plan in vs.scan(tmp_path).unfinished()))
    [plan] = vs.scan(tmp_path).unfinished()
    assert plan.run(progress=False).as_predicted
    assert content(tmp_path / "top.qcow2") == before


def test_a_host_that_gives_no_answer_holds_nothing_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"x=qemu+tcp://127.0.0.1:{silent.getsockname()[1]}/system"
        words = ("check", "--connect", place, "--connect", "b=test:///default")
        # A shell without a terminal ignores SIGINT in what it runs in the background.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "vmsnap_nb", *words]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        talk, _ = silent.accept()  # it connects now
        with talk:
            time.sleep(0.3)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
    assert (process.returncode, "interrupted" in said) == (130, True)
    assert time.monotonic() - began < 5  # a connection is waited for three times as long
