"""The step that moves a file that nothing needs out of the way."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.plans.step import PathsOf, Step
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["MoveFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveFile(Step):
    """Move a file to another folder; nothing is overwritten."""

    path: str
    to: str
    identity: Identity | None = field(default=None, compare=False, repr=False)  # of the file when it was planned

    action = N_("move")
    creates = PathsOf("to")
    unlinks = PathsOf("path")

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> Message:
        return t("move the file to {path}; to undo this, move the file back", path=self.to)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("mv", "--no-clobber", "--", self.path, self.to),)
