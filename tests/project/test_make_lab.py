"""`make lab`: the course's notebooks are trusted, and the address is all that is printed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from support import ROOT
from support.scripts import script


def test_notebooks_with_a_source_are_trusted_once(tmp_path: Path) -> None:
    notary = NotebookNotary(db_file=str(tmp_path / "db"), data_dir=str(tmp_path))
    server = script("lab_server")
    signed = server.trust(notary)
    assert ROOT / "notebooks" / "00-quickstart.ipynb" in signed
    assert ROOT / "notebooks" / "zh" / "00-quickstart.ipynb" in signed
    assert all(notary.check_signature(nbformat.read(path, as_version=4)) for path in signed)
    assert server.trust(notary) == []


@pytest.mark.notebook
def end(server: subprocess.Popen[str]) -> None:
    """Ask a server to end until it does: one that has only begun to listen misses it on a busy machine."""
    for _ in range(6):
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
            return
    server.kill()


def test_the_server_prints_its_address_alone(tmp_path: Path) -> None:
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = ["--no-browser", "--allow-root", "--ServerApp.root_dir", str(tmp_path), "--ServerApp.port_retries=50"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "lab_server.py"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **places, "IPYTHONDIR": str(tmp_path)},
    ) as server:
        assert server.stdout is not None
        try:
            first = server.stdout.readline()
        finally:
            end(server)
        rest = server.stdout.read()
    assert re.fullmatch(r"http://localhost:\d+/lab\?token=\w+\n", first), first + rest
    assert not re.search(r"http|\[I ", rest), rest
