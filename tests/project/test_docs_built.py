"""The documentation is built in both languages without a warning or a network, and its pages lead to one another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import expect
from support import ROOT, TESTS
from support.browser import chromium, violations

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


def build(root: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make docs` does, in a namespace that has no network."""
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "-r", "--net"]
    argv = [*alone, sys.executable, str(root / "scripts" / "docs.py"), str(target)]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT, target)
    assert done.returncode == 0, done.stderr
    return target


class Page(HTMLParser):
    """What a page refers to, and the places in it to which others can refer."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.language: str | None = None
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.places.add(found["id"] or "")
        if tag == "html":
            self.language = found["lang"]
        elif tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.fetched.append(found.get("href") or "")
        elif tag in ("img", "script", "iframe", "source") and found.get("src"):
            self.fetched.append(found["src"] or "")


@cache
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def test_both_languages_have_every_page_and_lead_to_each_other(site: Path) -> None:
    built = {path.relative_to(site) for path in site.rglob("*.html") if "_static" not in path.parts}
    chinese = {path.relative_to("zh") for path in built if path.parts[0] == "zh"}
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    notebooks = {Path("course") / f"{path.stem}.html" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert len(sources) >= 6
    assert notebooks
    assert {path for path in sources if path.parts[0] != "zh"} | notebooks <= chinese
    assert {path for path in built if path.parts[0] != "zh"} == chinese
    for name in chinese - {Path("search.html")}:
        for path, language, other in (
            (site / name, "en", site / "zh" / name),
            (site / "zh" / name, "zh-CN", site / name),
        ):
            page = pages(site)[path]
            assert page.language == language
            assert other in {(path.parent / link).resolve() for link in page.links}, path


def test_every_link_within_leads_to_a_page_and_a_place(site: Path) -> None:
    known = pages(site)
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
    """Pages often take MathJax and fonts from other machines; a reader without a network must miss nothing."""
    fetched = {link for page in pages(site).values() for link in page.fetched if urlsplit(link).netloc}
    assert fetched == set()


def test_no_style_fetches_anything_from_elsewhere(site: Path) -> None:
    styles = list(site.rglob("*.css"))
    assert styles
    pattern = re.compile(r"(?:url\(|@import\s)\s*[\"']?(?:https?:)?//")
    assert [path for path in styles if pattern.search(path.read_text())] == []


@pytest.mark.parametrize("word", ["快照", "合并", "创建快照", "qcow2"])
def test_the_search_index_leads_from_a_word_to_pages_with_it(site: Path, word: str) -> None:
    text = (site / "zh" / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    terms = [word] if word.isascii() else [word[at : at + 2] for at in range(len(word) - 1)]

    def having(term: str) -> set[int]:
        found = [index[part].get(term, []) for part in ("terms", "titleterms")]
        return {page for pages in found for page in ([pages] if isinstance(pages, int) else pages)}

    pages = set.intersection(*map(having, terms))
    assert pages
    for page in pages:
        shown = re.sub(r"<[^>]+>|\s", "", (site / "zh" / f"{index['docnames'][page]}.html").read_text()).lower()
        assert all(term in shown for term in terms)


@pytest.mark.browser
def test_a_reader_finds_chinese_words_offline(site: Path) -> None:
    with chromium() as browser:
        page = browser.new_page()
        fetched: list[str] = []
        page.on("request", lambda request: fetched.append(request.url))
        for word, title in (("快照", "快照"), ("合并", "合并"), ("恢复到快照", "恢复")):
            page.goto(f"{(site / 'zh' / 'search.html').as_uri()}?q={word}")
            expect(page.locator("#search-results ul.search li a", has_text=title).first).to_be_visible()
        page.goto((site / "concepts.html").as_uri())
        page.locator(".theme-toggle-content button").click()
        expect(page.locator("body")).to_have_attribute("data-theme", re.compile("light|dark"))
        page.get_by_role("link", name="中文").click()
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        page.goto((site / "howto" / "merge.html").as_uri())
        expect(page.locator("button.copybtn").first).to_be_attached()
        assert {urlsplit(url).scheme for url in fetched} <= {"file", "data"}


def in_node(folder: Path, *requests: tuple[str, dict[str, object]]) -> list[Any]:
    """Ask the playground's Python, which is Pyodide, in Node."""
    node = shutil.which("node")
    assert node, "Node is missing: scripts/setup --tests installs npm"
    script = TESTS / "support" / "playground.mjs"
    lines = "".join(f"{json.dumps(request)}\n" for request in requests)
    done = subprocess.run(
        [node, str(script), str(folder)],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.partition("PythonError")[2][:4000] or done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_playground_plans_in_a_python_for_browsers(site: Path) -> None:
    images = "/images/figure-2"
    begun, shown, plan, judged, wrong, right, chinese, broken, block_map = in_node(
        site / "_static" / "playground",
        ("begin", {"language": "en"}),
        ("scene", {"name": "figure-2"}),
        ("plan", {"verb": "commit", "image": f"{images}/Overlay-1.qcow2"}),
        ("judge", {"source": f"{images}/Overlay-1C.qcow2"}),
        ("plan", {"verb": "shorten", "image": f"{images}/Overlay-1C.qcow2", "keep": 0}),
        ("check", {"name": "merging/commit-kib", "answers": [2]}),
        ("begin", {"language": "zh"}),
        ("scene", {"name": "broken"}),
        ("map", {"image": f"{images.replace('figure-2', 'broken')}/Overlay-1.qcow2"}),
    )
    assert [one["name"] for one in begun["scenes"]] == ["merge", "figure-1", "figure-2", "template", "broken"]
    assert len(shown["images"]) == 9
    assert plan["refused"]
    assert "shared-base" in plan["html"]
    assert len(judged) == 8
    assert "error" in wrong
    assert "✓" in right
    assert chinese["words"]["plan"] == "计划"
    assert "缺失" in broken["text"]
    assert "<svg" in block_map


def test_the_playground_is_small_and_names_its_licences(site: Path) -> None:
    folder = site / "_static" / "playground"
    files = [path for path in site.rglob("*") if path.is_file() and "playground" in path.parts]
    assert 10 << 20 < sum(path.stat().st_size for path in files) < 20 << 20
    assert not (site / "zh" / "_static" / "playground").exists()  # the Chinese page takes the same
    (version,) = re.findall(r'"pyodide": "([\d.]+)"', (ROOT / "docs" / "playground" / "package.json").read_text())
    assert f"Pyodide {version} " in (folder / "LICENSES.txt").read_text()
    lock = (ROOT / "docs" / "playground" / "package-lock.json").read_text()
    assert f'"pyodide": "{version}"' in lock
    assert "resolved" not in lock  # whatever registry npm is told to use


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, served as a web server of the reader would."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.browser
def test_the_playground_in_a_browser(site: Path, address: str, tmp_path: Path) -> None:
    """By keyboard, in both themes and languages, and with files of the reader's own."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}/index.html")
        page.get_by_role("link", name="Try it in your browser").click()
        root = page.locator("#vmsnap-playground")
        root.get_by_role("button", name="Start the playground").press("Enter")
        root.locator("[data-path$='Snap-3.qcow2']").press("m")
        root.locator("[data-path$='Snap-1.qcow2']").press("Enter")
        expect(root.get_by_role("heading", name="commit Snap-2 and Snap-3 into Snap-1")).to_be_visible()
        expect(root.locator("pre.lines", has_text="qemu-img commit")).to_be_visible()
        expect(root.get_by_label("Image", exact=True)).to_have_value("/images/merge/Snap-3.qcow2")
        assert violations(page, "#vmsnap-playground") == []

        own = own_images(tmp_path)
        root.get_by_label("Choose files").set_input_files(own)
        expect(root.locator("[data-path='/srv/images-of-nobody/top.qcow2']")).to_be_visible()
        root.get_by_role("button", name="Show the plan").click()
        expect(root.get_by_role("heading", name="commit top into base")).to_be_visible()
        expect(root.locator("pre.lines", has_text="/srv/images-of-nobody/top.qcow2")).to_be_visible()

        page.set_viewport_size({"width": 600, "height": 900})
        page.emulate_media(color_scheme="dark")
        root.get_by_label("Exercise", exact=True).select_option("panels/drop")
        root.get_by_label("the plan is refused").check()
        root.get_by_role("button", name="Check").click()
        expect(root.get_by_text("As you expected: the plan is refused")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        assert violations(page, "#vmsnap-playground") == []

        page.goto(f"{address}/zh/playground.html")  # its own code shows the button; what it says is tested in Node
        expect(root.get_by_role("button", name="启动练习场")).to_be_visible()
        assert wrong == []
        assert {urlsplit(url).netloc for url in asked if url.startswith("http")} == {urlsplit(address).netloc}
        assert {urlsplit(url).scheme for url in asked} <= {"http", "data", "blob"}


def own_images(folder: Path) -> list[str]:
    """Make a chain whose header names a folder that is not on this machine; the first file is 1 GiB long."""
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*create, "-o", "preallocation=metadata", base, "1G"], check=True)
    subprocess.run([*create, "-F", "qcow2", "-u", "-b", "/srv/images-of-nobody/base.qcow2", top, "1G"], check=True)
    return [str(base), str(top)]


def test_links_to_elsewhere_are_well_formed(site: Path) -> None:
    """Their form alone: whether somebody answers there, a machine without a network cannot tell."""
    links = {link for page in pages(site).values() for link in page.links if urlsplit(link).netloc}
    assert any(link.startswith("https://libvirt.org/") for link in links)
    form = re.compile(r"https://[a-z0-9.-]+\.[a-z]{2,}(/[\w./%~+-]*)?(#[\w.-]+)?")
    assert [link for link in sorted(links) if not form.fullmatch(link)] == []


def test_a_page_with_a_broken_reference_fails(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "docs.py", tmp_path / "scripts")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.md", "images"))
    for folder in ("docs/images", "docs/zh", "notebooks"):
        (tmp_path / folder).mkdir(exist_ok=True)
    for page in ("CONTRIBUTING.md", "CHANGELOG.md", "notebooks/README.md"):
        (tmp_path / page).write_text("---\norphan: true\n---\n# Title\n")
    (tmp_path / "docs" / "index.md").write_text("# Title\n\n[nowhere](nowhere.md)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
