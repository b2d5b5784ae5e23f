"""JupyterLab that prints its address and nothing else, unless something goes wrong; the course's notebooks are trusted.

Usage: ``python scripts/lab_server.py [option of jupyter lab ...]``.

In a notebook that is not trusted Jupyter shows neither SVG nor HTML of saved outputs: a newcomer would see figures of
letters. Those that belong to this checkout are signed as ``jupyter trust`` does it, unless they are signed already.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from jupyter_server.serverapp import ServerApp
from jupyterlab.labapp import LabApp
from nbformat.sign import NotebookNotary
from traitlets import default

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def notebooks() -> Iterator[Path]:
    """Yield the notebooks that this checkout brings along: those that have a source."""
    for folder in (NOTEBOOKS, NOTEBOOKS / "exercises"):
        for source in sorted((folder / "source").glob("*.md")):
            for place in (folder, folder / "zh"):
                path = place / source.with_suffix(".ipynb").name
                if path.is_file():
                    yield path


def trust(notary: NotebookNotary) -> list[Path]:
    """Sign those notebooks that are not signed yet; return which these are."""
    signed = []
    for path in notebooks():
        notebook = nbformat.read(path, as_version=4)
        if not notary.check_signature(notebook):
            notary.sign(notebook)
            signed.append(path)
    return signed


class Server(ServerApp):
    """A server that says where it is in one line."""

    @default("token")
    def _token_of_identity_provider(self) -> str:
        # Jupyter Server warns of its own default.
        return str(self.identity_provider.token)

    def start_app(self) -> None:
        """Start it, and print its address."""
        super().start_app()
        print(self.display_url.splitlines()[0].strip(), flush=True)


def _is_news(record: logging.LogRecord) -> bool:
    return "To access the server" not in record.getMessage()


def main() -> None:
    """Trust the notebooks, and run JupyterLab until it is ended."""
    trust(NotebookNotary())
    logging.getLogger(Server.__name__).addFilter(_is_news)
    LabApp.serverapp_class = Server
    LabApp.launch_instance(["--Application.log_level=ERROR", *sys.argv[1:]])


if __name__ == "__main__":
    main()
