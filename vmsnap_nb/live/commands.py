"""Commands in a guest that runs, its agent, and its console."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vmsnap_nb.errors import GuestError, GuestNotReadyError, VmsnapError
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.plans.by_hand import domain_argument
from vmsnap_nb.system.guest.agent import AGENT_PORT, agent_answers, run_by_agent
from vmsnap_nb.system.guest.console import console_kind, console_log, read_console
from vmsnap_nb.system.guest.port import COMMAND_PORT, Port, ask_port, grace, run_on_port
from vmsnap_nb.system.guest.serial import SerialConsole
from vmsnap_nb.system.libvirt.domains import channels, is_starting
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.within import within
from vmsnap_nb.words.message import t

__all__ = ["Commands"]

_T = TypeVar("_T")
_BUSY_PORTS: dict[str, threading.Lock] = {}
"""By the guest's UUID; in a copy of this process made by fork nobody would ever release them."""
os.register_at_fork(after_in_child=_BUSY_PORTS.clear)
_OPEN_PORTS: dict[str, Port] = {}
"""By the guest's UUID: where a command of this process runs."""
_STARTING: set[str] = set()
"""By the guest's UUID: which this process starts from saved memory now."""
os.register_at_fork(after_in_child=_STARTING.clear)
_SILENT: set[str] = set()
"""By the guest's UUID: where nothing came from the port when it was open last."""
_AGENT_STARTS = 10.0
"""Seconds that the agent of a lab's guest may take to start after the guest takes commands: without KVM about one."""
_ONE_TRY = 5.0
"""Seconds in which a guest that gets ready has to answer; then it is asked again."""
_LINE = 200
"""Characters of a line of the console that an error shows."""
_HANGS = 3.0
"""Seconds after which an agent that was asked and has not answered hangs."""


