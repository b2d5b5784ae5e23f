"""Files and functions stay small, values are made by name, and what the reference does not list has no sections."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from support import ROOT

import vmsnap_nb

PACKAGE = Path(vmsnap_nb.__file__).parent
REFERENCE = ROOT / "docs" / "reference.md"

MOST_LINES = 500
MOST_CODE = 60
MOST_POSITIONAL = 4
LONG_FILES = {"live/forest.py", "live/guest.py"}

SECTION = re.compile(r"(?m)^ *(Parameters|Returns|Yields|Raises|Warns|Attributes|Notes|See Also) *\n *-{3,} *$")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of the package, and what it contains."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def name(self) -> str:
        parts = ("vmsnap_nb", *Path(self.path).with_suffix("").parts)
        return ".".join(parts).removesuffix(".__init__")

    def definitions(self) -> Iterator[tuple[str, Function | ast.ClassDef]]:
        """All classes and functions, each with its qualified name."""

        def below(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, Function | ast.ClassDef]]:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, Function | ast.ClassDef):
                    yield ".".join((*names, child.name)), child
                    yield from below(child, (*names, child.name))
                else:
                    yield from below(child, names)

        return below(self.tree, ())


def code_lines(module: Module, function: Function) -> int:
    """Return the lines of a function that are neither empty nor a comment nor of a docstring, or at most so many."""
    first, last = function.lineno, function.end_lineno or 0
    if last - first < MOST_CODE:
        return last - first + 1  # few enough, whatever is in them
    documented = [
        node.body[0]
        for node in ast.walk(function)
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node) is not None
    ]
    documentation = {number for node in documented for number in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = module.text.splitlines()
    return sum(
        number not in documentation
        and bool(lines[number - 1].strip())
        and not lines[number - 1].strip().startswith("#")
        for number in range(first, last + 1)
    )


def long_functions(module: Module) -> Iterator[tuple[str, int]]:
    for name, node in module.definitions():
        if isinstance(node, Function) and (size := code_lines(module, node)) > MOST_CODE:
            yield name, size


def constructions(module: Module, classes: set[str]) -> Iterator[tuple[str, int]]:
    """Calls of classes of the package with too many positional values; one with a star counts as one."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL:
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            if name in classes:
                yield name, node.lineno


def listed() -> set[tuple[str, str]]:
    """Module and qualified name of all that the reference lists: functions, classes and their public members."""
    found: set[tuple[str, str]] = set()

    def add(value: object) -> None:
        value = value.fget if isinstance(value, property) else getattr(value, "func", value)
        value = inspect.unwrap(getattr(value, "__func__", value))  # type: ignore[arg-type]
        if inspect.isfunction(value) or inspect.isclass(value):
            found.add((value.__module__, value.__qualname__))

    for kind, name in re.findall(r"auto(module|class|function):: (\S+)", REFERENCE.read_text()):
        if kind == "module":
            module = importlib.import_module(name)
            values = [getattr(module, public) for public in module.__all__]
        else:
            home, _, last = name.rpartition(".")
            values = [getattr(importlib.import_module(home), last)]
        for value in values:
            add(value)
            if inspect.isclass(value):
                for member in dir(value):
                    if not member.startswith("_") or member.startswith("__"):
                        add(inspect.getattr_static(value, member))
    return found


def sections(module: Module, public: set[tuple[str, str]]) -> Iterator[str]:
    """Names of what has sections in its docstring, and is not listed; "" for the module itself."""
    if SECTION.search(ast.get_docstring(module.tree) or ""):
        yield ""
    for name, node in module.definitions():
        if (module.name, name) not in public and SECTION.search(ast.get_docstring(node) or ""):
            yield name


MODULES = [Module(str(path.relative_to(PACKAGE)), path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))]
CLASSES = {node.name for module in MODULES for _, node in module.definitions() if isinstance(node, ast.ClassDef)}


def test_no_file_is_long() -> None:
    assert {module.path for module in MODULES if len(module.text.splitlines()) > MOST_LINES} == LONG_FILES


def test_no_function_is_long() -> None:
    assert [f"{module.path}: {name} has {size}" for module in MODULES for name, size in long_functions(module)] == []


def test_values_of_many_fields_are_made_by_name() -> None:
    found = [(module.path, *one) for module in MODULES for one in constructions(module, CLASSES)]
    assert found == []


def test_only_what_the_reference_lists_has_sections_in_its_docstring() -> None:
    public = listed()
    assert [f"{module.path}: {name}" for module in MODULES for name in sections(module, public)] == []


# --- the walk itself: it sees what it shall see -----------------------------------------------------------------

LONG = "def f():\n    '''Text.'''\n" + "    a = 1\n\n    # why\n" * (MOST_CODE - 1)


@pytest.mark.parametrize(
    ("text", "names"), [(LONG, []), (LONG + "    b = 1\n", ["f"]), ("class A:\n  x = 1\n" * 99, [])]
)
def test_code_is_counted_without_docstrings_comments_and_empty_lines(text: str, names: list[str]) -> None:
    assert [name for name, _ in long_functions(Module("m.py", text))] == names


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("A(1, 2, 3, 4)", 0),
        ("A(1, 2, 3, 4, 5)", 1),
        ("a.A(1, 2, 3, 4, 5)", 1),
        ("A(*b, c=1)", 0),
        ("f(1, 2, 3, 4, 5)", 0),
    ],
)
def test_positional_values_of_classes_are_counted(call: str, wrong: int) -> None:
    assert len(list(constructions(Module("m.py", call), {"A"}))) == wrong


def test_sections_are_found_where_the_reference_lists_nothing() -> None:
    text = 'def f():\n    """Return.\n\n    Returns\n    -------\n    int\n    """\n'
    assert list(sections(Module("m.py", text), set())) == ["f"]
    assert list(sections(Module("m.py", text), {("vmsnap_nb.m", "f")})) == []
    assert list(sections(Module("m.py", text.replace("Returns", "Examples")), set())) == []
    assert ("vmsnap_nb.lab.lab", "Lab.guest") in listed()
    assert ("vmsnap_nb.plans.step", "Step") not in listed()
