"""The cell magic ``%%guest``: runs the cell in a guest."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any, NoReturn

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.lab.opened import open_labs
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host
from vmsnap_nb.model.names import there_are
from vmsnap_nb.words.message import Message, t
from vmsnap_nb.words.printable import coloured

__all__ = ["register"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidRequestError(
            t("run {command}", command="%%guest"),
            said=message,
            next_step=Message("{usage}", usage=self.format_usage()),
        )


def _parser() -> _Parser:
    parser = _Parser(prog="%%guest", description=t("Run the cell in a guest with the guest's /bin/sh."), add_help=False)
    parser.add_argument("name", help=t("the name of the guest, or a variable that holds it"))
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument(
        "--lab", metavar="VARIABLE", help=t("the lab or host; by default the open lab that has the guest")
    )
    parser.add_argument("--out", metavar="VARIABLE", help=t("the variable for the result of the command"))
    return parser


def register(shell: Any) -> None:
    """Add the magic to an IPython shell."""

    def guest(line: str, cell: str) -> None:
        options = _parser().parse_args(shlex.split(line))
        done = _find(shell.user_ns, options.name, options.lab).execute(cell, timeout=options.timeout)
        sys.stdout.write(coloured(done.stdout))
        sys.stdout.flush()
        if done.stderr:
            sys.stderr.write(coloured(done.stderr))
            sys.stderr.flush()
        if done.stdout and not done.stdout.endswith("\n"):
            sys.stdout.write("\n")
        sys.stdout.write(t("[{guest}: exit status {status}]", guest=options.name, status=done.exit_status) + "\n")
        if options.out:
            shell.user_ns[options.out] = done

    guest.__doc__ = _parser().format_help()
    shell.register_magic_function(guest, magic_kind="cell", magic_name="guest")


def _find(names: dict[str, Any], name: str, lab: str | None) -> Guest:
    if lab is not None:
        host = names.get(lab)
        if not isinstance(host, Host):
            raise NotFoundError(
                t("run {command}", command=f"%%guest {name} --lab {lab}"),
                why=t("the variable {variable} holds no lab or host", variable=lab),
                next_step=t("pass a variable that holds a lab or a host: --lab VARIABLE"),
            )
        return host.guest(name)
    labs = open_labs()
    found = [guest for lab in labs for guest in lab.guests() if guest.name == name]
    if len(found) == 1:
        return found[0]
    held = names.get(name)
    if not found and isinstance(held, Guest):
        return held
    if found:
        raise NotFoundError(
            t("run {command}", command=f"%%guest {name}"),
            why=t("several open labs have a guest named {guest}", guest=name),
            next_step=t("specify the lab: --lab VARIABLE"),
        )
    there = sorted(guest.name for lab in labs for guest in lab.guests())
    raise NotFoundError(
        t("run {command}", command=f"%%guest {name}"),
        why=t("no open lab has a guest named {guest}", guest=name) if labs else t("no lab is open"),
        next_step=there_are(name, there, none=t("open a lab and create a guest first")),
    )
