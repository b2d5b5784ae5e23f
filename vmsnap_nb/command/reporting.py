"""``report``: a page of HTML."""

from __future__ import annotations

from typing import Any

from vmsnap_nb.command.given import Given
from vmsnap_nb.command.grammar import COMMON, READONLY, Command
from vmsnap_nb.command.output import Output
from vmsnap_nb.command.reading import FOLDERS_OR_HOST
from vmsnap_nb.command.where import opened
from vmsnap_nb.words.message import N_, t

__all__ = ["report_command"]


def report_command() -> Command:
    """Return ``vmsnap-nb report``."""
    return Command(
        "report",
        N_("Write a report as a single HTML page for viewing or printing"),
        _report,
        givens=(
            FOLDERS_OR_HOST,
            Given(name="output", short="-o", value="FILE", what=N_("the file to write"), required=True, kind="file"),
            Given(name="overwrite", what=N_("replace the file even if it is not an older report"), kind="flag"),
            READONLY,
            *COMMON,
        ),
        examples=(
            "vmsnap-nb report -o images.html /srv/images",
            "vmsnap-nb report -o host.html --connect qemu:///system",
        ),
    )


def _report(values: dict[str, Any]) -> int:
    output = Output("report", as_json=values["json"])
    with opened(values) as where:
        path, folders, overwrite = values["output"], values["folder"], values["overwrite"]
        if where.has_libvirt:
            written = where.host().to_html(path, *folders, overwrite=overwrite)
        else:
            written = where.forest(folders).to_html(path, overwrite=overwrite)
    if output.as_json:
        output.records([{"path": written}])
    else:
        output.line(t("written: {path}", path=written))
    return 0
