"""Runs a system libvirtd that only this process and its children see, and ends all of it with its standard input.

It is started by `support.hosts` below ``unshare --mount``: what libvirt has in /etc, /run and /var is mounted over,
so that neither the machine's own libvirt nor another private one is touched. As a subreaper it is the parent of every
QEMU, and kills what is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PLACES = ("/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
OWN_USERS = {
    "passwd": (
        "libvirt-qemu:x:64055:64055::/nonexistent:/bin/false",
        "member:x:61300:61300::/tmp:/bin/sh",
        "far:x:0:0::/var/lib/libvirt/far:/bin/sh",  # root over ssh, with a home of this host alone
    ),
    "group": ("libvirt-qemu:x:64055:", "libvirt:x:64056:", "member:x:61300:"),
}
"""Accounts that packages of libvirt make, and one of a plain user; added where the machine has none of that name."""
_SUBREAPER = 36


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def show(folder: Path, shown: dict[str, str]) -> None:
    """Mount what this host has of its own; `shown` are folders that a plain user must be able to enter."""
    for place in PLACES:
        own = folder / place.replace("/", "-").strip("-")
        own.mkdir()
        os.makedirs(place, exist_ok=True)
        mount("--bind", own, place)
    for name in ("images", "qemu"):
        Path("/var/lib/libvirt", name).mkdir()
    os.chmod("/var/lib/libvirt/images", 0o711)
    for name, entries in OWN_USERS.items():
        text = Path("/etc", name).read_text()
        lacking = [entry for entry in entries if f"\n{entry.partition(':')[0]}:" not in f"\n{text}"]
        copy = folder / name
        copy.write_text(text.rstrip("\n") + "\n" + "".join(f"{entry}\n" for entry in lacking))
        mount("--bind", copy, f"/etc/{name}")
    shutil.chown("/var/lib/libvirt/qemu", "libvirt-qemu", "libvirt-qemu")
    for path in ("/run/dbus", "/mnt"):  # nothing is registered at the machine's own services
        if os.path.isdir(path):
            mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
    for name, source in shown.items():
        os.mkdir(f"/mnt/{name}")
        mount("--bind", source, f"/mnt/{name}")
    if os.path.exists("/dev/kvm"):  # QEMU translates, here and everywhere
        (folder / "no-kvm").touch()
        mount("--bind", folder / "no-kvm", "/dev/kvm")


def children() -> list[int]:
    """Every process below this one: those whose parents have ended are children of this one."""
    found = [os.getpid()]
    for process in found:
        try:
            tasks = os.listdir(f"/proc/{process}/task")
            found += [int(n) for t in tasks for n in Path(f"/proc/{process}/task/{t}/children").read_text().split()]
        except OSError:
            continue
    return found[1:]


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end(daemon: int) -> None:
    """End the daemon, so that it writes what it has to write; a test may have killed it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{daemon}"), 10)


def end_the_rest() -> None:
    def none_left() -> bool:
        left = children()
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return not left

    wait_until(none_left, 10)


def begin(folder: Path) -> int:
    """Start the daemon, and return its number when it answers."""
    command = ["libvirtd", "--listen", "--config", folder / "libvirtd.conf", "--pid-file", folder / "libvirtd.pid"]
    environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    with open(folder / "libvirtd.out", "ab") as out:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_DFL),  # noqa: PLW1509 - one thread
        )
    number, socket = daemon.pid, "/run/libvirt/libvirt-sock"
    wait_until(lambda: os.path.exists(socket) or not os.path.exists(f"/proc/{number}"), 30)
    if not os.path.exists(socket):
        sys.exit(Path(folder, "libvirtd.out").read_text() or "libvirtd does not open its socket")
    return number


def main(folder: Path, shown: dict[str, str]) -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    os.umask(0o022)
    show(folder, shown)
    for name in ("libvirtd.conf", "qemu.conf"):
        shutil.copy(folder / name, "/etc/libvirt")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whatever ends is collected: libvirt waits for that
    daemon = begin(folder)
    print("ready", flush=True)
    for line in sys.stdin:  # "restart": as a package upgrade does, while guests run
        if line.strip() == "restart":
            end(daemon)
            Path("/run/libvirt/libvirt-sock").unlink(missing_ok=True)
            daemon = begin(folder)
            print("ready", flush=True)
    end(daemon)
    end_the_rest()
    shutil.rmtree(folder, ignore_errors=True)  # whoever started this may have been killed


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