@dataclass(frozen=True)
class Commands:
    """What runs commands in one guest: the listener of a lab's guest, or the QEMU guest agent."""

    handle: GuestHandle

    @property
    def takes_commands(self) -> bool:
        """Whether it is a lab's guest, whose listener takes commands."""
        return COMMAND_PORT in channels(self.handle.xml())

    @property
    def listens(self) -> bool:
        """Whether that listener has its port open now."""
        return channels(self.handle.xml()).get(COMMAND_PORT, False)

    def wait_ready(self, timeout: float) -> None:
        """Wait until the guest takes commands."""
        handle = self.handle
        tried = t("wait until {guest} accepts commands", guest=handle.name)
        deadline = time.monotonic() + timeout
        why, next_step = t("it did not become ready in time"), t("check the output of console()")
        self._wait_start(deadline)
        while time.monotonic() < deadline:
            handle.check_answers(tried, deadline)
            if not handle.still_running:
                why, next_step = t("it is not running"), t("start it")
                break
            ports = channels(handle.xml())
            if not {COMMAND_PORT, AGENT_PORT} & set(ports):
                why = t("the guest has neither a lab port nor a port for the QEMU guest agent")
                break
            if COMMAND_PORT in ports:
                failed = self._try_port(min(deadline, time.monotonic() + _ONE_TRY))
                if failed is None:
                    return
                last = failed.reason or str(failed)
                why = t("it did not become ready in time; the last attempt failed: {error}", error=last)
            if ports.get(AGENT_PORT) and self._agent_answers_by(deadline):
                return
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        tail = self.console_tail()
        if tail:
            why = t("{why}. The end of its console output:\n{console}", why=why, console=tail)
        raise GuestNotReadyError(tried, why=why, next_step=next_step)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Keep other threads of this process from the guest's port: the first line has to be the lab's."""
        uuid = self.handle.ref.uuid
        _STARTING.add(uuid)
        try:
            yield
        finally:
            _STARTING.discard(uuid)

    def _wait_start(self, deadline: float) -> None:
        while self.handle.ref.uuid in _STARTING and time.monotonic() < deadline:
            time.sleep(0.05)

    def _try_port(self, deadline: float) -> VmsnapError | None:
        """Ask a lab's guest by its port whether it takes commands, and return the reason if it does not."""
        try:
            self._on_port(lambda port: ask_port(port, deadline), deadline, deadline)
        except (GuestNotReadyError, GuestError) as error:
            return error
        return None

    def _agent_answers_by(self, deadline: float) -> bool:
        return agent_answers(self.handle.domain, seconds=min(5.0, max(0.0, deadline - time.monotonic())))

    def execute(self, command: str, timeout: float) -> Completed:
        """Run a command by the guest's shell, and wait for its end."""
        handle = self.handle
        tried = t("run a command in {guest}", guest=handle.name)
        end = time.monotonic() + timeout
        handle.check_writable(tried)
        self._wait_start(end)
        handle.check_answers(tried, end)
        if not handle.still_running:
            raise GuestNotReadyError(tried, why=t("it is not running"), next_step=t("start it first"))
        while is_starting(handle.domain) and time.monotonic() < end:
            time.sleep(0.1)
        if handle.state == "paused":
            raise GuestNotReadyError(tried, why=t("it is paused"), next_step=t("call resume() first"))
        ports = channels(handle.xml())
        # The agent refuses to run commands while it has the file systems frozen; the listener still runs them.
        if ports.get(COMMAND_PORT):
            return self.run_on_port(command, timeout=timeout)
        if ports.get(AGENT_PORT) and self._agent_answers_by(end):
            return run_by_agent(handle.domain, command, timeout=max(0.0, end - time.monotonic()))
        if COMMAND_PORT in ports:
            return self.run_on_port(command, timeout=timeout)
        raise GuestNotReadyError(
            tried,
            why=t("the QEMU guest agent in it does not respond"),
            next_step=t("install and start qemu-guest-agent in the guest, or wait until it has started"),
        )

    def agent_answers(self) -> bool:
        """Return whether its agent answers. A lab's guest takes commands before its agent runs: that is waited for."""
        handle = self.handle
        deadline = time.monotonic() + _AGENT_STARTS
        ports = channels(handle.xml())
        comes = COMMAND_PORT in ports and handle.state == "running"
        if comes and not ports.get(AGENT_PORT):
            try:
                comes = self.run_on_port("test -d /run/vmsnap/agent", timeout=10).exit_status == 0
            except VmsnapError:
                comes = False
        while True:
            asked = time.monotonic()
            if ports.get(AGENT_PORT) and agent_answers(handle.domain):
                return True
            # One that was heard out hangs. libvirt says at once that it has not opened the port yet, when QEMU has.
            if not comes or time.monotonic() > deadline or time.monotonic() - asked > _HANGS:
                return False
            time.sleep(0.1)
            ports = channels(handle.xml())

    def run_on_port(self, command: str, *, timeout: float, deadline: float | None = None) -> Completed:
        """Run a command by the listener of a lab's guest; to wait for one of another thread counts as its time."""
        end = time.monotonic() + timeout
        deadline = end + grace(timeout) if deadline is None else deadline
        return self._on_port(lambda port: run_on_port(port, command, timeout=timeout, deadline=deadline), end, deadline)

    def _on_port(self, act: Callable[[Port], _T], end: float, deadline: float) -> _T:
        """Do something with the port of a lab's guest, which one thread has at a time: until `end` it is waited for."""
        handle = self.handle
        tried = t("run a command in {guest}", guest=handle.name)
        self._wait_start(min(end, deadline))
        lock = _BUSY_PORTS.setdefault(handle.ref.uuid, threading.Lock())
        if not lock.acquire(timeout=max(0.0, min(end, deadline) - time.monotonic())):
            raise GuestNotReadyError(
                tried, why=t("another command is still running in the guest"), next_step=t("wait until it has finished")
            )
        try:
            wait = min(5.0, max(0.0, deadline - time.monotonic()))
            if handle.ref.uuid in _SILENT:
                # A QEMU that hangs takes no connection, and the socket keeps only two of them. libvirt would wait
                # with the next one without an end, and let nobody else ask for the guest's state meanwhile.
                within(wait, tried, self._ask_qemu)
            with Port(handle.link.handle, handle.domain, COMMAND_PORT, wait=wait) as port:
                _OPEN_PORTS[handle.ref.uuid] = port
                try:
                    return act(port)
                finally:
                    (_SILENT.discard if port.has_heard else _SILENT.add)(handle.ref.uuid)
        finally:
            _OPEN_PORTS.pop(handle.ref.uuid, None)
            lock.release()

    def _ask_qemu(self) -> None:
        """Ask QEMU for something small, which shows that it does not hang."""
        with libvirt_errors(t("open the port {port} of {guest}", port=COMMAND_PORT, guest=self.handle.name)):
            self.handle.domain.diskErrors()

    def interrupt(self) -> bool:
        """End the command that another thread runs by the listener of a lab's guest; return whether there is one."""
        port = _OPEN_PORTS.get(self.handle.ref.uuid)
        if port is not None:
            port.stop_waiting()  # the guest ends a command when nobody waits for it any more
        return port is not None

    def open_terminal(self) -> SerialConsole:
        """Open its serial console, to read and to type; whoever opened it closes it."""
        handle = self.handle
        tried = t("open the serial console of {guest}", guest=handle.name)
        handle.check_writable(tried)
        if not handle.still_running:
            raise GuestNotReadyError(tried, why=t("it is not running"), next_step=t("start it first"))
        kind = console_kind(parse_xml(handle.xml()))
        if kind != "pty":  # libvirt connects to no other
            why = t("its console is connected to {kind}, not to a pseudoterminal (pty)", kind=kind)
            name = domain_argument(handle.ref.name, handle.ref.uuid)
            raise GuestNotReadyError(
                tried,
                why=why if kind else t("it has no serial console"),
                next_step=t(
                    "in the definition, connect its console to a pty ({element}): {command}. Then shut the guest down "
                    "and start it again",
                    element="<console type='pty'/>",
                    command=shlex.join(("virsh", "-c", handle.link.uri, "edit", name)),
                ),
            )
        return SerialConsole(handle.link.handle, handle.domain)

    def resize_terminal(self, rows: int, columns: int) -> bool:
        """Tell a lab's guest how large the terminal on its serial console is; return whether it knows now."""
        if self.handle.state != "running" or not self.listens:
            return False
        size = f"rows {rows:d} cols {columns:d}"
        done = self.run_on_port(f"/run/vmsnap/ld.so /run/vmsnap/busybox stty -F /dev/ttyS0 {size}", timeout=5)
        return done.exit_status == 0

    def console(self) -> str:
        """Return what the guest has written to its serial console since it was started."""
        handle = self.handle
        path = console_log(parse_xml(handle.xml()))
        name = domain_argument(handle.ref.name, handle.ref.uuid)
        if path is None or not handle.link.files_are_here:
            command = shlex.join(("virsh", "-c", handle.link.uri, "console", name))
            why = t("the console output is not written to a file")
            if path is not None:
                why = t("{path} is on another machine", path=path)
            raise GuestError(
                t("read the console of {guest}", guest=handle.name),
                why=why,
                next_step=t("use this command: {command}", command=command),
            )
        return read_console(path)

    def console_tail(self) -> str:
        """Return the last lines of its console; empty where they cannot be read."""
        try:
            return "\n".join(line[:_LINE] for line in self.console().splitlines()[-8:])
        except VmsnapError:
            return ""
