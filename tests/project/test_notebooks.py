"""Every notebook runs from clean, and its saved file shows its figures without a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def figures(notebook: Any) -> list[str]:
    return [output["data"]["text/plain"] for output in outputs(notebook) if "image/svg+xml" in output.get("data", {})]


def test_there_is_a_quickstart() -> None:
    assert ROOT / "notebooks" / "00-quickstart.ipynb" in NOTEBOOKS


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_clean_and_shows_what_was_saved(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    monkeypatch.setenv("VMSNAP_LAB", str(short / "lab"))
    if path.stem == "00-quickstart":
        monkeypatch.delenv("VMSNAP_QEMU_CONF", raising=False)
    saved = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(fresh, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not [output for output in outputs(fresh) if output.output_type == "error"]
    assert len(figures(fresh)) == len(figures(saved)) > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_saved_file_reads_without_a_kernel(path: Path) -> None:
    saved = nbformat.read(path, as_version=4)
    nbformat.validate(saved)
    assert all(cell.execution_count for cell in saved.cells if cell.cell_type == "code"), "save it executed"
    assert "widgets" not in saved.metadata, "save it without widget state"
    for output in outputs(saved):
        assert output.output_type != "error"
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
    drawn = figures(saved)
    assert drawn
    forms = ("'---", "guest reads")  # boxes, or the strips of a block map
    assert all(any(form in text for form in forms) for text in drawn), "a figure without its text form"
    assert path.stat().st_size < 1 << 20
