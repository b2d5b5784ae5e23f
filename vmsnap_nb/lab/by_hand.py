"""A second libvirt in a lab's folder, for `virsh` as a student types it: it cannot reach the one in this process.

Each `virsh` loads that libvirt anew and finds the guests that run. It begins empty. What is in its folder as another
process goes on with it may be out of an archive, and is checked like all that a libvirt in this process would act on.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmsnap_nb.lab.contents import HAND, check_files
from vmsnap_nb.lab.driver import embedded, prepare
from vmsnap_nb.lab.exercises.exercise import TypedGuest
from vmsnap_nb.system import process
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.words.message import t

__all__ = ["HAND", "begin", "end", "guests", "use"]

_ADDRESS, _LOG = "LIBVIRT_DEFAULT_URI", "LIBVIRT_LOG_OUTPUTS"
_SECONDS_TO_END = 5.0
_MARK = "@@"


def begin(root: Path) -> str:
    """Make an empty libvirt for `virsh`, the default for all commands of this process, and return its address."""
    folder = root / HAND
    end(root)
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise from_os_error(error, t("prepare libvirt in {folder}", folder=folder)) from error
    return use(root)


def use(root: Path) -> str:
    """Make that libvirt, as it is, the default for all commands of this process, and return its address."""
    folder = root / HAND
    address = _prepare(root)
    # virsh would print the log of the libvirt that it loads.
    os.environ.update({_ADDRESS: address, _LOG: _log(folder)})
    return address


def guests(root: Path, names: Iterable[str]) -> dict[str, TypedGuest]:
    """Read some guests of that libvirt, by name, as `virsh` shows them; those that it does not know are left out."""
    known: set[str] = set()
    if os.path.lexists(root / HAND):
        _prepare(root)  # another process may have made it, or another user
        known.update(_virsh(root, "list --all --name").split())
    return {name: _guest(root, name) for name in names if name in known}


def _prepare(root: Path) -> str:
    try:
        check_files(root)
    except OSError as error:
        raise from_os_error(error, t("prepare libvirt in {folder}", folder=root / HAND)) from error
    return prepare("embed", root / HAND)


def _guest(root: Path, name: str) -> TypedGuest:
    # With the first question virsh waits until it has found a QEMU that runs. Until then the state would be "shut off".
    questions = (f"domblkinfo {name} vda", f"domstate {name}", f"domblklist {name}", f"snapshot-list {name} --name")
    _, state, disks, snapshots = _virsh(root, f"; echo {_MARK}; ".join(questions)).split(_MARK)
    rows = (line.split(maxsplit=1) for line in disks.splitlines())
    return TypedGuest(state.strip(), dict(row for row in rows if len(row) == 2), tuple(snapshots.split()))


def _virsh(root: Path, commands: str) -> str:
    argv = ("virsh", "--quiet", "--connect", embedded(root / HAND), commands)
    tried = t("list the guests with virsh in {folder}", folder=root / HAND)
    return process.run(argv, tried=tried, environment={_LOG: _log(root / HAND)}).stdout.decode(errors="replace")


def _log(folder: Path) -> str:
    """Return where the libvirt in a folder writes its warnings and errors."""
    return f"4:file:{folder / 'virsh.log'}"


def end(root: Path) -> None:
    """End the guests of that libvirt; nothing of them is kept."""
    for descriptor in _guests(f"{root / HAND}/lib/qemu/domain-"):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], _SECONDS_TO_END)
        os.close(descriptor)
    if str(root / HAND) in os.environ.get(_LOG, ""):
        for name in (_ADDRESS, _LOG):
            os.environ.pop(name, None)


def _guests(mark: str) -> Iterator[int]:
    """Open the processes of this user that are a QEMU with a folder that begins so; the caller closes them."""
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if not entry.name.isdigit() or entry.stat().st_uid != os.getuid():
                continue
            descriptor = os.pidfd_open(int(entry.name))
            # Read after it was opened: the number can no longer be that of another process.
            words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            if Path(os.fsdecode(words[0])).name.startswith("qemu-system") and mark.encode() in b"\0".join(words):
                yield descriptor
            else:
                os.close(descriptor)
