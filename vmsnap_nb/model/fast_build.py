"""A quick way to make frozen values, for those that are made by the thousand."""

from __future__ import annotations

from typing import Any, Self

from vmsnap_nb.model.shown import Listed

__all__ = ["FastBuild"]

_new, _set = object.__new__, object.__setattr__


class FastBuild(Listed):
    """Base of frozen dataclasses without slots, whose defaults stand in the class."""

    _unlisted = frozenset({"build"})

    @classmethod
    def build(cls, fields: dict[str, Any]) -> Self:
        """Return an object with these fields; it equals the constructor's result, but takes a sixth of the time.

        Do not use the dictionary afterwards, because it becomes part of the object. Missing fields have their defaults.
        """
        value = _new(cls)
        # A frozen dataclass's own constructor has to go the same way, once for each field.
        _set(value, "__dict__", fields)
        return value

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle stores: the fields that differ from their defaults, which stand in the class."""
        known, defaults = self.__dataclass_fields__, vars(type(self))  # type: ignore[attr-defined]
        own = ((name, value) for name, value in vars(self).items() if name in known)
        return {name: value for name, value in own if defaults.get(name, known) is not value}
