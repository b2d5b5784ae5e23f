"""What several tests of views share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take the program dot away."""
    monkeypatch.setenv("PATH", str(tmp_path))
