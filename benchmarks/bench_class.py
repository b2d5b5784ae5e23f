"""What one student needs: memory, processor and disk of a lab with no, one and three guests.

Memory is the proportional set size: what the processes would free if they ended. JupyterLab and the notebook's kernel
come on top, and are measured as well: a server without a page open, and a kernel that has done nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vmsnap_nb as vs

TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Proportional set size of a process, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def seconds(pid: int) -> float:
    """Processor time of a process since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def emulators(root: Path) -> list[int]:
    """The QEMU of each guest of a lab."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = entry.read_bytes()
            if b"qemu-system" in words.split(b"\0")[0] and os.fsencode(root) in words:
                found.append(int(entry.parent.name))
    return found


def disk(root: Path) -> int:
    """Bytes that the files of a folder take."""
    return sum(path.lstat().st_blocks * 512 for path in root.rglob("*") if path.is_file())


def server() -> None:
    """JupyterLab and one kernel, at rest."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = ["--no-browser", "--ServerApp.port=0", "--IdentityProvider.token=x", "--allow-root"]
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        own = {**os.environ, "HOME": home, "JUPYTER_RUNTIME_DIR": home, "JUPYTER_CONFIG_DIR": home}
        lab = subprocess.Popen([sys.executable, "-m", "jupyterlab", *words], env=own, **quiet)
        kernel = subprocess.Popen([sys.executable, "-m", "ipykernel_launcher"], env=own, **quiet)
        time.sleep(8)
        print(f"JupyterLab: {memory(lab.pid) >> 20} MiB; one kernel: {memory(kernel.pid) >> 20} MiB")
        for process in (lab, kernel):
            process.terminate()
            process.wait()


def main() -> None:
    """Measure."""
    server()
    with tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder:
        lab = vs.Lab(Path(folder) / "l")
        base = lab.base("RootBase")
        print(f"guests are run by {lab.acceleration!r}")
        print(f"no guest: {memory(os.getpid()) >> 20} MiB, {disk(lab.root) >> 20} MiB of disk")
        for count in (1, 3):
            for number in range(count):
                began = time.perf_counter()
                lab.guest(f"g{number}", backing=base).start()
                print(f"  g{number} ready after {time.perf_counter() - began:.1f} s")
            pids = emulators(lab.root)
            booting = sum(map(seconds, pids))
            before, began = booting, time.perf_counter()
            time.sleep(15)
            idle = (sum(map(seconds, pids)) - before) / (time.perf_counter() - began)
            total = memory(os.getpid()) + sum(map(memory, pids))
            print(
                f"{count} guests: {total >> 20} MiB, of it QEMU {[memory(pid) >> 20 for pid in pids]}; {booting:.0f} s "
                f"of processor to boot; {100 * idle:.0f} % of one processor at rest; {disk(lab.root) >> 20} MiB of disk"
            )
        lab.destroy()


if __name__ == "__main__":
    main()
