"""Which language the product speaks, and its catalogue.

English is the source: it needs no catalogue. A catalogue of another language is a folder of PO files (GNU gettext's
format), one for each part of the package. They are read when the first message is shown in that language.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from gettext import c2py
from pathlib import Path
from typing import Literal, get_args

__all__ = ["LANGUAGES", "Language", "language", "one_language", "set_language", "translated"]

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
"""The languages that the product speaks; the first is the source."""

VARIABLE = "VMSNAP_LANG"
_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
_chosen: list[Language] = []
_current: ContextVar[Language | None] = ContextVar("_current", default=None)


def set_language(code: str | None) -> None:
    """Choose the language of messages, figures and panels that are created from now on.

    Parameters
    ----------
    code : {'en', 'zh'} or None
        English or Chinese; a locale such as ``zh_CN.UTF-8`` is also accepted. If None, the language is taken from the
        first of the environment variables ``VMSNAP_LANG``, ``LC_ALL``, ``LC_MESSAGES`` and ``LANG`` that is set. If
        none of them is set, or if the language is neither English nor Chinese, English is used.

    Raises
    ------
    InvalidRequestError
        There is no catalogue for that language.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> vs.set_language("en")
    >>> vs.language()
    'en'
    >>> vs.set_language(None)
    """
    if code is None:
        _chosen[:] = []
        return
    given: object = code
    found = _known(code) if isinstance(given, str) else None
    if found is None:
        # Errors are messages, so that they import this module.
        from vmsnap_nb.errors import InvalidRequestError
        from vmsnap_nb.words.message import t

        raise InvalidRequestError(
            t("set the language to {code!r}", code=code),
            why=t("there is no message catalogue for that language"),
            next_step=t("use 'en' or 'zh'"),
        )
    _chosen[:] = [found]


def language() -> Language:
    """Return the code of the current language.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> vs.language() in ("en", "zh")
    True
    """
    current = _current.get()
    if current is not None:
        return current
    if _chosen:
        return _chosen[0]
    own = os.environ.get(VARIABLE)
    locale = own or next((value for name in _LOCALE if (value := os.environ.get(name))), "")
    return _known(locale) or "en"


@contextmanager
def one_language() -> Iterator[None]:
    """Ask for the language once, for all messages of what follows: to ask takes longer than to make a message."""
    token = _current.set(language())
    try:
        yield
    finally:
        _current.reset(token)


def translated(template: str, plural: str, count: int, code: Language) -> str:
    """Return a template in a language; in English where its catalogue has none."""
    if code == "en":
        return plural if plural and count != 1 else template
    catalogue, numbers = _catalogue(code)
    found = catalogue.get(template)
    if found is None:
        return translated(template, plural, count, "en")
    return found[0] if len(found) == 1 else found[min(numbers(count), len(found) - 1)]


@lru_cache(maxsize=32)
def _known(code: str) -> Language | None:
    """Return the language of a code or locale, if the product speaks it."""
    start = code.replace("-", "_").partition("_")[0].partition(".")[0].lower()
    return next((one for one in LANGUAGES if one == start), None)


@cache
def _catalogue(code: Language) -> tuple[dict[str, tuple[str, ...]], Callable[[int], int]]:
    """Return all messages of a language by their English templates, and its rule of plurals."""
    from vmsnap_nb.words.po import entries, plural_rule

    found: dict[str, tuple[str, ...]] = {}
    rule = "n != 1"
    for part in sorted(Path(__file__).with_name(code).glob("*.po")):
        for template, texts in entries(part.read_text(encoding="utf-8")):
            if not template:
                rule = plural_rule(texts[0])
            elif all(texts):
                found[template] = texts
    return found, c2py(rule)
