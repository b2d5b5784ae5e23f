"""``check``: one line and an exit status, for monitoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vmsnap_nb.command.grammar import COMMON, READONLY, Command
from vmsnap_nb.command.output import Output
from vmsnap_nb.command.reading import FOLDERS_OR_HOST
from vmsnap_nb.command.where import opened
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.by_host import TablesByHost
from vmsnap_nb.words.message import N_, counted, joined, t

if TYPE_CHECKING:
    from vmsnap_nb.plans.findings import Findings

__all__ = ["check_command"]

_SEVERITIES = {"error": 2, "warning": 1, "note": 0}
_WORDS = ("OK", "WARNING", "CRITICAL")
"""What monitoring systems read; by the exit status."""
_COLOURS = ("green", "yellow", "red")
_NAMED = 3
"""Findings that the line names."""


def check_command() -> Command:
    """Return ``vmsnap-nb check``."""
    return Command(
        "check",
        N_("Check images and guests for problems, and print a one-line summary for monitoring"),
        _check,
        givens=(FOLDERS_OR_HOST, READONLY, *COMMON),
        notes=(
            N_(
                "The exit status is 0 if no problem was found, 1 if there are warnings, and 2 if there "
                "are errors or a check failed. “vmsnap-nb findings” shows the details."
            ),
        ),
        examples=("vmsnap-nb check --connect qemu:///system --readonly", "vmsnap-nb check /srv/images"),
    )


def _check(values: dict[str, Any]) -> int:
    output = Output("check", as_json=values["json"])
    try:
        with opened(values) as where:
            folders = values["folder"]
            found = where.host().findings(*folders) if where.has_libvirt else where.forest(folders).findings()
    except VmsnapError as error:
        if output.as_json:
            raise
        _line(output, 2, t("{headline}: {reason}", headline=error.headline, reason=error.reason))
        return 2
    rows = tuple(_rows(found))
    counts = Counter(severity for severity, _ in rows)
    status = max((_SEVERITIES[severity] for severity, _ in rows), default=0)
    if output.as_json:
        output.show(found, facts={"status": status, "state": _WORDS[status]})
    else:
        numbers = " ".join(f"{name}s={counts[name]}" for name in _SEVERITIES)
        _line(output, status, f"{_said(rows, status)} | {numbers}")
    return status


def _rows(found: Findings | TablesByHost[Findings]) -> Iterator[tuple[str, str]]:
    """Yield the severity and the words of each finding; that a host gives no answer is one as well."""
    if not isinstance(found, TablesByHost):
        yield from ((str(one.severity), f"{one.name} {one.where}".strip()) for one in found)
        return
    for host, error in found.problems.items():
        yield "error", t("{host} did not respond: {why}", host=host, why=error.reason)
    for host, some in found.items():
        yield from ((str(one.severity), f"{host}: {one.name} {one.where}".strip()) for one in some)


def _said(rows: tuple[tuple[str, str], ...], status: int) -> str:
    worst = [said for severity, said in rows if _SEVERITIES[severity] == status] if status else []
    if not worst:
        return t("no problems found in what could be checked")
    named = joined(worst[:_NAMED])
    if len(worst) <= _NAMED:
        return named
    return counted("{named} and {count} more", "{named} and {count} more", len(worst) - _NAMED, named=named)


def _line(output: Output, status: int, text: str) -> None:
    from vmsnap_nb.views.shown_text import shown

    output.line(f": {shown(text)}", label=_WORDS[status], colour=_COLOURS[status])
