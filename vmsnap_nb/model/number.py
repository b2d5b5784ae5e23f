"""Numbers that users give: checked before anything happens, by one wording."""

from __future__ import annotations

import math
import operator
from typing import Any

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import Message, t

__all__ = ["check_above_zero", "check_bandwidth", "check_images", "check_seconds", "invalid", "whole_number"]

_END = 2**63
"""QEMU counts bytes in a signed number of 64 bits."""
_LONGEST = 10**9
"""Seconds: some 30 years. The system's clocks take little more."""


def whole_number(value: object, name: str, unit: str, *, least: int = 0) -> int:
    """Return a whole number that a user gave, if it is one, and neither below `least` nor too large.

    The error of any other states the rule.

    Examples
    --------
    >>> whole_number(1024, "bandwidth", "bytes per second")
    1024
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        rule = t("{name} must be a whole number of {unit}, {least} or more", name=name, unit=unit, least=least)
        raise invalid(value, name, rule)
    if number >= _END:
        rule = t(
            "{name} must be a whole number of {unit}, {least} or more, and less than 2**63",
            name=name,
            unit=unit,
            least=least,
        )
        raise invalid(value, name, rule)
    return number


def check_bandwidth(bandwidth: object) -> int:
    """Return a limit for a copy if it is one; 0 stands for no limit."""
    return whole_number(bandwidth, "bandwidth", t("bytes per second"))


def check_images(keep: object) -> int:
    """Return how many images of a chain may remain, if it is such a number."""
    return whole_number(keep, "keep", t("images"), least=1)


def check_seconds(seconds: Any, name: str = "timeout", *, above_zero: bool = False) -> float:
    """Return a time that a user gave, if it is a number of seconds, and above 0 where that is wanted.

    The error of any other states the rule.

    Examples
    --------
    >>> check_seconds(1.5)
    1.5
    """
    number = _real(seconds)
    if number > _LONGEST:
        rule = t("{name} must be a number of seconds, 0 or more, and at most {most:,}", name=name, most=_LONGEST)
        raise invalid(seconds, name, rule)
    if above_zero and not number > 0:
        raise invalid(seconds, name, t("{name} must be a number of seconds, greater than 0", name=name))
    if not number >= 0:
        raise invalid(seconds, name, t("{name} must be a number of seconds, 0 or more", name=name))
    return number


def check_above_zero(value: Any, name: str) -> float:
    """Return a number that a user gave, if it is one above 0.

    Examples
    --------
    >>> check_above_zero(2, "zoom")
    2.0
    """
    number = _real(value)
    if not (number > 0 and math.isfinite(number)):
        raise invalid(value, name, t("{name} must be a number greater than 0", name=name))
    return number


def _real(value: Any) -> float:
    """Return a number, or nan for what is none."""
    try:
        return math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def invalid(value: object, name: str, rule: Message) -> InvalidRequestError:
    """Return the error of a value that breaks a rule."""
    text = repr(value)
    return InvalidRequestError(
        t("use {name}={value}", name=name, value=text if len(text) <= 40 else text[:39] + "…"),
        why=rule,
        next_step=t("choose another value for {name}", name=name),
    )
