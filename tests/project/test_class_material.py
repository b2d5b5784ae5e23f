"""Slides and the cheat sheet: made of what is taught, one file each, and what is printed fits."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from support.scripts import script

import vmsnap_nb as vs
from vmsnap_nb.course.index import LESSONS

slides, cheat_sheet = script("slides"), script("cheat_sheet")

MADE = {"vm": vs.Guest, "images": vs.LiveForest, "host": vs.Host}


def code(language: str) -> list[str]:
    """What is code in the tables, in the order of the page."""
    text = cheat_sheet.PAGES[language].read_text(encoding="utf-8")
    return [found for line in text.splitlines() if line.startswith("|") for found in re.findall("`([^`]+)`", line)]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_slides_have_every_figure_and_question_and_need_no_other_file(language: str) -> None:
    page = slides.page(language)
    assert re.findall(r"""(?:\b(?:src|href)=|url\()["']?(?!["']?(?:data:|#)).{20}""", page) == []
    saved = [nbformat.read(path, as_version=4) for path in sorted(slides.NOTEBOOKS[language].glob("[0-9]*.ipynb"))]
    outputs = [
        output.get("data", {}) for notebook in saved for cell in notebook.cells for output in cell.get("outputs", ())
    ]
    assert page.count("<figure><svg") == sum("image/svg+xml" in data for data in outputs) > 30
    assert page.count("<figure><img") == sum(len(cell.get("attachments", {})) for nb in saved for cell in nb.cells)
    assert page.count('class="question"') == sum(len(predictions) for predictions, _ in LESSONS.values())
    assert page.count("<details>") == page.count('class="question"')
    assert page.count('class="title"') == page.count('class="points"') + 1 == len(LESSONS) + 1
    for notebook in saved:
        assert notebook.cells[0].source.splitlines()[0].lstrip("# ").replace("'", "&#x27;") in page
    assert ".ipynb" not in page


def test_the_cheat_sheet_has_the_same_code_in_both_languages() -> None:
    assert code("en") == code("zh")
    for language in ("en", "zh"):
        page = cheat_sheet.page(language)
        assert "make class" not in page
        assert page.count("<table>") == 5
        assert "http" not in page


def test_the_calls_of_the_cheat_sheet_are_there() -> None:
    calls = [found for found in code("en") if re.match(r"(?:vm|images|host|vs)\.", found)]
    assert len(calls) > 20
    for call in calls:
        owner, name = re.match(r"(\w+)\.(\w+)\(", call).groups()  # type: ignore[union-attr]
        function = getattr(vs if owner == "vs" else MADE[owner], name)
        for keyword in re.findall(r"(\w+)=", call):
            assert keyword in inspect.signature(function).parameters, call


@pytest.mark.system
def test_the_commands_of_the_cheat_sheet_are_there() -> None:
    for command in (found for found in code("en") if found.startswith("virsh ")):
        name, *words = command.split()[1:]
        told = subprocess.run(["virsh", "help", name], capture_output=True, text=True, check=True).stdout
        for option in (word for word in words if word.startswith("--")):
            assert f"{option} " in told, command
    told = subprocess.run(["qemu-img", "--help"], capture_output=True, text=True, check=True).stdout
    for command in (found for found in code("en") if found.startswith("qemu-img ")):
        usage = next(line for line in told.splitlines() if line.startswith(f"  {command.split()[1]} "))
        for option in re.findall(r" (--?[\w-]+)", command.partition(" ")[2]):
            assert re.search(rf"[\[ |]{option}\b", usage), (command, option)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """An open page of a browser, and the folder of what was made."""
    from support.browser import chromium

    folder = tmp_path_factory.mktemp("class")
    for language in ("en", "zh"):
        (folder / f"sheet-{language}.html").write_text(cheat_sheet.page(language), encoding="utf-8")
        (folder / f"slides-{language}.html").write_text(slides.page(language), encoding="utf-8")
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 720}), folder


@pytest.mark.browser
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_cheat_sheet_is_printed_on_one_page(pages: tuple[object, Path], language: str) -> None:
    page, folder = pages
    page.goto((folder / f"sheet-{language}.html").as_uri())  # type: ignore[attr-defined]
    printed = page.pdf(prefer_css_page_size=True)  # type: ignore[attr-defined]
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1


@pytest.mark.browser
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_slide_is_seen_whole_and_keys_lead_to_the_next(pages: tuple[object, Path], language: str) -> None:
    from playwright.sync_api import Page
    from support.browser import violations

    page, folder = pages
    assert isinstance(page, Page)
    page.goto((folder / f"slides-{language}.html").as_uri())
    cut = "[...document.querySelectorAll('section')].filter(s => s.scrollHeight > s.clientHeight + 2)"
    assert page.evaluate(f"{cut}.map(s => s.innerText)") == []
    if language == "en":  # all kinds of slides are among the first, and axe takes a second for ten of them
        assert violations(page, "section:nth-child(-n + 20)") == []
    for key, number in (("ArrowRight", 1), ("PageDown", 2), ("ArrowLeft", 1), ("End", -1), ("Home", 0)):
        page.keyboard.press(key)
        top = "n => Math.abs([...document.querySelectorAll('section')].at(n).getBoundingClientRect().top) < 3"
        page.wait_for_function(top, arg=number)
