"""The report: one page that needs nothing else, written whole or not at all, and readable in a real browser."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support.browser import chromium, violations
from support.images import create
from support.nobody import NOBODY

import vmsnap_nb as vs
from vmsnap_nb.command.main import main
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.image import Image
from vmsnap_nb.views.whole_page import MARK

pytestmark = pytest.mark.system


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    base = create(folder / "base<x>.qcow2")
    create(folder / "top & 快照.qcow2", base)
    return folder


def headings(page: str) -> list[str]:
    return re.findall(r"<h[23] id=[^>]*>([^<]*)<", page)


def test_a_report_of_folders(images: Path, tmp_path: Path) -> None:
    (images / "base<x>.qcow2").rename(images / "gone.qcow2")
    path = vs.scan(images).to_html(tmp_path / "report.html")
    page = Path(path).read_text()
    assert page.startswith(MARK)
    assert headings(page) == ["Findings", "Images", "Space", "Leftovers"]
    assert "missing-base" in page
    assert "base&lt;x&gt;" in page
    assert "<x>" not in page
    assert "<svg" in page
    assert re.findall(r"""(?:src|href)=["'](?!#)""", page) == []
    assert "url(" not in page
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_report_is_replaced_and_another_file_is_not(images: Path, tmp_path: Path) -> None:
    path, link = tmp_path / "report.html", tmp_path / "link.html"
    path.write_text("mine")
    path.chmod(0o644)
    with pytest.raises(vs.InvalidRequestError, match="is not a report"):
        vs.scan(images).to_html(path)
    assert path.read_text() == "mine"
    vs.scan(images).to_html(path, overwrite=True)
    assert os.stat(path).st_mode & 0o777 == 0o644
    link.symlink_to(path)
    before = path.read_text()
    vs.scan(images).to_html(link)
    assert link.is_symlink()
    assert path.read_text() != before or path.read_text().startswith(MARK)
    assert sorted(os.listdir(tmp_path)) == ["images", "link.html", "report.html"]
    with pytest.raises(vs.NotFoundError):
        vs.scan(images).to_html(tmp_path / "none" / "report.html")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_not_replaced_by_a_report(images: Path, overwrite: bool) -> None:
    with pytest.raises(vs.InvalidRequestError, match="this is a folder") as caught:
        vs.scan(images).to_html(images, overwrite=overwrite)
    assert str(images / "report.html") in str(caught.value)


def test_a_report_is_not_written_through_what_another_user_has_put_there(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, target, own = tmp_path / "link.html", tmp_path / "new", os.geteuid()
    link.symlink_to(target)
    if own == 0:
        os.lchown(link, NOBODY, NOBODY)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    with pytest.raises(vs.InvalidRequestError, match="a symbolic link that belongs to another user"):
        vs.scan(images).to_html(link)
    assert not target.exists()
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(vs.InvalidRequestError, match="is not a report"):
        vs.scan(images).to_html(link)
    link.unlink()
    link.write_text(MARK)
    link.chmod(0o666)
    if own == 0:
        os.chown(link, NOBODY, NOBODY)
    vs.scan(images).to_html(link)
    assert os.stat(link).st_mode & 0o777 == 0o600


def test_the_command_writes_it(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.html"
    assert main(["report", "-o", str(path), str(images)]) == 0
    assert capsys.readouterr().out == f"written: {path}\n"
    path.write_text("mine")
    assert main(["report", "-o", str(path), str(images), "--json"]) == 2
    assert path.read_text() == "mine"
    assert main(["report", "-o", str(path), str(images), "--overwrite"]) == 0


@pytest.mark.browser
def test_a_report_of_a_host_in_both_themes_and_on_paper(lab: Lab, base: Image, tmp_path: Path) -> None:
    guest = lab.guest("reported", backing=base)
    guest.snapshot("before", kind="internal-disk").run(progress=False)
    for number in range(5):
        guest.snapshot(f"night-{number}", kind="external-disk").run(progress=False)
    path = lab.to_html(tmp_path / "host.html")
    assert headings(Path(path).read_text()) == ["Findings", "Guests", "Images", "Snapshots", "Space", "Leftovers"]
    colours = set()
    with chromium() as browser:
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 480, "height": 800}, color_scheme=scheme)
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(f"file://{path}")
            assert asked == [f"file://{path}"]
            assert page.evaluate("document.documentElement.scrollWidth") <= 480
            assert violations(page, "html") == []
            figure = page.locator("figure").first
            assert figure.evaluate("element => element.scrollWidth <= element.clientWidth"), "the active end is cut off"
            text = page.locator("figure svg text").first
            colours.add(text.evaluate("element => getComputedStyle(element).fill"))
            page.emulate_media(media="print")
            white = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert white == "rgb(255, 255, 255)"
            page.set_viewport_size({"width": 1032, "height": 700})  # A4, landscape, without its margins
            assert page.evaluate("document.documentElement.scrollWidth") <= 1032, "a table is cut off on paper"
            rules = page.evaluate("[...document.styleSheets[0].cssRules].map(rule => rule.cssText)")
            assert any("landscape" in rule for rule in rules if rule.startswith("@page"))  # tables are wide
            page.close()
    assert len(colours) == 2


def test_a_report_in_chinese(images: Path, tmp_path: Path) -> None:
    vs.set_language("zh")
    try:
        page = Path(vs.scan(images).to_html(tmp_path / "report.html")).read_text()
    finally:
        vs.set_language(None)
    assert ' lang="zh">' in page
    assert not {"Findings", "Images", "Space", "Leftovers"} & set(headings(page))
