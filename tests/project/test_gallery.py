"""The gallery shows what is drawn today."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import GOLDEN, ROOT
from support.scripts import script

gallery = script("gallery")


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


def test_a_picture_that_says_something_else_is_not_taken_for_it() -> None:
    path = "images/gallery/figure-3.svg"
    picture = (ROOT / "docs" / path).read_text()
    assert gallery.said(path, picture) == gallery.said(path, picture.replace('x="', 'x="1'))
    assert gallery.said(path, picture) != gallery.said(path, picture.replace("64 KiB", "65 KiB"))
    assert gallery.said(path, picture) != gallery.said(path, picture.replace("box gone", "box image"))
