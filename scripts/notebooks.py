"""Execute notebooks in place and save them so that they read without a kernel.

Usage: ``python scripts/notebooks.py [NOTEBOOK ...]``; all of ``notebooks/`` if none is named.

What only a live page could show (progress bars and other widgets) is left out of the saved file.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def cleaned(notebook: Any) -> Any:
    """Take out what a saved file cannot show, and what changes from run to run."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    return notebook


def main() -> None:
    """Execute the notebooks that were named."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory(prefix="vmsnap-", dir="/tmp") as folder:
            os.environ["VMSNAP_LAB"] = f"{folder}/lab"
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
        nbformat.write(cleaned(notebook), path)
        print(f"saved {path}")


if __name__ == "__main__":
    main()
