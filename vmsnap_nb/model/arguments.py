"""Arguments of public functions: their kinds are checked before anything happens, by the annotations.

Numbers are checked where their units and limits are known (`number.py`, `size.py`), and so are annotations that name
other classes of vmsnap_nb.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from types import FunctionType
from typing import Any, TypeVar

from vmsnap_nb.model.lookup import path_of
from vmsnap_nb.model.number import invalid
from vmsnap_nb.words.message import N_, listed, t

__all__ = ["checked", "checked_methods"]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

_MARK = "_checks_arguments"


@dataclass(frozen=True)
class _Kind:
    """What one alternative of an annotation accepts, and what it is called."""

    accepts: Callable[[object], bool]
    words: tuple[str, ...]  # templates, and values as they are written


def _is_path(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str))


def _is_image(value: object) -> bool:
    # An empty name, or one with a null character, is one of no image; the search says so.
    return isinstance(value, str) or path_of(value) is not None


_TEXT = _Kind(lambda value: isinstance(value, str), (N_("a string"),))
_PATH = _Kind(_is_path, (N_("a path"),))
_IMAGE = _Kind(_is_image, (N_("an image"), N_("a path"), N_("a name")))
_KINDS: dict[str, _Kind] = {
    "str": _TEXT,
    "bool": _Kind(lambda value: isinstance(value, bool), ("True", "False")),
    "None": _Kind(lambda value: value is None, ("None",)),
    "os.PathLike": _PATH,
    "PathLike": _PATH,
    "ImageLike": _IMAGE,
}
"""By the names that annotations use; any other name accepts everything."""
_SEVERAL = frozenset({"Iterable", "Sequence", "list", "tuple"})


def checked(function: F) -> F:
    """Let a function refuse arguments of a wrong kind, and name the rule.

    Examples
    --------
    >>> @checked
    ... def remove(name: str, *, verify: bool = False) -> None: ...
    >>> remove("a", verify="no")
    Traceback (most recent call last):
    vmsnap_nb.errors.InvalidRequestError: cannot use verify='no'
      why:  verify must be True or False
      next: choose another value for verify
    """
    assert isinstance(function, FunctionType)
    check = _Checker(function)

    def call(*arguments: Any, **named: Any) -> Any:
        check(arguments, named)
        return function(*arguments, **named)

    # doctest looks for the examples of a module by the globals of its functions
    own: Any = FunctionType(call.__code__, function.__globals__, function.__name__, None, call.__closure__)
    setattr(own, _MARK, True)
    return wraps(function)(own)  # type: ignore[return-value]


def checked_methods(cls: C) -> C:
    """Let the constructor of a class and all public methods that it defines refuse arguments of a wrong kind."""
    for name, value in list(vars(cls).items()):
        if not isinstance(value, FunctionType) or hasattr(value, _MARK):
            continue
        made_by_hand = name == "__init__" and value.__code__.co_filename != "<string>"  # and not by dataclasses
        if made_by_hand or not name.startswith("_"):
            setattr(cls, name, checked(value))
    return cls


class _Checker:
    """Checks the arguments of one function; its annotations are read when it is first called."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self._parameters: dict[str, Parameter] | None = None
        self._places: list[str] = []
        self._rest: str | None = None
        self._rules: dict[str, tuple[_Kind, ...]] = {}

    def __call__(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if self._parameters is None:
            self._read()
        for place, value in enumerate(arguments):
            name = self._places[place] if place < len(self._places) else self._rest
            if name in self._rules:
                self._check(name, value)
        for name, value in named.items():
            if name in self._rules:
                self._check(name, value)

    def _read(self) -> None:
        parameters = dict(signature(self._function).parameters)
        for name, one in parameters.items():
            if one.kind in {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}:
                self._places.append(name)
            elif one.kind is Parameter.VAR_POSITIONAL:
                self._rest = name
            if isinstance(one.annotation, str) and (kinds := _kinds(one.annotation)):
                self._rules[name] = kinds
        self._parameters = parameters

    def _check(self, name: str, value: object) -> None:
        kinds = self._rules[name]
        if not any(kind.accepts(value) for kind in kinds):
            words = listed(list(dict.fromkeys(t(word) for kind in kinds for word in kind.words)), last="or")
            raise invalid(value, name, t("{name} must be {kinds}", name=name, kinds=words))
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(text, str):
            return
        if "\0" in text:
            raise invalid(value, name, t("{name} must not contain a null character", name=name))
        if not _has_bytes(text, is_file=_TEXT not in kinds):
            raise invalid(value, name, t("{name} must not contain a lone surrogate", name=name))


def _has_bytes(text: str, *, is_file: bool) -> bool:
    """Return whether a text can be written: file names can be any bytes, which Python reads as certain surrogates."""
    try:
        text.encode("utf-8", "surrogateescape" if is_file else "strict")
    except UnicodeEncodeError:
        return False
    return True


def _kinds(annotation: str) -> tuple[_Kind, ...]:
    """Return the alternatives of an annotation; nothing if one of them is not known here."""
    found = [_kind(part) for part in _parts(ast.parse(annotation, mode="eval").body)]
    if None in found:
        return ()
    wider = any(kind in {_PATH, _IMAGE} for kind in found)  # a path may be a text
    return tuple(kind for kind in found if kind is not None and not (wider and kind is _TEXT))


def _parts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_parts(node.left), *_parts(node.right)]
    return [node]


def _kind(node: ast.expr) -> _Kind | None:
    if not isinstance(node, ast.Subscript):
        return _KINDS.get(ast.unparse(node))
    name = ast.unparse(node.value)
    if name == "os.PathLike":
        return _PATH
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return _choice([ast.literal_eval(one) for one in inner])
    if name == "Mapping":
        return _Kind(_mapping(*(_rule(one) for one in inner)), (N_("a dictionary"),))
    return _Kind(_several(_rule(inner[0])), (N_("a list"),)) if name in _SEVERAL else None


def _rule(node: ast.expr) -> Callable[[object], bool]:
    kinds = _kinds(ast.unparse(node))
    return lambda value: not kinds or any(kind.accepts(value) for kind in kinds)


def _choice(values: list[Any]) -> _Kind:
    names = tuple(map(repr, values))
    return _Kind(lambda value: any(type(value) is type(one) and value == one for one in values), names)


def _several(rule: Callable[[object], bool]) -> Callable[[object], bool]:
    """Return whether a value holds several of a kind; what can be read only once is not read for that."""

    def accepts(value: object) -> bool:
        if isinstance(value, str | bytes | os.PathLike | Mapping) or not isinstance(value, Iterable):
            return False
        return not isinstance(value, list | tuple | set | frozenset) or all(map(rule, value))

    return accepts


def _mapping(key: Callable[[object], bool], item: Callable[[object], bool]) -> Callable[[object], bool]:
    def accepts(value: object) -> bool:
        return isinstance(value, Mapping) and all(key(one) and item(other) for one, other in value.items())

    return accepts
