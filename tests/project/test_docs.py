"""The pages name every error and every concern, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT

from vmsnap_nb import errors
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.plans.concern import CONCERNS, Concern
from vmsnap_nb.words.message import t

DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    ROOT / "README.zh.md",
    ROOT / "notebooks" / "zh" / "README.md",
    ROOT / "notebooks" / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
]


def rows(title: str) -> set[str]:
    text = (DOCS / "troubleshooting.md").read_text()
    section = text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"(?m)^\| `([^`]+)` \|", section))


def test_every_error_is_explained() -> None:
    assert rows("Errors") == set(errors.__all__)


def test_every_concern_is_explained() -> None:
    assert rows("Concerns") == CONCERNS


def test_every_concern_leads_to_its_explanation() -> None:
    for name in CONCERNS:
        page, _, anchor = Concern(name, "note", t("so it is")).docs.partition("#")  # type: ignore[arg-type]
        for folder in (DOCS, DOCS / "zh"):
            text = (folder / page).with_suffix(".md").read_text()
            assert text.count(f'| `{name}` | <a id="{anchor}"></a>') == 1, name


def test_every_error_leads_to_its_explanation() -> None:
    class Own(errors.GuestNotReadyError):
        """What somebody else makes of an error is explained where that error is."""

    for kind in (*(getattr(errors, name) for name in errors.__all__), Own):
        if issubclass(kind, VmsnapError):
            name = "GuestNotReadyError" if kind is Own else kind.__name__
            page, _, anchor = kind.__new__(kind).docs.partition("#")
            assert anchor == name
            for folder in (DOCS, DOCS / "zh"):
                text = (folder / page).with_suffix(".md").read_text()
                assert text.count(f'| `{name}` | <a id="{anchor}"></a>') == 1, name


def test_what_is_refused_is_what_there_is() -> None:
    named = set(re.findall(r"\(`([a-z-]+)`\)", (DOCS / "refusals.md").read_text()))
    assert named
    assert named <= CONCERNS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


SHELVES = [
    *(
        DOCS / f"{name}.md"
        for name in ("index", "concepts", "troubleshooting", "exercises", "crash-safety", "threat-model")
    ),
    *sorted((DOCS / "howto").glob("*.md")),
]
FENCE = re.compile(r"(?ms)^```.*?^```$")


def test_both_front_pages_show_the_same() -> None:
    texts = [(ROOT / name).read_text() for name in ("README.md", "README.zh.md")]
    code = [[re.sub(r"(?m) *# .*$", "", fence) for fence in FENCE.findall(text)] for text in texts]
    assert code[1] == code[0]
    for pattern in (r"(?m)^#+ ", r"(?m)^- ", r"!\[[^\]]*\]\(([^)]*)\)"):
        english, chinese = (re.findall(pattern, FENCE.sub("", text)) for text in texts)
        assert [one.replace("-zh.svg", ".svg") for one in chinese] == english
    assert "](README.zh.md)" in texts[0]
    assert "](README.md)" in texts[1]


@pytest.mark.parametrize("page", SHELVES, ids=lambda page: page.name)
def test_the_chinese_page_has_the_same_headings_and_the_same_code(page: Path) -> None:
    """So that its code needs no run of its own."""
    english, chinese = page.read_text(), (DOCS / "zh" / page.relative_to(DOCS)).read_text()
    code = [[fence for fence in FENCE.findall(text) if ":caption:" not in fence] for text in (english, chinese)]
    assert code[1] == code[0]
    levels = [re.findall(r"(?m)^#+ ", FENCE.sub("", text)) for text in (english, chinese)]
    assert levels[1] == levels[0]
    rows = [len(re.findall(r"(?m)^\|", FENCE.sub("", text))) for text in (english, chinese)]
    assert rows[1] == rows[0]
    first = [re.findall(r"(?m)^\| (`[^`]+`) \|", FENCE.sub("", text)) for text in (english, chinese)]
    assert first[1] == first[0]  # what is looked up by its name has a row in both
    faults = [text.partition("\n| verb |")[2] for text in (english, chinese)]
    assert faults[1] == faults[0]  # a table that is generated


CHINESE = [ROOT / "README.zh.md", ROOT / "notebooks" / "zh" / "README.md", *sorted((DOCS / "zh").rglob("*.md"))]
LESSONS = [page for page in sorted((ROOT / "notebooks").rglob("*.md")) if page.parent.name == "zh"]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_chinese_page_is_written_as_chinese_is(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", FENCE.sub("", page.read_text()))
    assert "您" not in text
    assert re.findall(r"[\u4e00-\u9fff][ ]?[,;:!?()]|[,;:!?()][\u4e00-\u9fff]|[\u4e00-\u9fff]\.(?:\s|$)", text) == []


@pytest.mark.parametrize("page", [*CHINESE, *LESSONS], ids=lambda page: page.name)
def test_no_line_ends_within_a_chinese_sentence(page: Path) -> None:
    """A browser shows the end of a line as a space, which Chinese does not have."""
    text = FENCE.sub("", page.read_text())
    assert re.findall(r"[\u4e00-\u9fff]\n[\u4e00-\u9fff]|[\u3000-\u303f\uff00-\uffef]\n[^\n\s#|>*:<!\d-]", text) == []


@pytest.mark.parametrize("page", [*CHINESE, *LESSONS], ids=lambda page: page.name)
def test_emphasis_in_chinese_is_shown_as_such(page: Path) -> None:
    """Asterisks between punctuation and a letter do not end it: Markdown then shows them."""
    text = re.sub(r"`[^`\n]*`", "`", FENCE.sub("", page.read_text()))
    assert [one for one in re.findall(r"\*+[^*]+\*+\w?", text) if re.search(r"[^\w\s*]\*+\w$", one)] == []
