"""Run the code of a page of the documentation, block after block, and compare what it shows.

A fence ``text`` that follows a fence ``python`` is what the block prints, and after that what its last expression
shows; three dots stand for anything. Used by `test_howto.py`: ``python page.py PAGE [PREPARATION]``, in an empty
folder.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"(?ms)^```python\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: str) -> Iterator[tuple[str, str | None]]:
    """Return each block of code, and what it shall show."""
    for match in BLOCK.finditer(page):
        yield match[1], match[2]


def shown(value: Any) -> str:
    """Return what a value looks like without a browser."""
    if value is None:
        return ""
    if hasattr(value, "to_text"):
        return f"{value.to_text()}\n"
    if hasattr(value, "to_frame"):
        return f"{value.to_frame().to_string()}\n"
    return f"{value!r}\n"


def run(code: str, names: dict[str, Any]) -> str:
    """Run a block; give what it shows."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "page", "exec"), names)
        if last is not None:
            assert isinstance(last, ast.Expr)
            print(shown(eval(compile(ast.Expression(last.value), "page", "eval"), names)), end="")
    return printed.getvalue()


def differences(page: str, names: dict[str, Any]) -> Iterator[str]:
    """Run a page; tell each block that shows something else."""
    for code, wanted in blocks(page):
        got = run(code, names)
        if wanted is not None and not doctest.OutputChecker().check_output(wanted, got, SAME):
            yield f"{code}\n--- should show\n{wanted}\n--- shows\n{got}"


if __name__ == "__main__":
    found: dict[str, Any] = {}
    exec("\n".join(sys.argv[2:]), found)
    failed = list(differences(found.pop("page", str)(Path(sys.argv[1]).read_text()), {}))
    for lab in found.get("labs", []):
        lab.destroy()
    sys.exit("\n\n".join(failed) or 0)
