"""The gallery shows what is drawn today."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support import GOLDEN, ROOT


@pytest.mark.system
def test_it_is_as_it_would_be_made_now() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "gallery.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_figure_of_the_handout_is_in_it() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text()
    for figure in GOLDEN.glob("*.txt"):
        assert figure.read_text().rstrip("\n") in page
    assert all(f"## Figure {number}: " in page for number in range(1, 7))


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").rglob("*.svg")), ids=lambda picture: picture.stem)
def test_no_text_of_a_picture_is_cut_off(picture: Path) -> None:
    root = ET.fromstring(picture.read_text())
    left, top, wide, high = map(float, root.get("viewBox", "").split())
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y, size = (float(text.get(name, root.get(name, "12"))) for name in ("x", "y", "font-size"))
        assert top + 0.75 * size <= y <= top + high, text.text
        assert left <= x <= left + wide, text.text
