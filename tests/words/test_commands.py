"""What messages tell a user to run exists: the command of virsh or qemu-img, with these options, in every language.

Calls are tested in `test_calls`; that a remedy helps is tested where its concern is.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vmsnap_nb as vs
from vmsnap_nb.words.po import entries

CATALOGUES = Path(vs.__file__).parent / "words" / "zh"
CALL = re.compile(r"(?<![\w.{])(?:[a-z_]\w*\.)*[a-z_]\w*\([^(){}]*\)", re.ASCII)
COMMAND = re.compile(r"\b(virsh|qemu-img) ([a-z]+(?:-[a-z]+)*)((?: -{1,2}[a-zA-Z-]+)*)", re.ASCII)
QEMU_IMG = {
    "bitmap": {"--add"},
    "check": {"-r"},
    "commit": {"-d"},
    "compare": set(),
    "convert": {"-l", "-O"},
    "create": {"-f"},
    "info": {"-U"},
    "rebase": {"-u", "-F", "-b"},
    "snapshot": {"-l"},
}
"""Commands of qemu-img, with their options (qemu-img(1)): those that messages name."""


def templates() -> Iterator[tuple[str, str]]:
    """Yield each message with its translation."""
    for path in sorted(CATALOGUES.glob("*.po")):
        for template, texts in entries(path.read_text(encoding="utf-8")):
            if template:
                yield from ((template, text) for text in texts)


@cache
def of_virsh() -> frozenset[str]:
    listed = subprocess.run(["virsh", "help"], capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"^ {4}([a-z][a-z-]+) ", listed, re.MULTILINE))


def commands(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the commands that a text names; "virsh shows the guest" is none."""
    for program, name, options in COMMAND.findall(text):
        if name in (of_virsh() if program == "virsh" else QEMU_IMG) or options:
            yield program, name, tuple(options.split())


@pytest.mark.system
def test_every_command_in_a_message_exists() -> None:
    found = {(*one, template) for template, text in templates() for part in (template, text) for one in commands(part)}
    assert len(found) > 30
    for program, name, options, template in sorted(found):
        if program == "qemu-img":
            assert set(options) <= QEMU_IMG[name], template
        elif options:
            help_ = subprocess.run(["virsh", "help", name], capture_output=True, text=True, check=True).stdout
            assert all(re.search(rf"{option}\b", help_) for option in options), template


@pytest.mark.system
def test_a_translation_names_the_same_calls_and_commands() -> None:
    def code(text: str) -> set[object]:
        return {*CALL.findall(text), *((program, name) for program, name, _ in commands(text))}

    differ = [(one, other) for one, other in templates() if code(one) != code(other)]
    assert differ == []
