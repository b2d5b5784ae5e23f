"""The page of a lab that another process has open: who that is, and what to do."""

from __future__ import annotations

from html import escape
from typing import Any

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.words.message import t

__all__ = ["Busy"]


class Busy:
    """Shows itself as HTML with a button that loads the page again."""

    def __init__(self, error: VmsnapError) -> None:
        self.error = error

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        error = self.error
        lines = [error.reason or "", error.next_step or ""]
        said = "".join(f"<p>{escape(line[:1].upper() + line[1:])}.</p>" for line in lines if line)
        head, again = escape(t("This lab is open in another process")), escape(t("Try again"))
        html = (
            '<div role="alert" style="max-width: 42em; margin: 10vh auto; font: 15px/1.5 sans-serif; '
            'color: var(--jp-ui-font-color1, #111)">'
            f'<h1 style="font-size: 22px">{head}</h1>{said}'
            # A form without an address loads the page again; JupyterLab would take a link for one to a file.
            f'<form><button style="font: inherit; padding: 4px 18px">{again}</button></form></div>'
        )
        return {"text/html": html, "text/plain": str(error)}
