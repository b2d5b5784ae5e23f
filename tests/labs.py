"""The lab that tests share, and ways to run a lab in another process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import vmsnap_nb as vs
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image

REPOSITORY = Path(vs.__file__).parent.parent


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
    assert left == ()
    assert not lab.root.exists()
    path.rmdir()


@pytest.fixture(scope="session")
def base(lab: Lab) -> Image:
    return lab.base("RootBase")


@pytest.fixture(scope="session")
def first(lab: Lab, base: Image) -> Guest:
    """A guest that runs, on an overlay called Overlay-1."""
    guest = lab.guest("first", backing=base, overlay="Overlay-1").start()
    guest.execute("echo 'Add this file in overlay-1' > /overlay-1").check()
    return guest


def run_python(
    code: str,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    timeout: float = 100,
    user: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run Python code in another process, with `vs` imported; what it prints comes back."""
    return subprocess.run(
        [*before, sys.executable, "-c", PREFIX + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        check=False,
    )


PREFIX = """\
import os, signal, sys, time
from pathlib import Path
import vmsnap_nb as vs
from vmsnap_nb import errors
"""


def mounted(*commands: str) -> list[str]:
    """Give what stands before a command so that it runs where these mounts have been made, and nobody else sees them."""
    own = [] if os.geteuid() == 0 else ["-r"]
    return ["unshare", *own, "-m", "sh", "-ec", "\n".join([*commands, 'exec "$@"']), "sh"]
