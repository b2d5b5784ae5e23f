"""The documentation is built without a warning and without a network, and its pages lead to one another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make docs` does, in a namespace that has no network."""
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "-r", "--net"]
    argv = [*alone, sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(target)]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources: the build writes beside them."""
    top = tmp_path_factory.mktemp("docs")
    for entry in ROOT.iterdir():
        if entry.name != "docs" and not entry.name.startswith("."):
            (top / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "docs", top / "docs", ignore=shutil.ignore_patterns("course", "_build"))
    return top / "docs"


@pytest.fixture(scope="module")
def site(copy: Path) -> Path:
    done = build(copy, copy.parent / "site")
    assert done.returncode == 0, done.stderr
    return copy.parent / "site"


class Page(HTMLParser):
    """What a page refers to, and the places in it to which others can refer."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.places.add(found["id"] or "")
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.fetched.append(found.get("href") or "")
        elif tag in ("img", "script", "iframe", "source") and found.get("src"):
            self.fetched.append(found["src"] or "")


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        if "_static" not in path.parts:
            yield path, Page(path)


def test_every_page_of_the_sources_is_there(site: Path, copy: Path) -> None:
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    sources = {path.relative_to(copy).with_suffix("") for path in copy.rglob("*.md")}
    notebooks = {Path("course") / path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert len(sources) >= 6
    assert notebooks
    assert sources | notebooks <= built


def test_every_link_within_leads_to_a_page_and_a_place(site: Path) -> None:
    known = dict(pages(site))
    broken = []
    for path, page in known.items():
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target.exists() and (
                not parts.fragment or target not in known or unquote(parts.fragment) in known[target].places
            )
            if not there and not target.is_relative_to(site / "_sources"):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    """MathJax and the like of a notebook page stand on other machines; a reader without a network must miss nothing."""
    fetched = {link for _, page in pages(site) for link in page.fetched if urlsplit(link).netloc}
    assert fetched == set()


def test_links_to_elsewhere_are_well_formed(site: Path) -> None:
    """Their form alone: whether somebody answers there, a machine without a network cannot tell."""
    links = {link for _, page in pages(site) for link in page.links if urlsplit(link).netloc}
    assert any(link.startswith("https://libvirt.org/") for link in links)
    form = re.compile(r"https://[a-z0-9.-]+\.[a-z]{2,}(/[\w./%~+-]*)?(#[\w.-]+)?")
    assert [link for link in sorted(links) if not form.fullmatch(link)] == []


def test_a_page_with_a_broken_reference_fails(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    (tmp_path / "index.md").write_text("# Title\n\n[nowhere](nowhere.md)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
