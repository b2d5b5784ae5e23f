"""Processes that begin with everything imported: forks of one that does nothing else.

To begin a Python and to import what a lab needs takes longer than what most tests do in it.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from support import PATH

PARENT = """
import gc, importlib, json, os, sys
import libvirt, libvirt_qemu
import vmsnap_nb as vs
vs.Lab, vs.scan, vs.connect
for name in sys.argv[1:]:
    importlib.import_module(name)
gc.collect()
gc.freeze()

def ask():
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            return order
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()

order = ask()
for number, (name, flags) in enumerate(zip(order["files"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
    os.dup2(os.open(name, flags), number)
os.environ.clear()
os.environ.update(order["env"])
os.chdir(order["folder"])
sys.argv = ["-c", *order["arguments"]]
exec(compile(order["code"], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
"""


class Forks:
    """The process that forks, and what it is asked for: it has these modules, and these variables beside its own."""

    def __init__(self, *modules: str, **variables: str) -> None:
        env = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(PATH)}
        argv = [sys.executable, "-c", PARENT, *modules]
        self._parent = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=env, cwd="/"
        )
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        return self._parent.pid

    def close(self) -> None:
        """End it."""
        self._parent.communicate()
        atexit.unregister(self.close)

    def run(
        self, code: str, arguments: Sequence[str], *, env: Mapping[str, str], folder: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -c CODE ARGUMENTS``, as `subprocess.run` would."""
        asked, told = self._parent.stdin, self._parent.stdout
        assert asked is not None
        assert told is not None
        argv = [sys.executable, "-c", code, *arguments]
        with tempfile.TemporaryDirectory() as kept:
            said = [Path(kept, name) for name in ("out", "err")]
            for path in said:
                path.touch()
            order = {
                "code": code,
                "arguments": arguments,
                "env": dict(env),
                "folder": str(folder),
                "files": [os.devnull, *map(str, said)],
            }
            asked.write(json.dumps(order).encode() + b"\n")
            child = int(told.readline())
            late = not select.select([told], [], [], timeout)[0]
            if late:
                os.kill(child, signal.SIGKILL)
            status = int(told.readline())
            out, err = (path.read_text() for path in said)
        if late:
            raise subprocess.TimeoutExpired(argv, timeout, out, err)
        return subprocess.CompletedProcess(argv, status, out, err)


@cache
def forks() -> Forks:
    """Return the one of this process."""
    return Forks()
