"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import vmsnap_nb

MODULES = ["vmsnap_nb", *(found.name for found in pkgutil.walk_packages(vmsnap_nb.__path__, "vmsnap_nb."))]


def source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# These make a lab of their own: they are run in a process of their own, since libvirt opens one embedded lab in each.
IN_A_LAB = [name for name in MODULES if ">>> " in (text := source(name)) and "vs.Lab()" in text]
RUN = f"""
import doctest, importlib, sys
results = [doctest.testmod(importlib.import_module(name), optionflags={FLAGS}) for name in sys.argv[1:]]
sys.exit(any(result.failed for result in results) or not all(result.attempted for result in results))
"""


@pytest.mark.parametrize("name", [name for name in MODULES if name not in IN_A_LAB])
def test_the_examples_of_a_module_are_right(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


@pytest.mark.guest
@pytest.mark.timeout(200)
def test_examples_in_a_lab(short: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *IN_A_LAB],
        cwd=short,
        env={**os.environ, "VMSNAP_LAB": str(short / "l")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) >= 10
