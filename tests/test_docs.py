"""The pages name every error and every concern, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmsnap_nb import errors
from vmsnap_nb.plans.plan import CONCERNS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *sorted(page for page in DOCS.rglob("*.md") if "course" not in page.parts),
    ROOT / "notebooks" / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
]


def rows(title: str) -> set[str]:
    text = (DOCS / "troubleshooting.md").read_text()
    section = text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"(?m)^\| `([^`]+)` \|", section))


def test_every_error_is_explained() -> None:
    assert rows("By the name of the error") == set(errors.__all__)


def test_every_concern_is_explained() -> None:
    assert rows("By the name of the concern") == CONCERNS


def test_what_is_refused_is_what_there_is() -> None:
    named = set(re.findall(r"\(`([a-z-]+)`\)", (DOCS / "refusals.md").read_text()))
    assert named
    assert named <= CONCERNS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        # What is built of the notebooks lies in docs/course only then.
        folder, _, rest = link.partition("/")
        place = DOCS.parent / "notebooks" / rest if folder == "course" else page.parent / link
        assert place.exists(), link
