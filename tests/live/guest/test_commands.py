"""Commands in a running guest: output of every kind, time limits, and the cell magic."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from IPython.core.interactiveshell import InteractiveShell

from vmsnap_nb.errors import GuestError, GuestNotReadyError, InvalidRequestError, NotFoundError
from vmsnap_nb.lab.in_ipython import install
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.guest.port import COMMAND_PORT, MAX_COMMAND, Port

pytestmark = pytest.mark.guest


def test_it_is_ready_within_15_seconds(first: Guest) -> None:
    text = first.execute("cut -d' ' -f1 /proc/uptime; cat /run/vmsnap/ready").stdout.split()
    now, ready = map(float, text)
    assert 0 < ready < now
    # Seconds of the processor, all of QEMU's included: seconds of the clock tell how busy the machine is.
    assert first.handle.domain.info()[4] / 1e9 * ready / now < 15


def test_exit_status_and_both_outputs_come_back(first: Guest) -> None:
    done = first.execute("echo out; echo err >&2; exit 7")
    assert (done.exit_status, done.stdout, done.stderr) == (7, "out\n", "err\n")
    with pytest.raises(GuestError, match="exit status 7"):
        done.check()
    assert str(done) == "out\nerr\n[exit status 7]"
    assert str(first.execute("false")) == "[exit status 1]"
    assert first.execute("kill -9 $$").exit_status == 137
    unknown = first.execute("no-such-program")
    assert (unknown.exit_status, "not found" in unknown.stderr) == (127, True)


def test_quotes_lines_and_other_alphabets(first: Guest) -> None:
    text = """it's "quoted" `not run` \\ 虚拟机 🦊"""
    assert first.execute(f"cat <<'END'\n{text}\nEND").stdout == text + "\n"
    assert first.execute("for n in 1 2 3\ndo\n  echo $n\ndone").stdout == "1\n2\n3\n"
    assert first.execute("").exit_status == 0


def test_any_byte_comes_back(first: Guest) -> None:
    octal = "".join(f"\\0{byte:03o}" for byte in range(256))
    done = first.execute(f"printf '%b' '{octal}'")
    assert done.stdout_bytes == bytes(range(256))
    assert done.stdout.endswith("\\xfe\\xff")


def test_a_mebibyte_comes_back(first: Guest) -> None:
    done = first.execute("head -c 1048576 /dev/urandom | tee /tmp/random; rm /tmp/random.sum 2>/dev/null")
    assert len(done.stdout_bytes) == 1 << 20
    assert (
        first.execute("sha256sum </tmp/random; rm /tmp/random").stdout.split()[0]
        == hashlib.sha256(done.stdout_bytes).hexdigest()
    )


def test_a_reader_of_the_input_ends(first: Guest) -> None:
    assert first.execute("cat; read line; echo $?", timeout=60).stdout == "1\n"


def test_what_goes_to_the_background_goes_on(first: Guest) -> None:
    done = "echo done > /run/new; mv /run/new /run/background"
    first.execute(f"(until [ -e /run/go ]; do sleep 0.1; done; {done}) &").check()
    assert first.execute("ls /run/background").exit_status == 1
    first.execute("touch /run/go").check()
    assert first.execute("until [ -e /run/background ]; do sleep 0.1; done; cat /run/background").stdout == "done\n"


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(first: Guest) -> None:
    with pytest.raises(GuestError, match="longer than 5 s") as late:
        first.execute("echo begun; sleep 987 & sleep 987", timeout=5)
    assert "begun" in str(late.value)
    assert first.execute("ps | grep '[s]leep 987'").exit_status == 1


def test_callers_wait_for_each_other(first: Guest) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert [d.stdout for d in pool.map(lambda n: first.execute(f"echo {n}"), range(6))] == [
            f"{n}\n" for n in range(6)
        ]


def test_an_answer_to_somebody_who_has_gone_is_skipped(lab: Lab, first: Guest) -> None:
    with Port(lab.connection, first.handle.domain, COMMAND_PORT) as port:
        port.send(b"\n0badcafe 60 ZWNobyBzdGFsZQ==\n", time.monotonic() + 5)  # echo stale
        port.send(b"00ff 60 ZWNob", time.monotonic() + 5)  # and the beginning of a line
        time.sleep(0.3)
    assert first.execute("echo fresh").stdout == "fresh\n"


def test_a_command_of_somebody_who_has_gone_is_ended(lab: Lab, first: Guest) -> None:
    with Port(lab.connection, first.handle.domain, COMMAND_PORT) as port:
        port.send(b"\n0badcaff 900 c2xlZXAgOTg2\n", time.monotonic() + 5)  # sleep 986
        time.sleep(0.3)
    assert first.execute("ps | grep '[s]leep 986'", timeout=60).exit_status == 1


def test_another_client_has_the_port(lab: Lab, first: Guest) -> None:
    port = Port(lab.connection, first.handle.domain, COMMAND_PORT)
    release = threading.Timer(1.0, port.close)
    release.start()
    assert first.execute("echo after").stdout == "after\n"  # waits for it
    with (
        Port(lab.connection, first.handle.domain, COMMAND_PORT),
        pytest.raises(GuestNotReadyError, match="stream exists"),
    ):
        Port(lab.connection, first.handle.domain, COMMAND_PORT, wait=0.1)


def test_what_cannot_be_a_command(first: Guest) -> None:
    for command in ("echo \0", "x" * (MAX_COMMAND + 1)):
        with pytest.raises(InvalidRequestError):
            first.execute(command)
    assert first.execute("echo " + "x" * (MAX_COMMAND - 5)).stdout == "x" * (MAX_COMMAND - 5) + "\n"


def test_a_guest_that_is_off(lab: Lab, base: Image) -> None:
    off = lab.guest("off", backing=base)
    with pytest.raises(GuestNotReadyError, match="not running"):
        off.execute("true")
    with pytest.raises(GuestNotReadyError, match="not running"):
        off.wait_ready(timeout=5)
    off.shutdown()
    off.destroy()
    assert off.state == "shut off"
    assert off.console() == ""


def test_the_cell_magic(lab: Lab, first: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    shell = InteractiveShell()
    install(shell)
    shell.user_ns["mine"] = lab
    shell.run_cell_magic("guest", "first --out done", "echo hello\necho oh >&2\nfalse\n")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("hello\n[first: exit status 1]\n", "oh\n")
    assert shell.user_ns["done"].exit_status == 1
    shell.run_cell_magic("guest", "first --lab mine --timeout 30", "printf 虚拟机")
    assert capsys.readouterr().out == "虚拟机\n[first: exit status 0]\n"
    with pytest.raises(NotFoundError, match="first"):
        shell.run_cell_magic("guest", "nobody", "true")
    with pytest.raises(NotFoundError, match="variable elsewhere"):
        shell.run_cell_magic("guest", "first --lab elsewhere", "true")
    with pytest.raises(InvalidRequestError, match="timeout"):
        shell.run_cell_magic("guest", "first --timeout soon", "true")
    shell.run_line_magic("load_ext", "vmsnap_nb")
    shell.run_cell_magic("guest", "first", "true")
    assert capsys.readouterr().out == "[first: exit status 0]\n"
