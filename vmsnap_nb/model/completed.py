"""The end of a command that ran inside a guest."""

from __future__ import annotations

from dataclasses import dataclass

from vmsnap_nb.errors import GuestError

__all__ = ["Completed"]


@dataclass(frozen=True, slots=True)
class Completed:
    r"""What a command left behind.

    Attributes
    ----------
    exit_status : int
        0 for success; 128 + n where signal n ended it, as shells count.
    stdout, stderr : str
        What it wrote, decoded as UTF-8; other bytes appear as ``\xNN``.
    stdout_bytes, stderr_bytes : bytes
        The same as it came.

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

    @classmethod
    def of(cls, exit_status: int, stdout: bytes, stderr: bytes) -> Completed:
        """Make one from bytes."""
        return cls(
            exit_status,
            stdout.decode(errors="backslashreplace"),
            stderr.decode(errors="backslashreplace"),
            stdout,
            stderr,
        )

    def check(self) -> Completed:
        """Give this object if the command succeeded.

        Raises
        ------
        GuestError
            It did not.
        """
        if self.exit_status:
            raise GuestError(
                f"run a command in the guest: it ended with exit status {self.exit_status}",
                said=self.stderr or self.stdout or None,
            )
        return self

    def __str__(self) -> str:
        """Give what a terminal would show."""
        return (self.stdout + self.stderr).removesuffix("\n")

    def __repr__(self) -> str:
        return f"Completed(exit_status={self.exit_status}, stdout={self.stdout!r}, stderr={self.stderr!r})"
