"""How messages spell an option: as an argument in Python, or as it is typed in a shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["in_shell", "option"]

_shells: list[None] = []
"""Not empty while a command runs. A context variable would not reach the threads that read hosts."""


@contextmanager
def in_shell() -> Iterator[None]:
    """Let messages spell options for a shell."""
    _shells.append(None)
    try:
        yield
    finally:
        _shells.pop()


def option(name: str, value: str | None = None) -> str:
    """Return an option as a reader types it: a flag if there is no value."""
    if _shells:
        flag = f"--{name.replace('_', '-')}"
        return flag if value is None else f"{flag} {value}"
    return f"{name}=True" if value is None else f'{name}="{value}"'
