"""What the page Playground asks for, answered here by CPython; tests/project/test_docs_built.py asks Pyodide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from support.scripts import script

from vmsnap_nb.course.index import LESSONS
from vmsnap_nb.playground.forests import folder_named
from vmsnap_nb.playground.questions import PREDICTIONS, TASKS
from vmsnap_nb.playground.scenes import SCENES
from vmsnap_nb.playground.session import Session
from vmsnap_nb.playground.texts import texts
from vmsnap_nb.views.svg import MOST_NARROW, least_width
from vmsnap_nb.words.language import set_language

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    script("playground").make_images(root)
    return root


class Page:
    """A page that asks a session."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._session = Session(str(root))

    def ask(self, call: str, **given: Any) -> Any:
        answer = json.loads(self._session.call(json.dumps({"call": call, "with": given})))
        return answer.get("answer", answer)

    def path(self, image: str) -> str:
        return str(self.root / f"{image}.qcow2")


@pytest.fixture
def page(images: Path) -> Iterator[Page]:
    yield Page(images)
    set_language("en")


def test_every_scene_has_its_images(page: Page) -> None:
    begun = page.ask("begin", language="en")
    assert begun["language"] == "en"
    for scene in begun["scenes"]:
        shown = page.ask("scene", name=scene["name"])
        assert len(shown["images"]) >= 4
        assert shown["svg"].startswith("<svg")
        assert least_width(shown["narrow"]["svg"]) <= MOST_NARROW
        assert set(shown["narrow"]["boxes"].values()) <= set(shown["boxes"].values())
        assert set(shown["boxes"].values()) >= {image["path"] for image in shown["images"]}
    assert {path.name for path in page.root.iterdir()} == {one.name for one in (*SCENES, *TASKS)}


def test_all_operations_are_planned(page: Page) -> None:
    page.ask("scene", name="merge")
    given = {"image": page.path("merge/Snap-3"), "base": page.path("merge/Snap-1")}
    commit = page.ask("plan", verb="commit", **given)
    assert commit["code"] == "forest.commit('Snap-3', 'Snap-1')"
    assert commit["commands"].startswith("qemu-img commit ")
    assert "192 KiB" in commit["html"]
    pull = page.ask("plan", verb="pull", **given)
    assert pull["commands"].startswith("qemu-img rebase ")
    shorten = page.ask("plan", verb="shorten", image=page.path("merge/Snap-4"), keep=2)
    assert shorten["code"] == "forest.shorten('Snap-4', keep=2)"
    assert "Ways compared" in shorten["html"]
    remove = page.ask("plan", verb="remove", image=page.path("merge/Snap-2"))
    assert remove["commands"].splitlines()[-1].startswith("rm -f -- ")
    overlay = page.ask("plan", verb="overlay", image=page.path("merge/Snap-4"), name=" third ")
    assert overlay["code"] == "forest.overlay('third', backing='Snap-4')"
    assert "third.qcow2" in overlay["commands"]


def test_a_refusal_has_its_reason_and_no_commands(page: Page) -> None:
    page.ask("scene", name="figure-2")
    plan = page.ask("plan", verb="commit", image=page.path("figure-2/Overlay-1"), base="")
    assert plan["refused"]
    assert "silently corrupted" in plan["html"]
    assert plan["commands"] == ""
    error = page.ask("plan", verb="shorten", image=page.path("figure-2/Overlay-1"), keep=9)
    assert "<strong>" in error["error"]


def test_a_drag_is_judged_and_meant_as_in_a_panel(page: Page) -> None:
    page.ask("scene", name="figure-2")
    top, base, other = (page.path(f"figure-2/{name}") for name in ("Overlay-1A", "RootBase", "Overlay-2"))
    told = {path: (does, why) for path, does, why in page.ask("judge", source=top)}
    assert "corrupted" in told[base][1]
    assert told[other] == ("", "neither image is based on the other")
    assert page.ask("drag", source=top, target=base) == {"verb": "commit", "image": top, "base": base}
    assert page.ask("drag", source=top, target=other) is None


def test_the_faults_of_the_broken_chains_are_found(page: Page) -> None:
    shown = page.ask("scene", name="broken")
    for name in ("missing", "loop", "backing-format"):
        assert name in shown["findings"]
    assert "Overlay-1A" not in {image["name"] for image in shown["images"]}


def test_a_block_map(page: Page) -> None:
    page.ask("scene", name="merge")
    assert "<svg" in page.ask("map", image=page.path("merge/Snap-4"))


def test_every_exercise_can_be_answered(page: Page) -> None:
    groups = page.ask("begin", language="en")["exercises"]
    names = [one["name"] for group in groups for one in group["exercises"]]
    assert names == [*(one.name for one in (*TASKS, *PREDICTIONS)), *(f"quiz:{name}" for name in LESSONS)]
    for row in PREDICTIONS:
        shown = page.ask("exercise", name=row.name)
        assert shown["scene"] == row.scene
        (question,) = shown["questions"]
        marks = [page.ask("check", name=row.name, answers=[n]) for n in range(len(question["options"]))]
        assert sum("✓" in mark for mark in marks) == 1, row.name
        assert "<details>" in page.ask("check", name=row.name, answers=[None])
    for lesson, (_, rows) in LESSONS.items():
        questions = page.ask("exercise", name=f"quiz:{lesson}")["questions"]
        checked = page.ask("check", name=f"quiz:{lesson}", answers=[0] * len(questions))
        assert f"of {len(rows)} answers" in checked


def test_tasks_in_reading(page: Page) -> None:
    for name, answer, wrong in (
        ("read-needed", "disk-f.qcow2, disk-a，disk-d", "disk-f"),
        ("read-monday", "diary", "monday"),
    ):
        assert page.ask("exercise", name=name)["hint"]
        assert "✓" in page.ask("check", name=name, answers=[answer])
        assert "✗" in page.ask("check", name=name, answers=[wrong])


def test_it_speaks_chinese(page: Page) -> None:
    begun = page.ask("begin", language="zh-CN")
    assert begun["words"]["plan"] == "计划"
    page.ask("scene", name="figure-2")
    plan = page.ask("plan", verb="commit", image=page.path("figure-2/Overlay-1"), base="")
    assert "拒绝" in plan["html"]


def test_dropped_files_are_placed_where_a_header_says(images: Path, tmp_path: Path) -> None:
    process, tried = script("playground").process, script("playground")._TRIED
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    argv = ("qemu-img", "create", "-q", "-f", "qcow2")
    process.run((*argv, str(base), "1M"), tried=tried)
    process.run((*argv, "-F", "qcow2", "-u", "-b", "/srv/images-of-nobody/base.qcow2", str(top), "1M"), tried=tried)
    assert folder_named(str(tmp_path)) == "/srv/images-of-nobody"
    process.run((*argv, "-F", "qcow2", "-u", "-b", "/etc/base.qcow2", str(top), "1M"), tried=tried)
    assert folder_named(str(tmp_path)) == str(tmp_path)  # a folder that is there already
    assert folder_named(str(images / "merge")) == str(images / "merge")


def test_the_page_says_what_python_gives_it() -> None:
    code = (ROOT / "docs" / "playground" / "page.js").read_text()
    verbs = set(re.findall(r'"(\w+)"', re.findall(r"const VERBS = \[(.*)\]", code)[0]))
    assert set(re.findall(r"\bwords\.(\w+)", code)) | verbs == set(texts())
