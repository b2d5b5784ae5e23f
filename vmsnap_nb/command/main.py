"""The entry of the command line: all commands, and what becomes of errors, interrupts and closed pipes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import add_completion_class, get_completion_class, shell_complete

import vmsnap_nb
from vmsnap_nb.command.acting import REFUSED, finish, plan_group, run_group
from vmsnap_nb.command.checking import check_command
from vmsnap_nb.command.completion import BashLine
from vmsnap_nb.command.given import Given
from vmsnap_nb.command.grammar import Command, Group
from vmsnap_nb.command.output import error_json, painted
from vmsnap_nb.command.reading import read_commands
from vmsnap_nb.command.reporting import report_command
from vmsnap_nb.command.signals import interrupting
from vmsnap_nb.errors import InvalidRequestError, PlanRefusedError, VmsnapError
from vmsnap_nb.words.message import N_, t
from vmsnap_nb.words.options import in_shell

__all__ = ["PROGRAM", "commands", "main"]

PROGRAM = "vmsnap-nb"
_COMPLETE = "_VMSNAP_NB_COMPLETE"
_ERROR, _INTERRUPTED, _CLOSED_PIPE = 2, 130, 141
_CLOSED = {errno.EPIPE, errno.EIO}
"""What writing to a pipe that nobody reads, and to a terminal that is gone, ends with."""
_SIGNALLED = 128
"""The exit status after a signal is this plus its number, as in a shell."""

add_completion_class(BashLine, "bash")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name may be no UTF-8, and the terminal no Unicode
            stream.reconfigure(errors="backslashreplace")
    try:
        with interrupting() as signals, in_shell():
            status = _status(words, signals)
            sys.stdout.flush()
    except OSError as error:  # as by `| head`; Python would complain of it once more at the end
        if error.errno not in _CLOSED:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE if error.errno == errno.EPIPE else _SIGNALLED + signal.SIGHUP
    return status


def _status(words: list[str], signals: list[int]) -> int:
    """Run a command; return the exit status, after an error is told."""
    status = _ERROR
    try:
        return _run(words)
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, click.Abort):
        print(t("{program}: interrupted", program=PROGRAM), file=sys.stderr)  # noqa: T201
        return _SIGNALLED + signals[0] if signals else _INTERRUPTED
    except VmsnapError as error:
        _tell(error, words)
        status = REFUSED if isinstance(error, PlanRefusedError) else _ERROR
    except Exception as error:  # a defect of ours, of which a user wants no traceback
        if os.environ.get("VMSNAP_DEBUG"):
            raise
        _tell(_defect(error), words)
    # What a signal has stopped may fail before it is interrupted, as writing to a terminal that is gone.
    return _SIGNALLED + signals[0] if signals else status


def _run(words: list[str]) -> int:
    group = commands()
    if asked := os.environ.get(_COMPLETE):
        return shell_complete(group, {}, PROGRAM, _COMPLETE, asked)
    try:  # not by `main`, which ends the process itself if a pipe is closed
        with group.make_context(PROGRAM, words) as context:
            return int(group.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else PROGRAM
        raise InvalidRequestError(
            t("read the command line {line}", line=" ".join([PROGRAM, *words])),
            said=error.format_message(),
            next_step=t("run {command} --help", command=path),
        ) from error


def _defect(error: Exception) -> VmsnapError:
    return VmsnapError(
        t("run the command"),
        why=t("this is a bug in {program}: {error}", program=PROGRAM, error=f"{type(error).__name__}: {error}"),
        next_step=t("please report it, with the output of the same command after export VMSNAP_DEBUG=1"),
    )


def _tell(error: VmsnapError, words: list[str]) -> None:
    if "--json" in words:
        named = [word for word in words if not word.startswith("-")][:2]
        name = " ".join(named[: 2 if named[:1] in (["plan"], ["run"]) else 1])
        print(error_json(name, error))  # noqa: T201
        return
    head = painted(f"{PROGRAM}:", "red", sys.stderr)
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    print(f"{head} {error}{notes}", file=sys.stderr)  # noqa: T201


def commands() -> Group:
    """Return all commands, in the current language."""
    group = Group(
        PROGRAM,
        N_("Inspect, snapshot and merge virtual machine images"),
        notes=(
            N_(
                "--connect URI selects a libvirt connection. The default is VIRSH_DEFAULT_CONNECT_URI or "
                "LIBVIRT_DEFAULT_URI. If neither is set, commands about guests use qemu:///system."
            ),
        ),
        examples=(
            "vmsnap-nb scan /srv/images",
            "vmsnap-nb plan commit --guest web",
            "vmsnap-nb check --connect qemu:///system",
            'eval "$(vmsnap-nb completion bash)"',
        ),
    )
    version = click.version_option(vmsnap_nb.__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
    version(group)
    for command in (
        *read_commands(),
        plan_group(),
        run_group(),
        finish(),
        check_command(),
        report_command(),
        _completion(),
    ):
        group.add_command(command)
    return group


def _completion() -> Command:
    shell = Given(name="shell", what=N_("the shell"), place="SHELL", required=True, choices=("bash", "zsh", "fish"))
    return Command(
        "completion",
        N_("Print the script for tab completion of this command in a shell"),
        _complete,
        givens=(shell,),
        examples=(
            'eval "$(vmsnap-nb completion bash)"',
            "vmsnap-nb completion fish > ~/.config/fish/completions/vmsnap-nb.fish",
        ),
    )


def _complete(values: dict[str, Any]) -> int:
    kind = get_completion_class(values["shell"])
    assert kind is not None
    print(kind(commands(), {}, PROGRAM, _COMPLETE).source())  # noqa: T201
    return 0
