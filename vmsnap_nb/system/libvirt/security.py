"""What libvirt's security drivers make of the files of a guest: AppArmor's generated rules, and labels in its XML.

With AppArmor, virt-aa-helper writes a rule for each file of a guest when that starts: layers below the image that it
writes to may be read, and a rule ``deny "/path" w`` keeps attempts to write out of the log. What denies counts more
than what allows, so the rule that libvirt adds for a block job has no effect before libvirt 12.1.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.files.paths import real_path
from vmsnap_nb.system.files.small import read_small
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.words.message import t

__all__ = ["denied_among", "denied_patterns", "not_relabelled", "qemu_users", "secmodels", "unconfined"]

RULES = "/etc/apparmor.d/libvirt"
"""Where virt-aa-helper writes a guest's rules, as ``libvirt-<uuid>.files``."""
_MOST_RULES = 4 << 20
_DENY = re.compile(r'^\s*(?:audit\s+)?deny\s+(?:file\s+)?(?:"((?:[^"\\]|\\.)*)"|((?:[^\s\\]|\\.)+))\s+([a-zA-Z]+)\s*,')
_GLOB = re.compile(r"\\(.)|(\*\*)|(\*)|(\?)|(\[[^\]/]*\])|(\{[^{}]*\})|(.)", re.DOTALL)
_LABEL = re.compile(r"\+?([0-9]{1,10}):")
"""What DAC gives to the processes of guests: numbers of a user and of a group."""
_MODELS: WeakKeyDictionary[Any, tuple[ET.Element, ...]] = WeakKeyDictionary()


def secmodels(connection: Any) -> tuple[str, ...]:
    """Return the names of the security drivers of a libvirt, as ``apparmor`` and ``dac``."""
    return tuple(one.findtext("model", "") for one in _models(connection))


def qemu_users(connection: Any) -> frozenset[int]:
    """Return the numbers of the users as whom a libvirt runs QEMU, and who therefore own what that writes."""
    dac = (one for one in _models(connection) if one.findtext("model") == "dac")
    labels = (_LABEL.match(label.text or "") for one in dac for label in one.iterfind("baselabel"))
    return frozenset(int(label[1]) for label in labels if label is not None)


def _models(connection: Any) -> tuple[ET.Element, ...]:
    if connection not in _MODELS:
        with libvirt_errors(t("read the capabilities of libvirt")):
            root = parse_xml(connection.getCapabilities())
        _MODELS[connection] = tuple(root.iterfind("host/secmodel"))
    return _MODELS[connection]


def unconfined(xml: str, model: str) -> bool:
    """Return whether a domain XML says that a driver has nothing to do with the guest."""
    labels = parse_xml(xml).iterfind("seclabel")
    return any(one.get("type") == "none" and one.get("model", model) == model for one in labels)


def not_relabelled(xml: str) -> tuple[str, ...]:
    """Return the drivers that give QEMU no access to files by themselves, since a domain XML says ``relabel='no'``."""
    labels = parse_xml(xml).iterfind("seclabel")
    return tuple(one.get("model", "") for one in labels if one.get("relabel") == "no" and one.get("type") != "none")


def denied_patterns(rules: str) -> tuple[str, ...]:
    r"""Return the patterns of files to which rules of AppArmor deny writing.

    Examples
    --------
    >>> denied_patterns('"/i/top" rwk,\n"/i/base" rk,\n# a comment\ndeny "/i/base" w,\n')
    ('/i/base',)
    """
    matches = filter(None, map(_DENY.match, rules.splitlines()))
    return tuple(match[1] if match[1] is not None else match[2] for match in matches if set("wa") & set(match[3]))


def denied_among(uuid: str, paths: Iterable[str]) -> tuple[frozenset[str], str]:
    """Return to which of the files the rules of a guest deny writing; or why that is not known.

    Rules name files by their real paths. A guest without a file of rules has no profile.
    """
    try:
        data = read_small(os.path.join(RULES, f"libvirt-{uuid}.files"), _MOST_RULES)
    except FileNotFoundError:
        return frozenset(), ""
    except OSError as error:
        return frozenset(), error.strerror or str(error)
    rules = data.decode("utf-8", "surrogateescape")
    patterns = denied_patterns(rules)
    # virt-aa-helper writes a name as it is, which AppArmor takes for a pattern: then no rule allows the file either.
    texts = [re.compile(re.escape(pattern), re.DOTALL) for pattern in patterns]
    return frozenset(_matching([*texts, *(re.compile(_regex(pattern), re.DOTALL) for pattern in patterns)], paths)), ""


def _matching(patterns: list[re.Pattern[str]], paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        names = {path, real_path(path)}
        if any(pattern.fullmatch(name) for pattern in patterns for name in names):
            yield path


def _regex(pattern: str) -> str:
    """Return a pattern of AppArmor (man 5 apparmor.d, "Globbing") as a regular expression."""
    parts: list[str] = []
    for escaped, deep, star, one, choice, words, other in _GLOB.findall(pattern):
        if escaped or other:
            parts.append(re.escape(escaped or other))
        elif choice:
            parts.append(_choice(choice))
        elif words:
            parts.append("(?:" + "|".join(map(_regex, words[1:-1].split(","))) + ")")
        else:
            parts.append({"**": ".*", "*": "[^/]*", "?": "[^/]"}[deep or star or one])
    return "".join(parts)


def _choice(pattern: str) -> str:
    """Return a choice of characters as a regular expression: that of the same text where it is no right choice."""
    words = "[" + re.sub(r"([\\\[&~|])", r"\\\1", pattern[1:-1]) + "]"
    try:
        re.compile(words)
    except re.error:
        return re.escape(pattern)
    return words
