"""What users read is a message: no other text of these parts has words in it."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from support.scripts import script

import vmsnap_nb
from vmsnap_nb.words.language import LANGUAGES

catalogues = script("catalogues")
PACKAGE = Path(vmsnap_nb.__file__).parent
PARTS = ("views", "panels", "lab", "fleet", "command", "course", "playground")
MAKERS = {"t", "counted", "N_"}
NO_WORDS = {
    "add_class",  # classes of style sheets
    "Column",  # names and kinds of columns
    *("NotImplementedError", "TypeError"),
    "_edge",
    "Help",  # code, beside templates
}
"""Calls whose text is for machines, or for programmers."""
NAMES = {
    *(
        "arrow §",
        "caption §",
        "head §",
        "strip §-§",
        "part §-§",
        "new §-§",
        "start §",
        "legend §",
        "word §",
        "said §",
        "§ of §",
        "§ from §",
        *("note faint", "heading §", "chip §", "layer §", "row §", "note §", "§ sign", "§ bar", "§ said"),
    ),  # of nodes
    "scenario §",  # of what a file was made from
    *("saved memory", "managed save", "yes or no", "to be cancelled", "shut off"),  # of kinds and states
    *("plan §", "run §"),  # of commands
}
"""Texts by which things are known, and which no user reads."""
SENTENCE = re.compile(r"(?:[A-Za-z]{2,}|§)[,;:.)]? [a-z]{2,}|[a-z]{2,} §")
CODE = re.compile(
    r"<\w|</|%H:|=\"|var\(|position: absolute|white-space: |overflow-wrap: |"
    r"^\.?vmsnap|^graph |^node |fontsize=|shape=plain|stroke:|display: none|max-width: ?|@media |word-break|"
    r"^pip |^eval |^--connect |^forest\.|^(?:qemu-img|virsh|chmod|cp|rm) |^row wrap$|^%%|console=|"
    r"^(?:domblkinfo|domstate|domblklist|snapshot-list) |^; echo "
)
"""HTML, DOT, style sheets, times, commands."""


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module that have words and are not given to one of the makers of messages."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            name = child.func.id if isinstance(child.func, ast.Name) else getattr(child.func, "attr", "")
            if name in MAKERS:
                for argument in (*child.args[2 if name == "counted" else 1 :], *child.keywords):
                    yield from texts(argument)
                continue
            if name in NO_WORDS:
                continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):  # a docstring
            continue
        if isinstance(child, ast.FunctionDef) and child.name == "__repr__":
            continue
        if isinstance(child, ast.Compare):  # with what a thing is, not with what is shown
            continue
        if isinstance(child, ast.Dict):
            for value in child.values:
                yield from texts(ast.Expression(value))
            continue
        if isinstance(child, ast.JoinedStr):
            words = "".join(str(part.value) if isinstance(part, ast.Constant) else "§" for part in child.values)
            yield child.lineno, words
            for part in child.values:
                if isinstance(part, ast.FormattedValue):
                    yield from texts(part)
            continue
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.lineno, child.value
        yield from texts(child)


def test_every_template_is_taken_into_the_catalogues() -> None:
    """Babel sees no call inside of an f-string."""
    taken = {template if isinstance(template, str) else template[0] for _, _, template in catalogues.messages()}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
                template = node.args[0]
                if isinstance(template, ast.Constant):
                    assert template.value in taken, f"{path}:{node.lineno}"


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_a_template_of_several_parts_has_one_translation(code: str) -> None:
    """Messages are known by their templates alone."""
    found: dict[object, object] = {}
    for data in catalogues.current(code).values():
        for message in read_po(io.BytesIO(data)):
            if message.id:
                assert found.setdefault(message.id, message.string) == message.string, message.id


@pytest.mark.parametrize("part", PARTS)
def test_no_text_with_words_is_outside_of_messages(part: str) -> None:
    left = [
        f"{path.name}:{line}: {text}"
        for path in sorted((PACKAGE / part).rglob("*.py"))
        for line, text in texts(ast.parse(path.read_text()))
        if SENTENCE.search(text) and not CODE.search(text) and text not in NAMES
    ]
    assert left == []
