"""Runs commands in a guest, and freezes its file systems, by the QEMU guest agent.

Source: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from vmsnap_nb.errors import GuestError, GuestNotReadyError, LibvirtError, VmsnapError
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.system.guest.port import MAX_OUTPUT, check_command, grace, odd_answer, too_late
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.within import within
from vmsnap_nb.words.message import Message, t

__all__ = ["AGENT_PORT", "agent_answers", "freeze", "is_frozen", "run_by_agent", "thaw"]

T = TypeVar("T")

_EXCERPT = 80
AGENT_PORT = "org.qemu.guest_agent.0"
"""The name by which libvirt and the agent know its virtio serial port."""


def agent_answers(domain: Any, *, seconds: float = 5) -> bool:
    """Return whether an agent answers now; by default it is heard out for as long as libvirt itself would."""
    try:
        _ask(domain, "guest-ping", seconds=seconds)
    except VmsnapError:
        return False
    return True


def freeze(domain: Any) -> int:
    """Write a guest's data to its disks and hold every further write back until `thaw`; return how many file systems.

    The agent refuses with a `LibvirtError` where they are frozen already.
    """
    with _needs_agent(t("freeze the file systems of {guest}", guest=domain.name())):
        return int(domain.fsFreeze())


def thaw(domain: Any) -> int:
    """Let the guest write again; return how many file systems were thawed, 0 where none was frozen."""
    with _needs_agent(t("thaw the file systems of {guest}", guest=domain.name())):
        return int(domain.fsThaw())


def is_frozen(domain: Any) -> bool:
    """Return whether the agent holds file systems frozen."""
    with _needs_agent(t("read the state of the file systems of {guest}", guest=domain.name())):
        return bool(_ask(domain, "guest-fsfreeze-status") == "frozen")


@contextmanager
def _needs_agent(tried: Message) -> Iterator[None]:
    libvirt = library()
    away = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED)
    try:
        with libvirt_errors(tried):
            yield
    except LibvirtError as error:
        if error.code not in away:
            raise
        raise GuestNotReadyError(
            tried,
            said=error.quoted,
            next_step=t("start the guest, start qemu-guest-agent inside it, and wait until the agent responds"),
        ) from error


def _ask(domain: Any, command: str, *, seconds: float = 5, **arguments: object) -> Any:
    """Return what the agent answers to a command within these seconds; somebody in the guest may have written it."""
    library()
    import libvirt_qemu

    request = json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})
    tried = t("run {command} of the guest agent of {guest}", command=command, guest=domain.name())

    def ask() -> str:
        with libvirt_errors(tried):
            return str(libvirt_qemu.qemuAgentCommand(domain, request, max(1, round(seconds)), 0))

    answer = within(seconds, tried, ask)
    try:
        return json.loads(answer)["return"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise odd_answer(tried, f"{type(error).__name__}: {error}"[:_EXCERPT]) from error


def _field(answer: Any, name: str, kind: type[T], default: T | None = None) -> T:
    """Return a field of an answer; a GuestError if it is not there, or of another kind."""
    value = answer.get(name, default) if isinstance(answer, dict) else None
    if type(value) is not kind:
        raise odd_answer(t("run a command through the guest agent"), f"{name}={str(value)[:_EXCERPT]!r}")
    return value


def run_by_agent(domain: Any, command: str, *, timeout: float) -> Completed:
    """Run a command by the guest's ``/bin/sh`` and wait for its end; after `timeout` seconds it is killed."""
    check_command(command)
    end = time.monotonic() + timeout
    deadline = end + grace(timeout)
    folder = f"/tmp/vmsnap-{secrets.token_hex(8)}"  # noqa: S108 - in the guest; mkdir fails if it is there
    # The agent gives output only when all that hold the pipe have ended: files let a background program go on. The
    # file systems are synchronized so that the data outlive the guest. A session of its own can be ended as a whole.
    # A little more than is kept shows that it is cut.
    part = f"dd bs=65536 count={MAX_OUTPUT // 65536 + 1} 2>/dev/null <{folder}"
    script = (
        f'mkdir -m 700 {folder} || exit; ( [ -z "$HOME" ] && export HOME=/root; cd "$HOME" 2>/dev/null || cd /; '
        f'exec /bin/sh -c "$0" ) </dev/null >{folder}/out 2>{folder}/err; s=$?; sync; '
        f"{part}/out; {{ {part}/err; }} >&2; rm -rf {folder}; exit $s"
    )
    arguments = ["-c", 'exec setsid /bin/sh -c "$0" "$1"', script, command]
    options = {"path": "/bin/sh", "arg": arguments, "capture-output": True}
    tried = t("run in the guest: {command}", command=command.strip()[:200])
    try:
        pid = _field(_ask(domain, "guest-exec", seconds=deadline - time.monotonic(), **options), "pid", int)
        wait = 0.02
        while not _field(status := _status(domain, pid, deadline), "exited", bool):
            if time.monotonic() >= end:
                with contextlib.suppress(VmsnapError):
                    kill = ["-c", f"kill -KILL -{pid}; rm -rf {folder}"]
                    _ask(domain, "guest-exec", seconds=max(0.1, deadline - time.monotonic()), path="/bin/sh", arg=kill)
                raise too_late(tried, timeout)
            time.sleep(min(wait, max(0.0, end - time.monotonic())))
            wait = min(wait * 1.5, 0.5)
    except GuestNotReadyError as error:
        raise GuestNotReadyError(tried, why=error.why, said=error.quoted, next_step=error.next_step) from error
    except GuestError:
        raise
    except VmsnapError as error:
        raise GuestNotReadyError(
            t("run a command in {guest} through its guest agent", guest=domain.name()),
            why=error.why,
            said=error.quoted,
            next_step=error.next_step,
        ) from error
    return _completed(status)


def _status(domain: Any, pid: int, deadline: float) -> Any:
    return _ask(domain, "guest-exec-status", seconds=max(0.1, deadline - time.monotonic()), pid=pid)


def _completed(status: Any) -> Completed:
    exit_status = 128 + _field(status, "signal", int) if "signal" in status else _field(status, "exitcode", int)
    if abs(exit_status) >= 1 << 32:
        raise odd_answer(t("run a command through the guest agent"), f"exitcode={exit_status}")
    try:
        out, err = (base64.b64decode(_field(status, f"{part}-data", str, ""), validate=True) for part in ("out", "err"))
    except ValueError as error:
        raise odd_answer(t("run a command through the guest agent"), str(error)) from error
    completed = Completed.of(exit_status, out, err, most=MAX_OUTPUT)
    return replace(completed, cut=completed.cut or bool(status.get("out-truncated") or status.get("err-truncated")))
