"""Messages: templates in English with named fields, shown in the current language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Self

from vmsnap_nb.words.language import Language, language, translated

__all__ = ["NOTHING", "N_", "Message", "clauses", "counted", "joined", "lines", "listed", "sentences", "t"]


class Message(str):
    """A sentence in the language that was selected when the message was created.

    Attributes
    ----------
    template : str
        The English sentence, with the names of fields in braces. This sentence is the key in the catalogues.
    plural : str
        The English sentence for numbers other than 1; empty if there is none. The field ``count`` contains the number.
    fields : dict of str to object
        The values of the fields: names, numbers or other messages.

    Examples
    --------
    >>> message = t("{image} is in use by {guest}", image="top.qcow2", guest="web")
    >>> message
    'top.qcow2 is in use by web'
    >>> message.fields["guest"]
    'web'
    >>> "image" in message.template
    True
    """

    __slots__ = ("fields", "plural", "template")

    template: str
    plural: str
    fields: dict[str, Any]

    def __new__(cls, template: str, plural: str = "", /, **fields: Any) -> Self:
        """Return the message in the current language."""
        return cls._made(template, plural, fields, language())

    @classmethod
    def _made(cls, template: str, plural: str, fields: dict[str, Any], code: Language) -> Self:
        words = translated(template, plural, fields["count"] if plural else 1, code)
        shown = fields
        for field in fields.values():
            if isinstance(field, Message):
                shown = {
                    name: one.in_language(code) if isinstance(one, Message) else one for name, one in fields.items()
                }
                break
        made = str.__new__(cls, words.format_map(shown) if code == "en" else _fitted(words, shown))
        made.template, made.plural, made.fields = template, plural, fields
        return made

    def in_language(self, code: Language) -> Self:
        """Return the same message in another language, including fields that are messages."""
        return self._made(self.template, self.plural, self.fields, code)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.template, self.plural, self.fields)


def _again(template: str, plural: str, fields: dict[str, Any]) -> Message:
    """Return a message that was pickled, in the language that is current now."""
    return Message(template, plural, **fields)


_SPACE = re.compile(r" (?=\{)|(?<=\}) ")
_MARK = "\uffff"  # a space of the template; the values of fields keep theirs
_TEXT = "\ufdd0"  # around a value that is a message, and not a name
_HAN = "\u4e00-\u9fff"
_NEEDLESS = re.compile(
    f"(?<=[，。：；、）]){_TEXT}?{_MARK}|{_MARK}{_TEXT}?(?=（)"
    f"|(?<=[{_HAN}])(?:{_TEXT}{_MARK}{_TEXT}?|{_MARK}{_TEXT})(?=[{_HAN}])"
)


def _fitted(words: str, fields: Mapping[str, Any]) -> str:
    """Fill in a template, without spaces that Chinese does not want: at full-width punctuation, or between two texts.

    Examples
    --------
    >>> _fitted("把 {images} 合并", {"images": "a … b（4 层）"}), _fitted("把 {images} 合并", {"images": "a"})
    ('把 a … b（4 层）合并', '把 a 合并')
    """
    told = {name: f"{_TEXT}{one}{_TEXT}" if isinstance(one, Message) else one for name, one in fields.items()}
    filled = _NEEDLESS.sub("", _marked(words).format_map(told))
    return filled.replace(_MARK, " ").replace(_TEXT, "")


@lru_cache(maxsize=4096)
def _marked(words: str) -> str:
    return _SPACE.sub(_MARK, words)


def t(template: str, /, **fields: Any) -> Message:
    """Return a message. Without fields, braces are written twice, too."""
    return Message(template, **fields)


def counted(one: str, many: str, count: int, /, **fields: Any) -> Message:
    """Return a message that depends on a number, which is its field ``count``.

    Examples
    --------
    >>> counted("{count} image", "{count} images", 1), counted("{count} image", "{count} images", 2)
    ('1 image', '2 images')
    """
    return Message(one, many, count=count, **fields)


def N_(template: str) -> str:  # noqa: N802, the name that gettext's tools look for
    """Return a template as it is: a constant, which is made a message by `t` where it is shown."""
    return template


def listed(parts: Iterable[str], *, last: str = "and", most: int | None = None) -> Message:
    """Return names as a list of the current language; `last` is the conjunction: ``and`` or ``or``.

    With more than `most` names, an ellipsis stands for the others.

    Examples
    --------
    >>> listed(["a", "b", "c"]), listed(["a", "b"], last="or")
    ('a, b and c', 'a or b')
    """
    several = list(parts)
    if most is not None and len(several) > most:
        return joined(several, most=most)
    if len(several) < 2:
        return Message("{only}", only=several[0] if several else "")
    first = joined(several[:-1])
    if last == "or":
        return t("{first} or {last}", first=first, last=several[-1])
    return t("{first} and {last}", first=first, last=several[-1])


def joined(parts: Iterable[str], *, most: int | None = None) -> Message:
    """Return parts with the comma of the current language between them; with an ellipsis for more than `most`.

    Examples
    --------
    >>> joined(["a", "b", "c"]), joined(["a", "b", "c"], most=2)
    ('a, b, c', 'a, b, …')
    """
    several = tuple(parts)
    return _between(several if most is None or len(several) <= most else (*several[:most], "…"), t(", "))


def clauses(parts: Iterable[str]) -> Message:
    """Return clauses as one sentence, with the semicolon of the current language between them.

    Examples
    --------
    >>> clauses(["a is missing", "b is corrupt"])
    'a is missing; b is corrupt'
    """
    return _between(parts, t("; "))


def sentences(parts: Iterable[str]) -> Message:
    """Return texts as sentences, with the full stop of the current language between them.

    Examples
    --------
    >>> sentences(["A is missing", "Restore it"])
    'A is missing. Restore it'
    """
    return _between(parts, t(". "))


def lines(parts: Iterable[str]) -> Message:
    """Return texts as lines of one message.

    Examples
    --------
    >>> print(lines(["a", "b"]))
    a
    b
    """
    return _between(parts, "\n")


def _between(parts: Iterable[str], sign: str) -> Message:
    several = tuple(parts)
    if len(several) == 1 and isinstance(several[0], Message):
        return several[0]
    fields = {f"_{number}": part for number, part in enumerate(several)}
    return Message("{sign}".join(f"{{{name}}}" for name in fields), sign=sign, **fields)


NOTHING = Message._made("", "", {}, "en")  # noqa: SLF001 - it is the same in every language, so none is asked for
"""No message: an empty text."""
