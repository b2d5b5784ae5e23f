"""What errors, problems and notes say is a message, and no plain text: checked where the words are ours."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support import ROOT

from vmsnap_nb import errors

PACKAGE = ROOT / "vmsnap_nb"
CHILD = PACKAGE / "system" / "filesystems"
"""What its process says crosses a border as text; the other side of it is `reader.py`."""
FILES = [
    path
    for part in ("errors.py", "model", "plans", "system", "live", "fleet", "lab", "panels", "command", "playground")
    for path in ([PACKAGE / part] if part.endswith(".py") else (PACKAGE / part).rglob("*.py"))
    if path.parent != CHILD or path.name == "reader.py"
]
SAYS = {"tried", "why", "next_step", "problem", "none"}
"""Parameters and attributes that are shown."""
FIRST = {*errors.__all__, "libvirt_errors", "os_errors", "unreadable", "no_way_back", "add_note"}
"""What is called with such a text first."""


def shown(tree: ast.AST) -> list[ast.expr]:
    """Return the expressions of a module that users will read."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += node.args[:1] if name in FIRST else []
            found += [keyword.value for keyword in node.keywords if keyword.arg in SAYS]
        elif isinstance(node, ast.Assign):
            names = {getattr(target, "attr", getattr(target, "id", "")) for target in node.targets}
            found += [node.value] if names & SAYS else []
    return found


def plain(node: ast.expr) -> bool:
    """Return whether an expression is, or may be, text that is in no catalogue."""
    if isinstance(node, ast.BoolOp | ast.IfExp):
        return any(map(plain, node.values if isinstance(node, ast.BoolOp) else (node.body, node.orelse)))
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ""
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_shown_is_a_message(path: Path) -> None:
    assert [ast.unparse(node) for node in shown(ast.parse(path.read_text())) if plain(node)] == []


@pytest.mark.parametrize(
    "text",
    ["raise VmsnapError('a b')", "Image(path, problem=f'it is {a}')", "why = x or 'no'", "error.next_step = 'b'"],
)
def test_plain_text_is_found(text: str) -> None:
    assert any(map(plain, shown(ast.parse(text))))
