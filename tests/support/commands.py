"""Programs that tests run: any, those of QEMU, and lines as they are pasted into a shell."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def run(*argv: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=check, capture_output=True, text=True, cwd=cwd)


def shell(commands: Iterable[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Paste commands into a shell."""
    return run("sh", "-ec", "\n".join(commands), cwd=cwd, check=False)


def qemu_img(*argv: object) -> str:
    """Run qemu-img, and give what it prints."""
    done = run("qemu-img", *map(str, argv), check=False)
    assert done.returncode == 0, done
    return done.stdout


@contextmanager
def qemu_io(path: Path, *options: str) -> Iterator[int]:
    """Hold an image open, as a guest does; gives the number of the process."""
    argv = ["qemu-io", *options, "-f", "qcow2", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("length\n")
        process.stdin.flush()
        assert "MiB" in process.stdout.readline()  # now it is open
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.stdout.read()
            process.wait(10)
