"""The end of a command that ran inside a guest."""

from __future__ import annotations

from dataclasses import dataclass

from vmsnap_nb.errors import GuestError
from vmsnap_nb.model.shown import Carded
from vmsnap_nb.words.message import lines, t
from vmsnap_nb.words.printable import coloured

__all__ = ["Completed"]

_EXCERPT = 4000
"""Characters of the output, its last ones, that an error shows."""
_LONGEST = 200
"""Letters of an output in a `repr`; `print` shows all."""


@dataclass(frozen=True, slots=True, repr=False)
class Completed(Carded):
    r"""The result of a command.

    Attributes
    ----------
    exit_status : int
        0 for success; 128 + n if signal n ended the command, as in a shell.
    stdout : str
        The standard output of the command, decoded as UTF-8; other bytes appear as ``\xNN``.
    stderr : str
        The standard error of the command, decoded in the same way.
    stdout_bytes : bytes
        The standard output as bytes.
    stderr_bytes : bytes
        The standard error as bytes.
    cut : bool
        Whether the output was truncated, because only the first 3 MiB of each stream are kept.

    Examples
    --------
    >>> Completed(0, "hello\n", "").check().stdout
    'hello\n'
    """

    exit_status: int
    stdout: str
    stderr: str
    stdout_bytes: bytes = b""
    stderr_bytes: bytes = b""
    cut: bool = False

    @classmethod
    def of(cls, exit_status: int, stdout: bytes, stderr: bytes, *, most: int | None = None) -> Completed:
        """Return a result from bytes; at most `most` bytes of each output stream are kept."""
        out, err = stdout[:most], stderr[:most]
        return cls(
            exit_status,
            out.decode(errors="backslashreplace"),
            err.decode(errors="backslashreplace"),
            out,
            err,
            cut=(out, err) != (stdout, stderr),
        )

    def check(self) -> Completed:
        """Return this object if the command succeeded.

        Raises
        ------
        GuestError
            The command failed.
        """
        if self.exit_status:
            raise GuestError(
                t("run a command in the guest"),
                why=t("the command ended with exit status {status}", status=self.exit_status),
                said=(self.stderr or self.stdout)[-_EXCERPT:] or None,
                next_step=t("correct the command, and run it again"),
            )
        return self

    def __str__(self) -> str:
        """Return the output, escaped where it controls a terminal (but for colours), and the status of a failure."""
        wrote = coloured((self.stdout + self.stderr).removesuffix("\n"))
        cut = [t("[the output is truncated]")] if self.cut else []
        failed = [t("[exit status {status}]", status=self.exit_status)] if self.exit_status else []
        return lines([*([wrote] if wrote or not (cut or failed) else []), *cut, *failed]) if cut or failed else wrote

    def __repr__(self) -> str:
        cut = ", cut=True" if self.cut else ""
        out, err = _short(self.stdout), _short(self.stderr)
        return f"Completed(exit_status={self.exit_status}, stdout={out}, stderr={err}{cut})"


def _short(text: str) -> str:
    """Return a text as Python writes it, with its middle left out if it is long."""
    return repr(text) if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]!r} … {text[-_LONGEST // 2 :]!r}"
