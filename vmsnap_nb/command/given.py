"""Arguments and options of commands: described once, for the parser, for help and for the calls that they become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import click

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import t

__all__ = ["Given", "passed"]

Kind = Literal["text", "flag", "count", "number", "file"]
_TYPES: dict[str, Any] = {"count": click.INT, "number": click.FLOAT, "file": click.Path(readable=False)}


@dataclass(frozen=True, kw_only=True)
class Given:
    """One option of a command, or, if `place` is set, one argument, which usage lines call so.

    `name` is the parameter of the public function that gets it, and `guest_name` that of the function of a guest, if it
    is called differently there. `only` says to which of the two it belongs, if not to both. `word` is the option's name
    if it differs, `short` its short form, and `value` what help calls its value. A flag that is `off` turns off what is
    on by default. A text may be `empty` only where this is said. `convert` makes the argument of the function, and
    `complete` what a shell offers.
    """

    name: str
    what: str
    kind: Kind = "text"
    only: Literal["", "images", "guest"] = ""
    place: str = ""
    many: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()
    word: str = ""
    value: str = ""
    short: str = ""
    off: bool = False
    empty: bool = False
    guest_name: str = ""
    convert: Callable[[Any], Any] | None = None
    complete: Callable[[click.Context, click.Parameter, str], list[str]] | None = None

    def parameter(self) -> click.Parameter:
        """Return what click parses."""
        kind = click.Choice(self.choices) if self.choices else _TYPES.get(self.kind, click.STRING)
        if self.place:
            count = -1 if self.many else 1
            return click.Argument(
                [self.name],
                type=kind,
                metavar=self.place,
                required=self.required,
                nargs=count,
                shell_complete=self.complete,
            )
        if self.kind == "flag":
            return click.Option([self.flag, self.name], is_flag=True)
        flags = [self.flag, self.name, *([self.short] if self.short else [])]
        return click.Option(flags, type=kind, multiple=self.many, required=self.required, shell_complete=self.complete)

    @property
    def flag(self) -> str:
        """The option's name as it is typed."""
        return "--" + (self.word or self.name).replace("_", "-")

    @property
    def usage(self) -> str:
        """How help lists it."""
        if self.place:
            return self.place
        if self.kind == "flag":
            return self.flag
        value = self.value or "|".join(self.choices) or (self.word or self.name).upper().replace("-", "_")
        return f"{self.short}, {self.flag} {value}" if self.short else f"{self.flag} {value}"

    @property
    def help(self) -> str:
        """What it is, in the current language."""
        text = t(self.what)
        if self.only == "guest":
            return t("{text} (only with --guest)", text=text)
        return t("{text} (not with --guest)", text=text) if self.only == "images" else text

    def check(self, value: Any) -> None:
        """Refuse an empty text, as of a variable that is not set: it is not the same as no option."""
        values = value if isinstance(value, tuple) else (value,)
        if "" in values and not self.empty:
            raise InvalidRequestError(
                t("use {option}", option=self.place or self.flag),
                why=t("its value is empty"),
                next_step=t("omit it, or pass a value"),
            )

    def is_given(self, value: Any) -> bool:
        """Return whether a value was given."""
        return value is not None and value != () and value is not False


def passed(givens: tuple[Given, ...], values: dict[str, Any], *, guest: bool) -> dict[str, Any]:
    """Return the keyword arguments of a public function, of what was given; `guest` is whether it is one of a guest."""
    found: dict[str, Any] = {}
    for given in givens:
        value = values.get(given.name)
        if given.is_given(value):
            name = given.guest_name if guest and given.guest_name else given.name
            found[name] = False if given.off else value if given.convert is None else given.convert(value)
    return found
