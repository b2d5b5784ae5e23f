"""Take the messages of the package into its catalogues, one PO file for each part of it and each language.

Usage: ``python scripts/catalogues.py``. Translations are kept, messages that are gone are dropped, and those without a
translation are counted, with exit status 1. ``--check`` changes nothing, and fails where a catalogue is not current.
"""

from __future__ import annotations

import io
import sys
from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from vmsnap_nb.words.language import LANGUAGES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vmsnap_nb"
KEYWORDS = {"t": None, "counted": (1, 2), "N_": None}
Id = str | tuple[str, ...]


@cache
def messages() -> tuple[tuple[str, str, Id], ...]:
    """Return part, file and template of all messages, in the order of files and lines."""
    found = extract_from_dir(PACKAGE, [("**.py", "python")], keywords=KEYWORDS, comment_tags=())
    return tuple(
        (file.partition("/")[0].removesuffix(".py"), f"vmsnap_nb/{file}", template)
        for file, _, template, *_ in sorted(found, key=lambda one: (one[0], one[1]))
    )


def current(code: str) -> dict[Path, bytes]:
    """Return what the catalogues of a language have to hold, with the translations that they hold now."""
    known: dict[Id, str | tuple[str, ...]] = {}
    for path in (PACKAGE / "words" / code).glob("*.po"):
        for message in read_po(io.BytesIO(path.read_bytes()), locale=code):
            if message.id and message.string:
                known[tuple(message.id) if isinstance(message.id, list | tuple) else message.id] = message.string
    parts: dict[str, Catalog] = {}
    for part, file, template in messages():
        if part not in parts:
            parts[part] = Catalog(locale=code, charset="utf-8")
        parts[part].add(template, known.get(template, ""), locations=[(file, 0)])
    return {PACKAGE / "words" / code / f"{part}.po": _written(catalogue) for part, catalogue in parts.items()}


def _written(catalogue: Catalog) -> bytes:
    file = io.BytesIO()
    write_po(file, catalogue, width=100, include_lineno=False, omit_header=True)
    head = (
        f'msgid ""\nmsgstr ""\n"Language: {catalogue.locale_identifier}\\n"\n'
        '"Content-Type: text/plain; charset=utf-8\\n"\n'
        f'"Plural-Forms: {catalogue.plural_forms}\\n"\n\n'
    )
    return head.encode() + file.getvalue()


def untranslated(data: bytes) -> list[Id]:
    """Return the messages of a catalogue that have no translation."""
    return [m.id for m in read_po(io.BytesIO(data)) if m.id and not (m.string and all(m.string))]


def main() -> int:
    """Write the catalogues, or check them."""
    check, wrong = "--check" in sys.argv[1:], 0
    for code in LANGUAGES[1:]:
        files = current(code)
        for path in {*(PACKAGE / "words" / code).glob("*.po"), *files}:
            data = files.get(path)
            if (path.read_bytes() if path.exists() else None) == data:
                continue
            if check:
                print(f"{path.relative_to(ROOT)} is not current: make words")
                wrong += 1
            elif data is None:
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
        for path, data in files.items():
            if missing := untranslated(data):
                print(f"{path.relative_to(ROOT)}: {len(missing)} without a translation")
                wrong += len(missing)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
