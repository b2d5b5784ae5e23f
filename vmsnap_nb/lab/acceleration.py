"""Whether guests can be accelerated by KVM here: found out by booting one, once, and remembered.

``/dev/kvm`` can be there and not work: a guest then hangs without a word, so nothing but a boot tells.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from vmsnap_nb.errors import CommandError, InvalidRequestError, MissingPartError
from vmsnap_nb.lab.alpine import KERNEL
from vmsnap_nb.lab.user_cache import user_cache
from vmsnap_nb.model.shown import Carded
from vmsnap_nb.system import process
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.small import read_small
from vmsnap_nb.system.packages import missing_part
from vmsnap_nb.system.process import Limits
from vmsnap_nb.words.message import t

__all__ = ["Acceleration", "choose_acceleration", "qemu_program"]

_KVM = "/dev/kvm"
_SECONDS = 8.0
"""How long a boot may take to say its first word; with KVM it takes a fraction of a second."""
_LIMITS = Limits(seconds=_SECONDS, memory=8 << 30)
_FIRST_WORD = b"Linux version"
Outcome = Literal["booted", "silent", "failed"]


@dataclass(frozen=True, slots=True)
class Acceleration(Carded):
    """How guests are run, and the reason.

    Attributes
    ----------
    kind : str
        ``kvm`` if the processor runs guests directly; ``tcg`` if QEMU emulates the processor.
    reason : str
        A sentence that gives the reason.
    """

    kind: Literal["kvm", "tcg"]
    reason: str

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.reason}>"


def qemu_program() -> str:
    """Return the path of the QEMU that emulates a PC."""
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise missing_part("qemu-system", t("find QEMU"), t("the program qemu-system-x86_64 is not installed"))
    return found


def choose_acceleration(boot_files: Callable[[], tuple[Path, Path]], cache: Path | None = None) -> Acceleration:
    """Return what ``VMSNAP_ACCEL`` says, or what was found out before, or what a boot shows now.

    It is remembered in the file `cache`, by default in the user's cache folder. `boot_files` returns a kernel and an
    initial file system; it is called only where they must be booted.
    """
    program = qemu_program()
    wish = os.environ.get("VMSNAP_ACCEL", "").lower()
    if wish in ("kvm", "tcg"):
        return Acceleration("kvm" if wish == "kvm" else "tcg", t("VMSNAP_ACCEL={value} is set", value=wish))
    if wish:
        raise InvalidRequestError(
            t("run guests with VMSNAP_ACCEL={value}", value=wish),
            why=t("the value is neither kvm nor tcg"),
            next_step=t("set VMSNAP_ACCEL to kvm or tcg, or unset it"),
        )
    if not os.path.exists(_KVM):
        return Acceleration("tcg", t("this machine has no {device}", device=_KVM))
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return Acceleration(
            "tcg", t("no permission to use {device}; members of the group kvm usually have it", device=_KVM)
        )
    cache = cache or _cache_file()
    circumstances = [program, os.stat(program).st_mtime_ns, os.uname().release, KERNEL]
    boot = _recall(cache, circumstances)
    if boot is None:
        try:
            kernel, initrd = boot_files()
        except MissingPartError as error:
            return Acceleration("tcg", t("cannot test KVM: {reason}", reason=error.reason))
        boot = _try_kvm(program, kernel, initrd)
        _remember(cache, circumstances, boot)
    return _judged(boot)


@dataclass(frozen=True, slots=True)
class _Boot:
    """How a boot with KVM ended."""

    outcome: Outcome
    detail: str = ""  # the seconds that it took, or the last words


def _judged(boot: _Boot) -> Acceleration:
    if boot.outcome == "booted":
        return Acceleration("kvm", t("a guest booted with KVM in {seconds} s", seconds=boot.detail))
    if boot.outcome == "silent":
        silent = t(
            "a guest that booted with {device} printed nothing within {seconds:g} s", device=_KVM, seconds=_SECONDS
        )
        return Acceleration("tcg", silent)
    if boot.detail:
        return Acceleration("tcg", t("QEMU does not start with KVM: {error}", error=boot.detail))
    return Acceleration("tcg", t("QEMU does not start with KVM, and prints no error"))


def _cache_file() -> Path | None:
    folder = user_cache()
    return None if folder is None else folder / "acceleration.json"


def _recall(cache: Path | None, circumstances: list[object]) -> _Boot | None:
    if cache is None:
        return None
    try:
        found = json.loads(read_small(cache, 1 << 16))
        if found["circumstances"] == circumstances and found["boot"]["outcome"] in get_args(Outcome):
            return _Boot(**found["boot"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # not there yet, or not ours: find out again
    return None


def _remember(cache: Path | None, circumstances: list[object], boot: _Boot) -> None:
    if cache is None:
        return
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, json.dumps({"circumstances": circumstances, "boot": asdict(boot)}).encode())
    except OSError:
        return  # then the next process finds out again


def _try_kvm(program: str, kernel: Path, initrd: Path) -> _Boot:
    argv = [program, "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-m", "128", "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd)]
    argv += ["-append", "console=ttyS0"]
    began = time.monotonic()
    heard = b""

    def take(piece: bytes) -> None:
        nonlocal heard
        heard = (heard + piece)[-(1 << 16) :]

    try:
        done = process.run(
            argv,
            tried=t("boot a guest with KVM"),
            limits=_LIMITS,
            check=False,
            take=take,
            stop=lambda: _FIRST_WORD in heard,
        )
    except CommandError:
        return _Boot("silent")
    if _FIRST_WORD in heard:
        return _Boot("booted", f"{time.monotonic() - began:.1f}")
    words = (heard.decode(errors="replace") + done.stderr).strip().splitlines()
    return _Boot("failed", words[-1] if words else "")
