"""Guests whose inside has been taken over, and guests that hang: time limits hold, and every error has a name."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.guests import discard
from support.labs import run_python
from support.waiting import eventually

from vmsnap_nb.errors import GuestError, GuestNotReadyError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.guest.port import MAX_OUTPUT
from vmsnap_nb.system.survey import Survey

pytestmark = pytest.mark.guest

TAKE_OVER = """
for name in /sys/class/virtio-ports/*/name; do
    [ "$(cat $name)" = org.vmsnap_nb.0 ] && port=/dev/$(basename ${name%/name})
done
sleep 1
for file in /proc/[0-9]*/fd/*; do
    [ "$(readlink $file)" = $port ] && kill -9 $(echo $file | cut -d/ -f3)
done
sleep 0.3
echo TAKEN-OVER >/dev/ttyS0
"""
ANSWERS = {
    "lines": "yes >$port",
    "bytes": "cat /dev/urandom >$port",
    "nothing": "sleep 1000 <>$port",
    "halves": 'answer() { printf "@%s out\\nA\\n@%s end 0 0\\n" $id $id; }; LOOP',
    "endless": 'answer() { echo "@$id out"; yes QUFB; }; LOOP',
}

LOOP = """
exec 3<>$port
while :; do
    if read -r id rest <&3; then [ -z "$id" ] || answer >&3; else sleep 0.1; fi
done
"""


SOON = 6.0
"""Seconds that may pass where three were given: one for what is under way, and two since tests share processors."""


def hears(guest: Guest) -> bool:
    try:
        guest.execute("true", timeout=3)
    except GuestError:
        return False
    return True


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_guest_that_was_taken_over_keeps_nobody_waiting(lab: Lab, base: Image, answer: str) -> None:
    guest = lab.guest(f"taken-{answer}", backing=base).start()
    script = TAKE_OVER + ANSWERS[answer].replace("LOOP", LOOP)
    guest.execute(f"cat >/taken <<'END'\n{script}\nEND\nsetsid sh /taken </dev/null >/dev/null 2>&1 &").check()
    assert eventually(lambda: "TAKEN-OVER" in guest.console())  # before that it may only have been slow to answer
    assert eventually(lambda: not hears(guest))
    with within(SOON), pytest.raises(GuestError):
        guest.execute("true", timeout=3)
    with within(SOON), contextlib.suppress(GuestNotReadyError):  # its agent may still answer
        guest.wait_ready(timeout=3)
    with within(SOON), contextlib.suppress(GuestError):  # its power button may still be heard
        guest.shutdown(timeout=3)
    guest.destroy()


def test_storage_that_does_not_respond_holds_up_no_limit(
    lab: Lab, first: Guest, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a share whose server is gone, or a file system of another user (FUSE)."""
    off = lab.guest("off", backing=base)
    responds = threading.Event()
    monkeypatch.setattr(Survey, "read", lambda *_, **__: responds.wait(60) and 1 / 0)
    try:
        for act, there in ((first.shutdown, True), (off.start, False)):
            with within(SOON), pytest.raises(GuestError, match="could not be checked within 3 s"):
                act(timeout=3)
            assert (first if there else off).handle.still_running == there
    finally:
        responds.set()


def test_a_command_of_another_thread_counts_as_time(first: Guest) -> None:
    other = threading.Thread(target=lambda: first.execute("sleep 8", timeout=60))
    other.start()
    time.sleep(0.5)
    with within(SOON), pytest.raises(GuestNotReadyError, match="another command is still running"):
        first.execute("true", timeout=3)
    other.join()


def test_a_command_that_writes_without_an_end_is_ended_and_the_next_one_is_heard(first: Guest) -> None:
    for command in ("yes", "cat /dev/urandom"):
        with within(SOON):
            try:
                assert first.execute(command, timeout=3).cut  # its own disk in memory was full before
            except GuestError as error:
                said = str(error)
            else:
                said = "longer than 3 s"
        assert "longer than 3 s" in said
    assert first.execute("echo next").stdout == "next\n"


def test_much_output_is_cut_and_says_so(first: Guest) -> None:
    done = first.execute("head -c 5000000 /dev/zero; head -c 100 /dev/zero >&2")
    assert (len(done.stdout_bytes), len(done.stderr_bytes), done.cut) == (MAX_OUTPUT, 100, True)


def test_guests_that_hang_do_not_hold_a_lab_up(short: Path) -> None:
    """Their disks have nothing to boot, so no power button is heard; of one even QEMU has stopped."""
    done = run_python(
        """
        import contextlib

        lab = vs.Lab(sys.argv[1])
        guests = lab.guests(["a", "b", "c"], backing=lab.base(), boot="disk")
        for guest in guests:
            guest.start(wait=False)
        began = time.monotonic()
        try:
            guests[0].shutdown(timeout=3)
        except errors.GuestError as error:
            print(error.reason, time.monotonic() - began < 4)
        def running(name):
            for one in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    words = (one / "cmdline").read_text() if one.name.isdigit() else ""
                    if all(word in words for word in ("qemu-system", name, sys.argv[1])):
                        yield int(one.name)

        pid = next(running("guest=a,"))
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        lab.close()
        print(time.monotonic() - began < 6)
        print([word for word in ("guest=b,", "guest=c,") if any(running(word))])
        os.kill(pid, signal.SIGKILL)
        """,
        short / "l",
    )
    assert done.stdout.splitlines() == ["it is still running after 3 s True", "True", "[]"], done.stderr


def test_a_qemu_that_hangs_is_not_waited_for_however_often_its_port_is_opened(lab: Lab, base: Image) -> None:
    guest = lab.guest("hung", backing=base).start()
    pid = int((lab.root / "run" / "qemu" / "hung.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    freed = threading.Timer(90, os.kill, (pid, signal.SIGCONT))  # without the limits the calls would never return
    freed.start()
    try:
        for _ in range(4):
            with within(SOON), pytest.raises(GuestNotReadyError):
                guest.execute("true", timeout=2)
        with within(SOON), pytest.raises(GuestError, match="still running after 3 s"):
            guest.shutdown(timeout=3)
        with within(SOON):
            assert guest.state == "running"
        os.kill(pid, signal.SIGCONT)
        assert eventually(lambda: guest.state == "off" or hears(guest), seconds=60)
    finally:
        freed.cancel()
        os.kill(pid, signal.SIGCONT)
        discard(guest)
