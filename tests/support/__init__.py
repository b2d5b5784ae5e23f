"""What tests share: labs, images, forests, a browser, faults; and where this checkout is."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"
PATH = (str(ROOT), str(TESTS))
"""Where other processes find the package and this folder."""
GOLDEN = TESTS / "golden"
