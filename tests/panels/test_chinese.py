"""Panels in Chinese: no label, hint or state of a control is English, and the JavaScript has its words from Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pytest

from vmsnap_nb import panels
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.panels.chain_view import ChainView
from vmsnap_nb.panels.panel import Panel
from vmsnap_nb.words.language import set_language

pytestmark = pytest.mark.system

NAMES = re.compile(
    r"<[^>]*>|\{(?:image|row|act|why)\}|\S*(?:RootBase|Snap-|Other|panel-)\S*|[KMG]iB|\b(?:UTC|commit|pull|qcow2|vda|libvirt|shell|Ctrl|Shift|Enter"
    r"|Escape|quiesce|managed save|snap\d|Alpine|Linux|(?:in|ex)ternal-(?:disk|checkpoint))\b"
)


@pytest.fixture(autouse=True)
def chinese() -> Iterator[None]:
    set_language("zh")
    yield
    set_language(None)


def texts(widget: Any) -> Iterator[str]:
    """What a control and those in it show."""
    for name in ("description", "placeholder", "tooltip", "label", "empty"):
        yield str(getattr(widget, name, "") or "")
    if isinstance(widget, widgets.HTML):
        yield widget.value
    yield from (text for name, text in getattr(widget, "words", {}).items() if name != "language")
    yield from getattr(widget, "titles", ())
    yield from getattr(widget, "columns", ())
    if not isinstance(widget, widgets.SelectMultiple):
        yield from (one if isinstance(one, str) else one[0] for one in getattr(widget, "options", ()))
    for row in getattr(widget, "shown_rows", ()):
        yield from (*row.notes, row.meaning, *(text for one in row.actions for text in (one.label, one.why_not)))
    for child in getattr(widget, "children", ()):
        if not isinstance(child, Panel):
            yield from texts(child)


def english(panel: Panel) -> set[str]:
    found = (re.findall(r"[A-Za-z]{2,}", NAMES.sub("", text)) for text in texts(panel))
    return {word for words in found for word in words}


@pytest.mark.parametrize("kind", [panels.MergePanel, panels.OverlayPanel])
def test_panels_of_images(forest: LiveForest, opened: list[Panel], kind: type[Panel]) -> None:
    panel = kind(forest, every=0)
    opened.append(panel)
    assert english(panel) == set()


def test_panels_of_guests(lab: Lab, guest: Guest, opened: list[Panel]) -> None:
    guest.snapshot("Snap-1", kind="internal-disk").run(progress=False)
    of_guest, of_lab = panels.SnapshotPanel(guest, every=0), panels.LabPanel(lab, every=0)
    opened += [of_guest, of_lab]
    assert english(of_guest) == set()
    of_lab.guests.value = guest.name
    assert of_lab.guest_page is not None
    for number in range(1, 5):
        of_lab.guest_page.part(number)
    # Other tests share the lab, with guests and images of theirs.
    named = " ".join([str(lab.root), *(one.name for one in lab.guests()), *(image.name for image in lab.survey())])
    parts = english(of_lab).union(*(english(part) for part in of_lab.guest_page._parts.values()))
    words = re.findall("[A-Za-z]{2,}", named)  # a long name is shown on several lines
    assert {part for part in parts if not any(w.startswith(part) or w.endswith(part) for w in words)} == set()
    assert of_lab.guests[guest.name].notes[0] == "已关机"
    assert (of_guest.table.shown_rows[0].title, of_guest.table.shown_rows[0].meaning) == (
        "Snap-1 ← 当前位置",
        "内部磁盘快照",
    )


def test_a_click_without_a_choice_says_so(forest: LiveForest, opened: list[Panel]) -> None:
    panel = panels.MergePanel(forest, every=0)
    opened.append(panel)
    panel.plan_button.click()
    assert "未选择镜像" in panel.flow.message.value
    assert "InvalidRequestError" not in panel.flow.message.value


def test_the_javascript_has_no_words_of_its_own() -> None:
    """What it shows is given by the widget: texts in it are names, keys of events, or parts of style."""
    for path in Path(str(ChainView._esm._path)).parent.glob("*.js"):  # type: ignore[union-attr]
        code = re.sub(r"//.*", "", path.read_text())
        shown = re.findall(r"(?:textContent|placeholder|title)\s*=\s*([\"'`][^\"'`]*[\"'`])", code)
        shown += re.findall(r"\"aria-label\",\s*([\"'`][^\"'`]*[\"'`])", code)
        assert [text for text in shown if re.search(r"[A-Za-z]{2,}", re.sub(r"\$\{[^}]*\}|UTC", "", text))] == [], (
            path.name
        )
