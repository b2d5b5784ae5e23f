"""Guests end at once where nobody else collects them: this process is process 1, as in many a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.labs import run_python

pytestmark = pytest.mark.system

SAME_USER = [] if os.geteuid() == 0 else ["--map-current-user"]
OWN_PROCESSES = ["unshare", *SAME_USER, "--pid", "--fork", "--kill-child", "--mount-proc"]
"""Without a shell in between, which would collect what is left behind."""

GUESTS = """
    import pty, subprocess
    assert os.getpid() == 1
    lab = vs.Lab(sys.argv[1])
    base = lab.base("RootBase")
    longest = 0.0
    for number in range(2):
        guest = lab.guest(f"guest-{number}", backing=base)
        guest.handle.domain.createWithFlags(1)
        child = subprocess.Popen(["sh", "-c", "exit 7"], start_new_session=bool(number))
        typed, _ = pty.fork()  # as a line in a notebook that begins with !
        if typed == 0:
            os.execlp("qemu-system-x86_64", "qemu-system-x86_64", "-no-such-option")
        began = time.monotonic()
        guest.destroy()
        longest = max(longest, time.monotonic() - began)
        assert child.wait() == 7
        assert os.waitstatus_to_exitcode(os.waitpid(typed, 0)[1]) == 1
    lab.destroy()
    deadline = time.monotonic() + 10
    ended = [""]
    while ended and time.monotonic() < deadline:
        ended = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{process}/stat") as file:
                    text = file.read()
            except OSError:  # it has gone meanwhile
                continue
            if ") Z" in text:
                ended.append(text)
    print(longest < 20, ended)
"""


def test_guests_end_at_once_where_process_1_collects_nothing(short: Path) -> None:
    done = run_python(GUESTS, short / "l", before=OWN_PROCESSES, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True []\n"
