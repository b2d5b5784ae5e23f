"""Build the documentation in English and in Chinese: `make docs`. Nothing is fetched, and no page is executed.

    python scripts/docs.py [FOLDER]     build/docs, or FOLDER; the Chinese site is its subfolder zh

Both sites have the same pages under the same names, so that each page links to itself in the other language. The
sources of a site are put together first: the pages of ``docs``, the notebooks as they were saved, CONTRIBUTING and
CHANGELOG. In the Chinese site a page of ``docs/zh`` takes the place of the English one; if there is none, the English
page says so. Links work where the sources are read, and are rewritten to the places that the pages have in the site.
What the page *Playground* runs is put together once for both (scripts/playground.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from vmsnap_nb.course.shown import DATA

ROOT = Path(os.path.abspath(__file__)).parent.parent  # a link to a folder of sources is not followed
DOCS, NOTEBOOKS = ROOT / "docs", ROOT / "notebooks"
LANGUAGES = {"en": "", "zh": "zh"}  # and the folder of the site below that of the English one
PAGES_ELSEWHERE = {
    Path("CONTRIBUTING.md"): Path("contributing.md"),
    Path("CHANGELOG.md"): Path("changelog.md"),
    Path("notebooks/README.md"): Path("course/index.md"),
}
LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
# A browser shows the end of a line as a space, which Chinese does not have.
LINE_END = re.compile(r"(?<=[，。；：、！？）”])\n *(?![-|#>:!\d\n]|```|$)|(?<=[\u4e00-\u9fff])\n *(?=[\u4e00-\u9fff])")
UNTRANSLATED = "\n:::{note}\n本页暂无中文版，以下为英文原文。\n:::\n"


def main(target: Path) -> int:
    """Build both sites at the same time; return the exit status."""
    with ProcessPoolExecutor(len(LANGUAGES) + 1) as pool:
        served = pool.submit(playground, target / "_static" / "playground")
        status = max(pool.map(build, LANGUAGES, [target] * len(LANGUAGES)))
        served.result()
        return status


def playground(target: Path) -> None:
    """Put together what the page *Playground* serves."""
    subprocess.run([sys.executable, str(ROOT / "scripts" / "playground.py"), str(target)], check=True)


def build(language: str, target: Path) -> int:
    """Build the site in a language; return the exit status."""
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # it would build forty parsers that nobody needs
    from sphinx.cmd.build import main as sphinx

    sources = target.parent / f"{target.name}-sources" / language
    shutil.rmtree(sources, ignore_errors=True)
    put_together(sources, language)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", f"{sources}-read", "-c", str(DOCS)]
    if language == "zh":
        options += ["-D", "language=zh_CN"]
    return int(sphinx([*options, str(sources), str(target / LANGUAGES[language])]))


def put_together(sources: Path, language: str) -> None:
    """Write the sources of the site in a language."""
    for page in ("images", "locale"):
        shutil.copytree(DOCS / page, sources / page)
    for path in english():
        chosen = path
        if language == "zh" and (translated := chinese(path)).exists():
            chosen = translated
        place = sources / place_of(chosen)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = chosen.read_text(encoding="utf-8")
        if chosen.suffix == ".ipynb":  # Sphinx knows no attachments; those are pictures of docs/images
            text = without_data(text).replace("(attachment:", f"({'../' * (len(place_of(chosen).parts) - 1)}images/")
            text = text.replace("](../exercises/zh/", "](exercises/")  # the site of a language has one folder
        else:
            text = LINK.sub(lambda link, path=chosen: moved(link, path, sources, language), text)
            if language == "zh":
                text = LINE_END.sub("", text) if chosen != path else text.replace("\n", "\n" + UNTRANSLATED, 1)
        place.write_text(text, encoding="utf-8")


def without_data(text: str) -> str:
    """Return a notebook without the data of its questions, a type that Sphinx does not know.

    One that was never executed does not record that its code is IPython's, with lines for a shell.
    """
    notebook = json.loads(text)
    notebook["metadata"].setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(DATA, None)
    return json.dumps(notebook, ensure_ascii=False)


def english() -> Iterator[Path]:
    """Yield the English sources of all pages."""
    yield from (page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] != "zh")
    for folder in (NOTEBOOKS, NOTEBOOKS / "exercises"):
        yield from folder.glob("[0-9]*.ipynb")
    yield from (ROOT / page for page in PAGES_ELSEWHERE)


def chinese(path: Path) -> Path:
    """Return where the Chinese source of an English one is, or would be."""
    return DOCS / "zh" / path.relative_to(DOCS) if path.is_relative_to(DOCS) else path.parent / "zh" / path.name


def is_chinese(path: Path) -> bool:
    """Return whether a source is a Chinese one."""
    return "zh" in path.relative_to(ROOT).parts


def place_of(path: Path) -> Path:
    """Return the place of a source in its site, without its language; of anything else the place in the checkout."""
    inside = path.relative_to(ROOT)
    plain = Path(*(part for part in inside.parts if part != "zh"))
    if plain in PAGES_ELSEWHERE:
        return PAGES_ELSEWHERE[plain]
    folder, *rest = plain.parts
    if folder == "docs":
        return Path(*rest)
    if folder == "notebooks" and path.suffix == ".ipynb":
        return Path("course", *rest)
    return inside


def moved(link: re.Match[str], page: Path, sources: Path, language: str) -> str:
    """Return a link of a page as it is written in the sources of the site."""
    start, there, end = link.groups()
    target = Path(os.path.normpath(page.parent / there))
    if ":" in there or not target.is_relative_to(ROOT):
        return link[0]
    if language == "zh" and chinese(target).exists() and not is_chinese(page):
        end = ")"  # the places within a Chinese page have Chinese names
    if place_of(target) != target.relative_to(ROOT):  # what is no page of the site is offered from the checkout
        target = sources / place_of(target)
    return start + os.path.relpath(target, (sources / place_of(page)).parent) + end


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs").absolute()))
