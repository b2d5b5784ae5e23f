"""What the page asks for: one call for each thing to do, with values that are JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from vmsnap_nb.course.shown import marked_up
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.plans.merge.dragged import dragged, verdicts
from vmsnap_nb.playground.exercises import checked, exercise_groups, shown_exercise
from vmsnap_nb.playground.forests import folder_named, read_folder
from vmsnap_nb.playground.scenes import SCENES
from vmsnap_nb.playground.texts import texts
from vmsnap_nb.views.bundle import mimebundle
from vmsnap_nb.views.clickable import clickable, spoken
from vmsnap_nb.views.shown_text import capital
from vmsnap_nb.words.language import set_language
from vmsnap_nb.words.message import t

__all__ = ["Session"]

_SCOPE = "vmsnap-playground-figure"
"""The class of the element that the figure is shown in."""


class Session:
    """One page: the images that are open, and what is asked of them; `root` has a folder for each scene and task."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._forest: LiveForest | None = None
        self._calls: Mapping[str, Callable[..., Any]] = {
            "begin": self._begin,
            "scene": self._scene,
            "dropped": self._dropped,
            "folder": folder_named,
            "plan": self._plan,
            "drag": self._drag,
            "judge": self._judge,
            "map": self._map,
            "exercise": self._exercise,
            "check": self._check,
        }

    def call(self, request: str) -> str:
        """Answer a request: what is called, and its arguments by name. Both are JSON, and so is an error."""
        asked = json.loads(request)
        try:
            answer = self._calls[asked["call"]](**asked.get("with", {}))
        except VmsnapError as error:
            return json.dumps({"error": _error_html(error)})
        return json.dumps({"answer": answer})

    @property
    def forest(self) -> LiveForest:
        """The images that are open."""
        assert self._forest is not None
        return self._forest

    def _begin(self, language: str) -> dict[str, Any]:
        chinese = language.startswith("zh")
        set_language("zh" if chinese else "en")
        scenes = [{"name": one.name, "title": t(one.title), "about": marked_up(t(one.about))} for one in SCENES]
        return {
            "language": "zh-CN" if chinese else "en",
            "words": texts(),
            "figure": spoken(),
            "scope": _SCOPE,
            "scenes": scenes,
            "exercises": exercise_groups(),
        }

    def _scene(self, name: str) -> dict[str, Any]:
        return self._open(f"{self._root}/{name}")

    def _dropped(self, folder: str) -> dict[str, Any]:
        return self._open(folder)

    def _open(self, folder: str) -> dict[str, Any]:
        self._forest = forest = read_folder(folder)
        found, narrow = clickable(forest, _SCOPE), clickable(forest, _SCOPE, narrow=True)
        images = [
            {"path": image.path, "name": image.name, "based": forest.parent(image.path) is not None}
            for image in forest
            if image.status != "missing"
        ]
        findings = forest.findings()
        return {
            "folder": folder,
            "svg": found.svg,
            "text": found.text,
            "summary": found.summary,
            "boxes": found.boxes,
            "least": found.least,
            "narrow": {"svg": narrow.svg, "boxes": narrow.boxes},
            "switch": found.switch,
            "images": images,
            "findings": findings._repr_mimebundle_()["text/html"] if findings else "",
        }

    def _planned(self, verb: str, image: str, base: str, keep: int, name: str) -> tuple[LivePlan, str]:
        """Return the plan, and the line of Python that makes it."""
        forest, base_or_none = self.forest, base or None
        called = forest[image].name
        lower = f", {forest[base].name!r}" if base else ""
        match verb:
            case "commit":
                return forest.commit(image, base_or_none), f"forest.commit({called!r}{lower})"
            case "pull":
                return forest.pull(image, base_or_none), f"forest.pull({called!r}{lower})"
            case "remove":
                return forest.remove(image), f"forest.remove({called!r})"
            case "shorten":
                return forest.shorten(image, keep=keep), f"forest.shorten({called!r}, keep={keep})"
        return forest.overlay(name, image), f"forest.overlay({name!r}, backing={called!r})"

    def _plan(self, verb: str, image: str, base: str = "", keep: int = 2, name: str = "new") -> dict[str, Any]:
        plan, code = self._planned(verb, image, base, keep, name.strip() or "new")
        return {
            "title": capital(plan.title),
            "refused": plan.refused,
            "html": mimebundle(plan, include={"text/html"})["text/html"],
            "commands": "" if plan.refused else "\n".join(plan.commands),
            "code": code,
        }

    def _drag(self, source: str, target: str) -> dict[str, str] | None:
        meant = dragged(self.forest, source, target)
        return None if meant is None else {"verb": meant.way, "image": meant.top, "base": meant.base}

    def _judge(self, source: str) -> list[tuple[str, str, str]]:
        plan = lambda meant: self._planned(meant.way, meant.top, meant.base, 0, "")[0]  # noqa: E731
        return list(verdicts(self.forest, source, plan))

    def _map(self, image: str) -> str:
        return self.forest.blockmap(image)._repr_mimebundle_()["text/html"]

    def _exercise(self, name: str) -> dict[str, Any]:
        return shown_exercise(name)

    def _check(self, name: str, answers: list[Any]) -> str:
        return checked(name, answers, lambda scene: read_folder(f"{self._root}/{scene}"))


def _error_html(error: VmsnapError) -> str:
    parts = [f"<p><strong>{escape(error.headline)}</strong></p>"]
    parts += [f"<p>{escape(text)}</p>" for text in (error.why, error.quoted, error.next_step) if text]
    return "".join(parts)
