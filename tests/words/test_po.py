"""Catalogues are read as Babel reads them, which the package does without."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from support import ROOT

from vmsnap_nb.words.po import entries, plural_rule

FILES = sorted((ROOT / "vmsnap_nb" / "words").glob("*/*.po"))


def as_babel_reads(data: bytes) -> dict[str, tuple[str, ...]]:
    found = {}
    for message in read_po(io.BytesIO(data)):
        if message.id and not message.fuzzy:
            key = message.id if isinstance(message.id, str) else message.id[0]
            found[key] = (message.string,) if isinstance(message.string, str) else tuple(message.string)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_catalogue(path: Path) -> None:
    read = dict(entries(path.read_text(encoding="utf-8")))
    head = read.pop("")
    assert read == as_babel_reads(path.read_bytes())
    assert len(read) >= 1
    assert plural_rule(head[0]) == "0"


def test_what_needs_an_escape() -> None:
    catalogue = Catalog(locale="de", charset="utf-8", fuzzy=False)
    odd = {'a "word"': '"Wort"', "tab\tand\nline": "Tab\tund\nZeile", "back\\slash": "\\", "é {n}": "é " * 90}
    for key, text in odd.items():
        catalogue.add(key, text, flags=["python-format"])
    catalogue.add(("one", "many"), ("eins", "viele"))
    catalogue.add("a guess", "geraten", flags=["fuzzy"])
    catalogue.add("#, no flag", "kein Flag")
    file = io.BytesIO()
    write_po(file, catalogue, width=60)
    read = dict(entries(file.getvalue().decode()))
    assert plural_rule(read.pop("")[0]) == "(n != 1)"
    assert read == as_babel_reads(file.getvalue())
    assert read["one"] == ("eins", "viele")
    assert "a guess" not in read
