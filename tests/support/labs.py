"""The lab that tests share, and ways to run a lab in another process."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import pytest

import vmsnap_nb as vs
from support import PATH, ROOT
from support.forks import forks
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.library import library


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path short enough for sockets; pytest's own can be too long."""
    path = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The one lab of this process: libvirt embeds one folder in a process."""
    path = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    lab = vs.Lab(path / "l")
    yield lab
    left = lab.destroy()
    assert left == (), left
    assert not lab.root.exists()
    path.rmdir()


@pytest.fixture(scope="session")
def base(lab: Lab) -> Image:
    return lab.base("RootBase")


@pytest.fixture(scope="session")
def booted(lab: Lab, base: Image) -> Guest:
    """A guest on an overlay called Overlay-1."""
    guest = lab.guest("first", backing=base, overlay="Overlay-1").start()
    guest.execute("echo 'Add this file in overlay-1' > /overlay-1").check()
    guest.suspend()
    return guest


@pytest.fixture
def first(booted: Guest) -> Iterator[Guest]:
    """A guest that runs: it is paused between tests, since an idle one takes some of the processor all the time."""
    booted.resume()
    yield booted
    booted.suspend()


def start_paused(guest: Guest) -> None:
    """Start a guest in which nothing runs."""
    guest.handle.domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)


def run_python(
    code: str,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    timeout: float = 100,
    python: str = sys.executable,
    path: Sequence[str] = PATH,
    folder: Path = Path("/"),
) -> subprocess.CompletedProcess[str]:
    """Run Python code in another process, with `vs` imported; what it prints comes back."""
    argv = [python, "-c", PREFIX + textwrap.dedent(code), *map(str, arguments)]
    own = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **(env or {})}
    if not before and python == sys.executable and path == PATH:
        return forks().run(argv[2], argv[3:], env=own, folder=folder, timeout=timeout)
    return subprocess.run(
        [*before, *argv], capture_output=True, text=True, timeout=timeout, env=own, cwd=folder, check=False
    )


PREFIX = """\
import os, signal, sys, time
from pathlib import Path
import vmsnap_nb as vs
from vmsnap_nb import errors
"""


def mounted(*commands: str, sudo: bool = False) -> list[str]:
    """Return what stands before a command so that it runs with these mounts, which nobody else sees.

    It has processes of its own as well: daemons that it starts end with it, and those that have ended are collected
    (libvirt waits for that, and not everything that runs tests as process 1 does it). A user who is not root is
    root only in there, or the real one by `sudo`, which must not ask.
    """
    own = ["-r"]
    before: list[str] = []
    if sudo and os.geteuid() != 0:
        before = ["sudo", "-n", "env", f"PYTHONPATH={ROOT}"]  # sudo takes the environment away
    if sudo or os.geteuid() == 0:
        own = []
    script = "\n".join([*commands, '"$@" || exit $?'])
    return [
        *before,
        "unshare",
        *own,
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-ec",
        script,
        "sh",
    ]


class Nobody(TypedDict):
    """What `run_python` needs to run as a user without any rights."""

    before: Sequence[str]
    python: str
    path: Sequence[str]


def nobodys_python(folder: Path) -> Nobody:
    """Make ready to run Python as a user without rights, whose own the folder becomes.

    Python, its packages and the checkout can lie where that user may not go, so they are shown at another place.
    """
    site = sysconfig.get_path("platlib")
    if os.geteuid() != 0:
        return Nobody(before=(), python=sys.executable, path=PATH)
    uid = next(number for number in range(61234, 62000) if not _is_taken(number))
    os.chown(folder, uid, uid)
    mounts = ["mount -t tmpfs tmpfs /mnt"]
    for name, source in (("python", sys.base_prefix), ("site", site), ("checkout", ROOT)):
        mounts += [f"mkdir /mnt/{name}", shlex.join(["mount", "--bind", str(source), f"/mnt/{name}"])]
    # libvirt wants a user and a group with names.
    for file, entry in (("passwd", f"{uid}:{uid}::{folder}:/bin/sh"), ("group", f"{uid}:")):
        mounts.append(f"cp /etc/{file} /mnt/{file}")
        mounts.append(f"echo {shlex.quote(f'vmsnap-test:x:{entry}')} >>/mnt/{file}")
        mounts.append(f"mount --bind /mnt/{file} /etc/{file}")
    drop = f'set -- setpriv --reuid={uid} --regid={uid} --clear-groups -- "$@"'
    before = mounted(*mounts, drop)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Nobody(
        before=before,
        python=f"/mnt/python/bin/python{version}",
        path=("/mnt/checkout", "/mnt/checkout/tests", "/mnt/site"),
    )


def _is_taken(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
