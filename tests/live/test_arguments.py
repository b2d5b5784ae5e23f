"""Arguments of a wrong kind: every public function names the rule, before anything else happens."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.model.arguments import _Checker, checked
from vmsnap_nb.model.number import check_above_zero

pytestmark = pytest.mark.system

CLASSES = (vs.Fleet, vs.Guest, vs.Host, vs.Job, vs.Lab, vs.LiveChain, vs.LiveForest, vs.LiveLeftovers, vs.LivePlan)
FUNCTIONS = (vs.scan, vs.chain, vs.connect, vs.create_overlay, vs.class_progress, vs.predict, vs.quiz)
INTERNAL = {"bind", "bind_each", "edited", "only", "of"}
"""Methods of forests and plans that take objects of this package, and are no part of the documentation."""


class Thing:
    """What no function takes."""


def _named(name: str) -> str:
    return name


def verbs() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public functions, and the public methods that a live class defines."""
    for function in FUNCTIONS:
        yield function.__name__, function
    for one in CLASSES:
        for base in one.__mro__:
            if base.__module__.startswith(("vmsnap_nb.live", "vmsnap_nb.lab", "vmsnap_nb.fleet")):
                for name, value in vars(base).items():
                    if inspect.isfunction(value) and not name.startswith("_") and name not in INTERNAL:
                        yield f"{base.__name__}.{name}", value


VERBS = dict(verbs())


def test_there_are_verbs() -> None:
    assert len(VERBS) > 100


@pytest.mark.parametrize("name", VERBS)
def test_an_object_of_no_use_is_refused(name: str) -> None:
    function = inspect.unwrap(VERBS[name])
    check = _Checker(function)
    check._read()
    for parameter in check._rules:
        is_rest = parameter == check._rest
        before, named = ([*["x"] * len(check._places), Thing()], {}) if is_rest else ([], {parameter: Thing()})
        with pytest.raises(vs.InvalidRequestError) as caught:
            VERBS[name](*before, **named)
        assert parameter in str(caught.value.why)
        assert caught.value.next_step
    annotated = {
        one.name
        for one in inspect.signature(function).parameters.values()
        if any(word in str(one.annotation).split(" | ") for word in ("str", "bool", "PathLike", "ImageLike"))
    }
    unknown = {
        "backing",
        "layer",
        "keep",
        "at",
        "to",
        "uri",
        "size",
        "memory",
        "boot",
        "labs",
        "image",
        "newer",
        "cluster_size",
    }
    assert annotated - set(check._rules) <= unknown


def test_words_for_yes_and_no_are_no_flags(tmp_path: Path) -> None:
    create(tmp_path / "base.qcow2")
    create(tmp_path / "top.qcow2", "base.qcow2")
    forest = vs.scan(tmp_path)
    wrong: Any = "no"
    with pytest.raises(vs.InvalidRequestError, match="remove must be True or False"):
        forest.commit("top", remove=wrong)
    with pytest.raises(vs.InvalidRequestError, match="method must be 1, 2 or None"):
        forest.remove("top", method=wrong)


@pytest.mark.parametrize("keep", [None, Thing(), 0, 2.5, True])
def test_how_many_images_remain_is_a_number(tmp_path: Path, keep: Any) -> None:
    create(tmp_path / "top.qcow2")
    with pytest.raises(vs.InvalidRequestError, match="keep must be a whole number of images, 1 or more"):
        vs.scan(tmp_path).shorten("top", keep=keep)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: vs.scan(5), "folders must be a path"),  # type: ignore[arg-type]
        (lambda: vs.scan(["a"]), "folders must be a path"),  # type: ignore[arg-type]
        (lambda: vs.connect(3), "uri must be a string, a dictionary or a list"),  # type: ignore[call-overload]
        (lambda: vs.connect({"a": 5}), "uri must be a string, a dictionary or a list"),  # type: ignore[dict-item]
        (lambda: vs.connect(["a\0://b"]), "is not a libvirt URI"),
        (lambda: vs.connect({"a": "qemu"}), "is not a libvirt URI"),
        (lambda: vs.connect({"a": "test:///default"}, shared="/srv/nfs"), "shared must be a list"),
        (lambda: vs.connect({"a": "test:///default"}, executor="a"), "must be an executor"),  # type: ignore[arg-type]
        (lambda: vs.class_progress({"a": 5}), "labs must be a dictionary or a list"),  # type: ignore[dict-item]
        (lambda: vs.predict("?", options=5), "options must be a list, or a dictionary"),  # type: ignore[arg-type]
        (lambda: vs.Lab(5), "root must be a path or None"),  # type: ignore[arg-type]
        (lambda: vs.panel(5), "must be a lab, a host, a guest or a forest"),  # type: ignore[arg-type]
        (lambda: vs.set_language(5), "there is no message catalogue"),  # type: ignore[arg-type]
        (lambda: vs.scan("a\0b"), "must not contain a null character"),
        (lambda: vs.scan(Path("a\0b")), "must not contain a null character"),
        (lambda: vs.scan("\ud800"), "folders must not contain a lone surrogate"),
        (lambda: vs.scan(Path("a\ud800")), "folders must not contain a lone surrogate"),
        (lambda: checked(_named)("\udcff"), "name must not contain a lone surrogate"),
        (lambda: check_above_zero("x", "zoom"), "zoom must be a number greater than 0"),
        (lambda: check_above_zero(float("inf"), "zoom"), "zoom must be a number greater than 0"),
    ],
)
def test_a_rule_is_named(call: Callable[[], object], rule: str) -> None:
    with pytest.raises(vs.InvalidRequestError, match=rule):
        call()


def test_a_file_name_can_be_any_bytes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    create(folder / "image.qcow2")
    assert [image.name for image in vs.scan(folder)] == ["image"]


def test_what_can_be_read_only_once_is_left_for_the_function() -> None:
    @checked
    def several(names: Iterable[str]) -> list[str]:
        return list(names)

    assert several(name for name in ("a", "b")) == ["a", "b"]


def test_a_checked_function_looks_like_the_function_itself() -> None:
    assert vs.scan.__name__ == "scan"
    assert "folders" in inspect.signature(vs.scan).parameters
    assert vs.scan.__doc__ == inspect.unwrap(vs.scan).__doc__
    assert vs.scan.__globals__ is inspect.unwrap(vs.scan).__globals__  # doctest looks there
