"""How far a student is: hints and checks of each exercise, kept in the lab's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from vmsnap_nb.lab.exercises.check import Check
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.files.small import read_small
from vmsnap_nb.words.message import t

__all__ = ["Progress", "Status", "read_progress", "with_check", "with_hint", "write_progress"]

Status = Literal["new", "begun", "partly", "broken", "done"]
_FILE = ".progress.json"
_MOST = 1 << 20
_MOST_COUNTED = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is known of one exercise."""

    hints: int = 0
    checks: int = 0
    passed: int = 0  # at the last check
    of: int = 0
    broken: bool = False
    at: float | None = None  # of the last check, in seconds since 1970

    @property
    def when(self) -> datetime | None:
        """When it was checked last."""
        return None if self.at is None else datetime.fromtimestamp(self.at, UTC)

    def status(self, *, begun: bool) -> Status:
        """Return a word for it."""
        if not self.checks:
            return "begun" if begun else "new"
        if self.broken:
            return "broken"
        if self.passed == self.of:
            return "done"
        return "partly" if self.passed else "begun"


def read_progress(folder: Path, *, of_anyone: bool = False) -> dict[str, Progress]:
    """Return the progress by exercise; what cannot be read counts as nothing, since no image depends on it."""
    try:
        told = json.loads(read_small(folder / _FILE, _MOST, of_anyone=of_anyone))
        return {str(name): _checked(row) for name, row in told.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def _checked(row: dict[str, Any]) -> Progress:
    """Return a row of the file; TypeError or ValueError if a value cannot be that of its field."""
    numbers = {"hints", "checks", "passed", "of"}
    for name, value in row.items():
        if type(value) not in ((int,) if name in numbers else (bool,) if name == "broken" else (float, int, NoneType)):
            raise TypeError
        if name in numbers and not 0 <= value <= _MOST_COUNTED:
            raise ValueError
    made = Progress(**row)
    _ = made.when  # a time that cannot be is an error here, not later
    return made


def write_progress(folder: Path, progress: Mapping[str, Progress]) -> None:
    """Keep the progress in the folder of all exercises."""
    data = json.dumps({name: asdict(row) for name, row in progress.items()}, indent=1).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _FILE, data)
    except OSError as error:
        raise from_os_error(error, t("keep the progress of the exercises")) from error


def with_hint(row: Progress, most: int) -> Progress:
    """Return the progress after one more hint."""
    return replace(row, hints=min(row.hints + 1, most))


def with_check(row: Progress, check: Check, now: float) -> Progress:
    """Return the progress after a check."""
    own = [aim.met for aim in check.aims if not aim.kept]
    return replace(
        row,
        checks=row.checks + 1,
        passed=sum(own),
        of=len(own),
        broken=any(aim.kept for aim in check.missing),
        at=now,
    )
