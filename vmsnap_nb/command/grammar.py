"""Commands and groups of commands with their help: usage, arguments, options and examples, in the current language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from vmsnap_nb.command.given import Given
from vmsnap_nb.views.shown_text import width, wrap
from vmsnap_nb.words.message import N_, t

__all__ = ["COMMON", "READONLY", "Command", "Group"]

_MOST_LEFT = 30
"""Columns of a name in a list of help; the text of a longer one begins on the next line."""

COMMON = (
    Given(
        name="connect",
        what=N_("the URI of a libvirt connection, or NAME=URI; can be repeated for several hosts"),
        many=True,
        value="URI",
    ),
    Given(
        name="shared",
        what=N_("a folder shared by all hosts, such as an NFS mount"),
        many=True,
        kind="file",
        value="FOLDER",
    ),
    Given(name="json", what=N_("print JSON"), kind="flag"),
)
"""Options of all commands."""
READONLY = Given(name="readonly", what=N_("connect read-only"), kind="flag")
"""An option of commands that change nothing."""


class Command(click.Command):
    """One command; what it does is `call`, which is given the values by name and returns the exit status."""

    def __init__(
        self,
        name: str,
        what: str,
        call: Callable[[dict[str, Any]], int],
        *,
        givens: Iterable[Given] = (),
        examples: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self.what, self.examples, self.notes, self.givens = what, tuple(examples), tuple(notes), tuple(givens)
        self._does = call
        super().__init__(
            name,
            callback=self._call,
            params=[given.parameter() for given in self.givens],
            add_help_option=True,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def _call(self, **values: Any) -> int:
        for given in self.givens:
            given.check(values[given.name])
        return self._does(values)

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002 - click's own signature
        """Return what it does; completion shows it."""
        return t(self.what)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page."""
        places = [_bracketed(given) for given in self.givens if given.place]
        lines = [t("Usage: {usage}", usage=" ".join((ctx.command_path, *places, "[OPTIONS]"))), ""]
        lines += [*wrap(t("{sentence}.", sentence=t(self.what)), formatter.width), ""]
        for note in self.notes:
            lines += [*wrap(t(note), formatter.width), ""]
        arguments = [(given.usage, given.help) for given in self.givens if given.place]
        options = [(given.usage, given.help) for given in self.givens if not given.place]
        options.append(("-h, --help", t("show this help")))
        if arguments:
            lines += [t("Arguments:"), *_listed(arguments, formatter.width), ""]
        lines += [t("Options:"), *_listed(options, formatter.width)]
        if self.examples:
            lines += ["", t("Examples:"), *(f"  {example}" for example in self.examples)]
        formatter.write("\n".join(lines) + "\n")


class Group(click.Group):
    """Several commands under one name."""

    def __init__(self, name: str, what: str, *, notes: Iterable[str] = (), examples: Iterable[str] = ()) -> None:
        self.what, self.notes, self.examples = what, tuple(notes), tuple(examples)
        super().__init__(name, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002 - click's own signature
        """Return what its commands do."""
        return t(self.what)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page."""
        lines = [t("Usage: {usage}", usage=f"{ctx.command_path} COMMAND …"), ""]
        lines += [*wrap(t("{sentence}.", sentence=t(self.what)), formatter.width), ""]
        for note in self.notes:
            lines += [*wrap(t(note), formatter.width), ""]
        commands = [(name, self.commands[name].get_short_help_str()) for name in self.commands]
        lines += [t("Commands:"), *_listed(commands, formatter.width), ""]
        options = [("-h, --help", t("show this help"))]
        if ctx.parent is None:
            options.append(("--version", t("show the version")))
        lines += [t("Options:"), *_listed(options, formatter.width)]
        if self.examples:
            lines += ["", t("Examples:"), *(f"  {example}" for example in self.examples)]
        formatter.write("\n".join(lines) + "\n")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        """Return the names in the order in which they were added."""
        return list(self.commands)


def _bracketed(given: Given) -> str:
    place = f"{given.place}…" if given.many else given.place
    return place if given.required else f"[{place}]"


def _listed(rows: Sequence[tuple[str, str]], columns: int) -> list[str]:
    left = min(max(width(name) for name, _ in rows), _MOST_LEFT) + 4
    lines: list[str] = []
    for name, text in rows:
        first = f"  {name}"
        if width(first) + 2 > left:
            lines.append(first)
            first = ""
        lines += wrap(text, columns, first + " " * (left - width(first)), " " * left)
    return lines
