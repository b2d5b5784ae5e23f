"""Names that guests and snapshots can have: libvirt takes them, and files can be named after them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Literal

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import N_, Message, joined, listed, t

__all__ = ["check_name", "close_names", "there_are"]

_MOST_BYTES = 200
"""A file's name has room for 255, and what we add to it needs some; libvirt loses longer ones of snapshots."""

_CLOSE, _MOST_CLOSE = 0.66, 2
"""How alike two names are that can be mistaken for each other, as `difflib` counts it; and how many are said."""


_TRIED = {
    "guest": N_("name a guest {name!r}"),
    "snapshot": N_("name a snapshot {name!r}"),
    "base": N_("name a base {name!r}"),
}


def check_name(name: str, kind: Literal["guest", "snapshot", "base"]) -> str:
    """Return the name if a guest or a snapshot can have it: libvirt takes it, and a file can be named after it.

    Examples
    --------
    >>> check_name('<x>&" 虚拟机', "guest")
    '<x>&" 虚拟机'
    """
    why: Message | None = None
    if not name.strip():
        why = t("a name must contain at least one visible character")
    elif "/" in name or name.startswith("."):
        why = t("files are named after it, so it must not contain a slash or start with a dot")
    elif not name.isprintable():
        why = t("the name contains a control character or a character that XML does not allow")
    elif (size := len(name.encode())) > _MOST_BYTES:
        why = t(
            "the name is {size} bytes long, but at most {most} are allowed, because files are named after it",
            size=size,
            most=_MOST_BYTES,
        )
    if why is not None:
        raise InvalidRequestError(t(_TRIED[kind], name=name[:60]), why=why, next_step=t("choose another name"))
    return name


def close_names(name: object, names: Iterable[str]) -> list[str]:
    """Return the names with which a name may have been confused, the closest first.

    Examples
    --------
    >>> close_names("snap1", ["Base", "Snap-1"])
    ['Snap-1']
    >>> close_names("wbe", ["db", "web"])
    ['web']
    """
    folded = {other.casefold(): other for other in reversed(list(names))}
    wanted = os.path.basename(str(name).rstrip("/")).casefold()
    return [folded[match] for match in difflib.get_close_matches(wanted, folded, n=_MOST_CLOSE, cutoff=_CLOSE)]


def there_are(name: object, names: Iterable[str], *, most: int | None = None, none: Message | None = None) -> Message:
    """Return what to do about a name that nothing has: the names that are close to it, and those that there are.

    Examples
    --------
    >>> there_are("snap1", ["Snap-1", "Snap-2", "Base"])
    'did you mean Snap-1 or Snap-2? Available: Snap-1, Snap-2, Base'
    >>> there_are("x", ["Base"])
    'available: Base'
    """
    known = list(names)
    if not known:
        return none if none is not None else t("create one first")
    close, shown = close_names(name, known), joined(known[:most])
    if close:
        return t("did you mean {close}? Available: {names}", close=listed(close, last="or"), names=shown)
    return t("available: {names}", names=shown)
