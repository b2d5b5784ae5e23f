"""The cell magic ``%%guest``: runs the cell in a guest."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any, NoReturn

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.lab.lab import open_labs
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host

__all__ = ["register"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidRequestError("%%guest", said=message, next_step=self.format_usage())


def _parser() -> _Parser:
    parser = _Parser(prog="%%guest", description="Run the cell in a guest by its /bin/sh.", add_help=False)
    parser.add_argument("name", help="the guest, or a variable that holds it")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--lab", metavar="VARIABLE", help="the lab or host; the open lab that has the guest otherwise")
    parser.add_argument("--out", metavar="VARIABLE", help="where to put what the command left behind")
    return parser


def register(shell: Any) -> None:
    """Add the magic to an IPython shell.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The shell.
    """

    def guest(line: str, cell: str) -> None:
        options = _parser().parse_args(shlex.split(line))
        done = _find(shell.user_ns, options.name, options.lab).execute(cell, timeout=options.timeout)
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
        if done.stderr:
            sys.stderr.write(done.stderr)
            sys.stderr.flush()
        if done.stdout and not done.stdout.endswith("\n"):
            sys.stdout.write("\n")
        sys.stdout.write(f"[{options.name}: exit status {done.exit_status}]\n")
        if options.out:
            shell.user_ns[options.out] = done

    guest.__doc__ = _parser().format_help()
    shell.register_magic_function(guest, magic_kind="cell", magic_name="guest")


def _find(names: dict[str, Any], name: str, lab: str | None) -> Guest:
    if lab is not None:
        host = names.get(lab)
        if not isinstance(host, Host):
            raise NotFoundError(f"%%guest {name} --lab {lab}", said=f"there is no lab or host in the variable {lab}")
        return host.guest(name)
    labs = open_labs()
    found = [guest for one in labs for guest in one.guests() if guest.name == name]
    if len(found) == 1:
        return found[0]
    held = names.get(name)
    if not found and isinstance(held, Guest):
        return held
    if found:
        raise NotFoundError(
            f"%%guest {name}", said="several open labs have a guest of that name", next_step="say which: --lab VARIABLE"
        )
    there = sorted(guest.name for one in labs for guest in one.guests())
    raise NotFoundError(
        f"%%guest {name}",
        said="no open lab has a guest of that name" if labs else "no lab is open",
        next_step="there are: " + ", ".join(there) if there else "open one and make a guest first",
    )
