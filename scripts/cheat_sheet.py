"""Make the cheat sheet ready to print, one A4 page in each language: `make class`.

    python scripts/cheat_sheet.py [FOLDER]     FOLDER/cheat-sheet.html and FOLDER/cheat-sheet-zh.html

The text is that of `docs/cheat-sheet.md` and its translation. Each result is one file that needs nothing else.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from nbconvert.filters.markdown_mistune import markdown2html_mistune as html_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"en": ROOT / "docs" / "cheat-sheet.md", "zh": ROOT / "docs" / "zh" / "cheat-sheet.md"}
ANCHOR = re.compile(r'<a class="anchor-link"[^>]*>.*?</a>')
CODE = re.compile(r"<code>(.*?)</code>")
WORD = re.compile(r"[^ ]+")

STYLE = """
@page { size: A4 landscape; margin: 8mm; }
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 281mm; color: #111; background: #fff;
  font: 7.6pt/1.3 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
main { columns: 2; column-gap: 6mm; }
h1 { font-size: 12pt; margin: 0 0 1mm; }
h2 { font-size: 8.5pt; margin: 1.6mm 0 .6mm; color: #1f4e8c; break-after: avoid; }
p, ul { margin: 0 0 .8mm; } ul { padding-left: 3.5mm; }
table { border-collapse: collapse; width: 100%; } tr { break-inside: avoid; } th { color: #4a5563; font-weight: 600; }
th, td { text-align: left; padding: .35mm 1mm .35mm 0; border-bottom: .2mm solid #ccd2da; vertical-align: top; }
code { font-size: 6.9pt; } code span { white-space: nowrap; } td:first-child { width: 24%; }
"""


def page(language: str) -> str:
    """Return the page in a language; what is above the rules tells how to make it, and is left out."""
    text = PAGES[language].read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    title = title.lstrip("# ")
    body = ANCHOR.sub("", html_of("## " + rest.partition("\n## ")[2]))
    body = CODE.sub(lambda code: "<code>" + WORD.sub(r"<span>\g<0></span>", code[1]) + "</code>", body)
    return (
        f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{title}</h1>{body}</main></body></html>\n"
    )


def main() -> None:
    """Write the page in both languages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "class"
    folder.mkdir(parents=True, exist_ok=True)
    for language, name in (("en", "cheat-sheet.html"), ("zh", "cheat-sheet-zh.html")):
        (folder / name).write_text(page(language), encoding="utf-8")
        print(f"saved {folder / name}")


if __name__ == "__main__":
    main()
