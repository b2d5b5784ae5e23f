"""Whether guests can be accelerated by KVM here: found out by booting one, once, and remembered.

``/dev/kvm`` can be there and not work: a guest then hangs without a word, so nothing but a boot tells.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.lab.alpine import KERNEL
from vmsnap_nb.lab.user_cache import user_cache
from vmsnap_nb.system.packages import missing_part
from vmsnap_nb.system.whole_file import write_whole

__all__ = ["Acceleration", "choose_acceleration", "qemu_program"]

_KVM = "/dev/kvm"
_SECONDS = 8.0
"""How long a boot may take to say its first word; with KVM it takes a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Acceleration:
    """How guests are run.

    Attributes
    ----------
    kind : str
        ``kvm``, by the processor, or ``tcg``, emulated.
    reason : str
        Why so.
    """

    kind: Literal["kvm", "tcg"]
    reason: str

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.reason}>"


def qemu_program() -> str:
    """Give the path of the QEMU that emulates a PC.

    Raises
    ------
    MissingPartError
        It is not installed.
    """
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise missing_part("qemu-system", "find QEMU", "there is no program qemu-system-x86_64")
    return found


def choose_acceleration(kernel: Path, initrd: Path, cache: Path | None = None) -> Acceleration:
    """Choose: what ``VMSNAP_ACCEL`` says, or what was found out before, or what a boot shows now.

    Parameters
    ----------
    kernel, initrd : pathlib.Path
        What to boot.
    cache : pathlib.Path, optional
        File to remember it in; one in the user's cache folder if left out.

    Returns
    -------
    Acceleration

    Raises
    ------
    InvalidRequestError
        ``VMSNAP_ACCEL`` is neither ``kvm`` nor ``tcg``.
    MissingPartError
        There is no QEMU.
    """
    program = qemu_program()
    wish = os.environ.get("VMSNAP_ACCEL", "").lower()
    if wish in ("kvm", "tcg"):
        return Acceleration("kvm" if wish == "kvm" else "tcg", f"VMSNAP_ACCEL={wish} says so")
    if wish:
        raise InvalidRequestError(
            f"run guests by VMSNAP_ACCEL={wish}",
            said="it is neither kvm nor tcg",
            next_step="set it to kvm or tcg, or unset it",
        )
    if not os.path.exists(_KVM):
        return Acceleration("tcg", f"this machine has no {_KVM}")
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return Acceleration("tcg", f"no permission for {_KVM}: usually the group kvm has it")
    cache = cache or _cache_file()
    circumstances = [program, os.stat(program).st_mtime_ns, os.uname().release, KERNEL]
    known = _recall(cache, circumstances)
    if known is None:
        known = _try_kvm(program, kernel, initrd)
        _remember(cache, circumstances, known)
    return known


def _cache_file() -> Path:
    return user_cache() / "acceleration.json"


def _recall(cache: Path, circumstances: list[object]) -> Acceleration | None:
    try:
        found = json.loads(cache.read_text())
        if found["circumstances"] == circumstances and found["choice"]["kind"] in ("kvm", "tcg"):
            return Acceleration(**found["choice"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet, or not ours: find out again
    return None


def _remember(cache: Path, circumstances: list[object], choice: Acceleration) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, json.dumps({"circumstances": circumstances, "choice": asdict(choice)}).encode())
    except OSError:
        return  # then the next process finds out again


def _try_kvm(program: str, kernel: Path, initrd: Path) -> Acceleration:
    argv = [program, "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-m", "128", "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd)]
    argv += ["-append", "console=ttyS0"]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        try:
            return _judge(process)
        finally:
            process.kill()


def _judge(process: subprocess.Popen[bytes]) -> Acceleration:
    began = time.monotonic()
    heard = b""
    if process.stdout is None:
        raise AssertionError("stdout is a pipe")
    while (left := began + _SECONDS - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        data = process.stdout.read(4096)
        heard += data
        if b"Linux version" in heard:
            return Acceleration("kvm", f"a guest booted with KVM in {time.monotonic() - began:.1f} s")
        if not data:
            words = heard.decode(errors="replace").strip().splitlines()
            return Acceleration("tcg", "QEMU does not start with KVM: " + (words[-1] if words else "without a word"))
    return Acceleration("tcg", f"{_KVM} is there, but a guest that booted with it said nothing within {_SECONDS:g} s")
