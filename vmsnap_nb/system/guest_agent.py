"""Runs commands in a guest, and freezes its file systems, by the QEMU guest agent.

Source: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vmsnap_nb.errors import GuestError, GuestNotReadyError, LibvirtError, VmsnapError
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.system.guest_port import check_command
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

__all__ = ["AGENT_PORT", "agent_answers", "freeze", "is_frozen", "run_by_agent", "thaw"]

AGENT_PORT = "org.qemu.guest_agent.0"
"""The name by which libvirt and the agent know its virtio serial port."""


def agent_answers(domain: Any, *, seconds: int = 5) -> bool:
    """Tell whether an agent answers now; it is heard out for as long as libvirt itself would."""
    try:
        _ask(domain, "guest-ping", seconds=seconds)
    except VmsnapError:
        return False
    return True


def freeze(domain: Any) -> int:
    """Write all data of a guest to its disks and hold every further write back until `thaw`.

    Parameters
    ----------
    domain : libvirt.virDomain
        The guest.

    Returns
    -------
    int
        How many file systems are frozen.

    Raises
    ------
    GuestNotReadyError
        The guest is off, or no agent answers in it.
    LibvirtError
        The agent refuses; it does so where they are frozen already.
    """
    with _needs_agent(domain, "freeze the file systems of"):
        return int(domain.fsFreeze())


def thaw(domain: Any) -> int:
    """Let the guest write again; nothing happens where nothing is frozen.

    Parameters
    ----------
    domain : libvirt.virDomain
        The guest.

    Returns
    -------
    int
        How many file systems were thawed.

    Raises
    ------
    GuestNotReadyError
        The guest is off, or no agent answers in it.
    """
    with _needs_agent(domain, "thaw the file systems of"):
        return int(domain.fsThaw())


def is_frozen(domain: Any) -> bool:
    """Tell whether the agent holds file systems frozen.

    Raises
    ------
    GuestNotReadyError
        The guest is off, or no agent answers in it.
    """
    with _needs_agent(domain, "ask about the file systems of"):
        return bool(_ask(domain, "guest-fsfreeze-status") == "frozen")


@contextmanager
def _needs_agent(domain: Any, tried: str) -> Iterator[None]:
    libvirt = library()
    away = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED)
    tried = f"{tried} {domain.name()}"
    try:
        with libvirt_errors(tried):
            yield
    except LibvirtError as error:
        if error.code not in away:
            raise
        raise GuestNotReadyError(
            tried, said=error.said, next_step="start the guest and, in it, qemu-guest-agent; wait until that answers"
        ) from error


def _ask(domain: Any, command: str, *, seconds: int = 5, **arguments: object) -> Any:
    library()
    import libvirt_qemu

    request = json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})
    with libvirt_errors(f"ask the guest agent of {domain.name()} for {command}"):
        return json.loads(libvirt_qemu.qemuAgentCommand(domain, request, seconds, 0))["return"]


def run_by_agent(domain: Any, command: str, *, timeout: float) -> Completed:
    """Run a command by the guest's ``/bin/sh`` and wait for its end.

    Parameters
    ----------
    domain : libvirt.virDomain
        The guest.
    command : str
        For ``/bin/sh -c``.
    timeout : float
        Seconds after which it is killed.

    Returns
    -------
    Completed

    Raises
    ------
    GuestError
        It took too long.
    GuestNotReadyError
        The agent answers no more, or is not allowed to run commands.
    """
    check_command(command)
    deadline = time.monotonic() + timeout
    folder = f"/tmp/vmsnap-{secrets.token_hex(8)}"  # noqa: S108 - in the guest; mkdir fails if it is there
    # The agent gives output only when all that hold the pipe have ended: files let a background program go on. The
    # file systems are synchronized so that the data outlive the guest. A session of its own can be ended as a whole.
    script = (
        f'mkdir -m 700 {folder} || exit; ( [ -z "$HOME" ] && export HOME=/root; cd "$HOME" 2>/dev/null || cd /; '
        f'exec /bin/sh -c "$0" ) </dev/null >{folder}/out 2>{folder}/err; s=$?; sync; '
        f"cat {folder}/out; cat {folder}/err >&2; rm -rf {folder}; exit $s"
    )
    arguments = ["-c", 'exec setsid /bin/sh -c "$0" "$1"', script, command]
    try:
        pid = _ask(domain, "guest-exec", path="/bin/sh", arg=arguments, **{"capture-output": True})["pid"]
        wait = 0.02
        while not (status := _ask(domain, "guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() >= deadline:
                _ask(domain, "guest-exec", path="/bin/sh", arg=["-c", f"kill -KILL -{pid}; rm -rf {folder}"])
                raise GuestError(
                    f"run in the guest: {command.strip()[:200]}",
                    said=f"it took longer than {timeout:g} s and was ended",
                    next_step="give it more time: execute(…, timeout=…), or put it into the background with &",
                )
            time.sleep(wait)
            wait = min(wait * 1.5, 0.5)
    except GuestError:
        raise
    except VmsnapError as error:
        raise GuestNotReadyError(
            f"run a command in {domain.name()} by its guest agent", said=error.said, next_step=error.next_step
        ) from error
    exit_status = 128 + status["signal"] if "signal" in status else status["exitcode"]
    return Completed.of(
        exit_status, base64.b64decode(status.get("out-data", "")), base64.b64decode(status.get("err-data", ""))
    )
