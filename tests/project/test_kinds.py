"""The pages of what works on which libvirt, and from where, are what tests have seen, and have no empty cell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, kinds

SCRIPTS = ROOT / "scripts"


@pytest.mark.parametrize("script", ["kinds.py", "places.py"])
def test_the_page_is_what_was_seen(script: str) -> None:
    done = subprocess.run([sys.executable, SCRIPTS / script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_results_are_added_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "FOLDER", tmp_path)
    results = []
    for operation, result in (("create", "works"), ("revert", "refused"), ("create", "works, again")):
        monkeypatch.setattr(kinds, "_rows", {})
        kinds.save()  # nothing was told: nothing is written
        kinds.record("external-disk", "off", operation, result)  # type: ignore[arg-type]
        kinds.save()
        [file] = tmp_path.glob("*.json")
        results.append([row[4] for row in json.loads(file.read_text())])
    assert results == [["works"], ["works", "refused"], ["works, again", "refused"]]
