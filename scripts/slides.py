"""Make the slides of the course from its saved notebooks: `make class`.

    python scripts/slides.py [FOLDER]     FOLDER/slides.html and FOLDER/slides-zh.html; build/class by default

Each is one file that needs nothing else: no network and no Jupyter. A slide is a title with its question, a figure with
the sentence before it, a table, a prediction with its folded answer, or the key points of a lesson. The arrow keys,
Page Up and Page Down, Home and End move between them; printed, each slide is one page.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.filters.markdown_mistune import markdown2html_mistune as html_of

from vmsnap_nb.course.shown import DATA

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {"en": ROOT / "notebooks", "zh": ROOT / "notebooks" / "zh"}
TITLES = {"en": "Snapshots of virtual machines", "zh": "虚拟机快照"}
HELP = {"en": "Arrow keys: next and previous. Print for one page per slide.", "zh": "方向键翻页。打印时每张一页。"}
FOLDED = re.compile(r"(?s)<details>.*</details>")
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\.(?:ipynb|md)[^)]*\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(attachment:([^)]+)\)")
KEYS = ("## Key points", "## 要点")

STYLE = """
:root { color-scheme: light; --jp-ui-font-color1: #1c2430; --jp-layout-color1: #fff; }
html { scroll-snap-type: y mandatory; }
body { margin: 0; color: #1c2430; background: #fff;
  font: clamp(16px, 1.75vw, 34px)/1.4 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
section { box-sizing: border-box; height: 100vh; padding: 3vh 5vw; display: flex; flex-direction: column; gap: 1.5vh;
  overflow: auto; scroll-snap-align: start; }
h1 { font-size: 1.9em; margin: auto 0 0; }
h2 { font-size: 1.25em; margin: 0; color: #1f4e8c; }
header { font-size: .7em; color: #4a5563; }
section.title { background: #eef3fa; }
section.title p { margin: 0 0 auto; font-size: 1.2em; }
p { margin: .4em 0; }
figure { margin: auto 0; text-align: center; }
figure svg, figure img { max-width: 100% !important; min-width: 0 !important; max-height: 54vh; }
figure svg { width: 100%; }
table { border-collapse: collapse; font-size: .8em; }
th, td { text-align: left; padding: .3em .7em; border-bottom: 1px solid #c5ccd6; vertical-align: top; }
code { font-size: .9em; background: #f0f2f5; padding: 0 .2em; }
ul { margin: 0; }
li { margin: .3em 0; }
section.points { font-size: .92em; }
summary { cursor: pointer; color: #1f4e8c; }
@page { size: A4 landscape; margin: 0; }
@media print {
  section { break-after: page; overflow: hidden; }
  details > * { display: none; }
}
"""
SCRIPT = """
const slides = [...document.querySelectorAll("section")];
const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
addEventListener("keydown", (event) => {
  if (event.target.closest("summary") && event.key === " ") return;
  const here = slides.findIndex((slide) => slide.getBoundingClientRect().bottom > innerHeight / 2);
  const ends = { Home: 0, End: slides.length - 1 };
  const next = event.key in ends ? ends[event.key] : event.key in steps ? here + steps[event.key] : null;
  if (next === null) return;
  event.preventDefault();
  slides[Math.min(Math.max(next, 0), slides.length - 1)].scrollIntoView();
});
"""


@dataclass
class Slide:
    """One slide: what is on it, as HTML, below the heading of its section."""

    heading: str
    body: str
    kind: str = ""


@dataclass
class Lesson:
    """The slides of one notebook, while its cells are read."""

    slides: list[Slide] = field(default_factory=list)
    heading: str = ""
    said: str = ""
    asked: dict[str, Slide] = field(default_factory=dict)

    def add(self, body: str, kind: str = "") -> Slide:
        """Add a slide below the current heading."""
        slide = Slide(self.heading, body, kind)
        self.slides.append(slide)
        return slide

    def read_text(self, cell: Any) -> None:
        """Take the heading, tables, pictures and key points of a cell of prose, and remember its last sentence."""
        text = LINK.sub(r"\1", cell.source)
        if not self.slides:
            self._begin(text)
            return
        if text.startswith(KEYS):
            self.heading, _, rest = text.partition("\n")
            self.heading = self.heading.lstrip("# ")
            self.add(html_of(rest), "points")
            return
        for block in re.split(r"\n{2,}", text):
            if block.startswith("#"):
                self.heading = block.lstrip("# ").splitlines()[0]
            elif block.startswith("|"):
                self.add(html_of(block))
            elif picture := PICTURE.search(block):
                data = cell.attachments[picture[2]]["image/png"]
                self.add(f'<figure><img src="data:image/png;base64,{data}" alt="{escape(picture[1])}"></figure>')
            elif not block.startswith("```"):
                self.said = block

    def _begin(self, text: str) -> None:
        title, question, table, *_ = re.split(r"\n{2,}", text)
        self.heading = title.lstrip("# ")
        self.add(f"<h1>{escape(self.heading)}</h1>{html_of(question)}", "title")
        self.add(html_of(table))

    def read_output(self, data: dict[str, Any]) -> None:
        """Take a figure, a question, or what became of it."""
        about = data.get(DATA, {})
        if about.get("kind") == "question":
            self.asked[about["name"]] = self.add(data["text/html"], "question")
        elif about.get("kind") == "outcome" and (folded := FOLDED.search(data["text/html"])):
            self.asked[about["name"]].body += folded[0]
        elif "image/svg+xml" in data:
            self.add(f"{html_of(self.said)}<figure>{data['image/svg+xml']}</figure>", "figure")


def lesson_of(path: Path) -> Lesson:
    """Read the slides of one notebook."""
    lesson = Lesson()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            lesson.read_text(cell)
        else:
            for output in cell.outputs:
                lesson.read_output(output.get("data", {}))
    return lesson


def page(language: str) -> str:
    """Return the slides of all lessons in a language, as one page."""
    title = TITLES[language]
    parts = [f'<section class="title"><h1>{title}</h1><p>{HELP[language]}</p></section>', *_sections(language)]
    icon = base64.b64encode(b'<svg xmlns="http://www.w3.org/2000/svg"/>').decode()
    return (
        f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f'<link rel="icon" href="data:image/svg+xml;base64,{icon}"><style>{STYLE}</style></head>\n'
        f"<body><main>{''.join(parts)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _sections(language: str) -> Iterator[str]:
    for path in sorted(NOTEBOOKS[language].glob("[0-9]*.ipynb")):
        lesson = lesson_of(path)
        name = lesson.slides[0].heading
        for slide in lesson.slides:
            head = "" if slide.kind == "title" else f"<header>{escape(name)}</header><h2>{escape(slide.heading)}</h2>"
            yield f'<section class="{slide.kind}" tabindex="0">{head}{slide.body}</section>\n'


def main() -> None:
    """Write the slides in both languages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "class"
    folder.mkdir(parents=True, exist_ok=True)
    for language, name in (("en", "slides.html"), ("zh", "slides-zh.html")):
        (folder / name).write_text(page(language), encoding="utf-8")
        print(f"saved {folder / name}")


if __name__ == "__main__":
    main()
