"""What users import comes from the package itself, and is loaded when it is first used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import vmsnap_nb as vs
from vmsnap_nb import errors

SOURCE = Path(vs.__file__)


@pytest.mark.parametrize("name", [name for name in vs.__all__ if name != "__version__"])
def test_each_name_is_there(name: str) -> None:
    thing = getattr(vs, name)
    assert inspect.isclass(thing) or inspect.isfunction(thing)
    assert thing.__name__ == name
    assert thing.__doc__


def test_all_errors_are_among_them() -> None:
    assert set(errors.__all__) <= set(vs.__all__)
    assert vs.VmsnapError is errors.VmsnapError


def test_type_checkers_are_told_the_same() -> None:
    told = {
        alias.name: node.module
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vmsnap_nb.")
        for alias in node.names
    }
    lazy = {name: f"vmsnap_nb.{home}" for name, home in vs._HOMES.items()}
    assert {name: told[name] for name in lazy} == lazy
    assert {*lazy, "__version__"} == set(vs.__all__) == set(dir(vs))


def test_none_is_loaded_before_it_is_used() -> None:
    code = "import sys, vmsnap_nb; print(*[name for name in sys.modules if name.startswith('vmsnap_nb.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
