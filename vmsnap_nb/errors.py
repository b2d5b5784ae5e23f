"""Every error that this package raises on purpose, under one root; and its one warning.

Each error carries three things: what was tried, the words of the program that refused (libvirt's, QEMU's or
the system's own), and the next step to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmsnap_nb.plans.plan import Concern

__all__ = [
    "CommandError",
    "ConcernWarning",
    "GuestError",
    "GuestNotReadyError",
    "ImageError",
    "InUseError",
    "InvalidRequestError",
    "LabBusyError",
    "LabError",
    "LibvirtError",
    "MissingPartError",
    "NoSpaceError",
    "NotFoundError",
    "PermissionDeniedError",
    "PlanRefusedError",
    "ReadOnlyError",
    "StalePlanError",
    "VmsnapError",
]


class VmsnapError(Exception):
    """The root of all errors of this package.

    Parameters
    ----------
    tried : str
        What was tried, as a sentence without a full stop.
    said : str, optional
        What libvirt, QEMU or the system said, in its own words.
    next_step : str, optional
        What the user can do now.

    Examples
    --------
    >>> error = VmsnapError("open 'a.qcow2'", said="No such file or directory", next_step="check the name")
    >>> print(error)
    open 'a.qcow2'
      said: No such file or directory
      next: check the name
    """

    def __init__(self, tried: str, *, said: str | None = None, next_step: str | None = None) -> None:
        super().__init__(tried)
        self.tried = tried
        self.said = said
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.tried]
        if self.said:
            lines.append("  said: " + self.said.strip().replace("\n", "\n        "))
        if self.next_step:
            lines.append("  next: " + self.next_step.strip().replace("\n", "\n        "))
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        from vmsnap_nb.views.error_lines import error_lines

        return error_lines(self)


class MissingPartError(VmsnapError):
    """A program or a library that this needs is not installed; `next_step` says what to install."""


class InvalidRequestError(VmsnapError, ValueError):
    """What was asked for cannot be meant: a bad name, an impossible size, an option out of range."""


class NotFoundError(VmsnapError, LookupError):
    """No image, guest, disk or snapshot of that name."""


class ImageError(VmsnapError):
    """An image cannot be read, or is not what it was taken for."""


class NoSpaceError(VmsnapError):
    """The file system is full, or would be."""


class PermissionDeniedError(VmsnapError):
    """The system does not permit the current user to do this."""


class ReadOnlyError(VmsnapError):
    """The connection was opened for reading only, so that no plan can run on it."""


class InUseError(VmsnapError):
    """An image is held by somebody else; `holders` names the guests or processes.

    Parameters
    ----------
    tried, said, next_step
        As in `VmsnapError`.
    holders : sequence of str
        The names of the guests or processes that hold it.
    """

    def __init__(
        self, tried: str, *, said: str | None = None, next_step: str | None = None, holders: Sequence[str] = ()
    ) -> None:
        super().__init__(tried, said=said, next_step=next_step)
        self.holders = tuple(holders)


class CommandError(VmsnapError):
    """A program ended with an error; `argv`, `exit_status` and `stderr` say which and how.

    Parameters
    ----------
    tried, said, next_step
        As in `VmsnapError`.
    argv : sequence of str
        The command line.
    exit_status : int or None
        None where the program was ended for using too much time or memory.
    stderr : str
        All that it wrote to its standard error.
    """

    def __init__(
        self,
        tried: str,
        *,
        said: str | None = None,
        next_step: str | None = None,
        argv: Sequence[str] = (),
        exit_status: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(tried, said=said, next_step=next_step)
        self.argv = tuple(argv)
        self.exit_status = exit_status
        self.stderr = stderr


class LibvirtError(VmsnapError):
    """libvirt refused; `code` and `domain` are its own error numbers.

    Parameters
    ----------
    tried, said, next_step
        As in `VmsnapError`.
    code, domain : int
        ``virErrorNumber`` and ``virErrorDomain`` of
        https://libvirt.org/html/libvirt-virterror.html.
    """

    def __init__(
        self, tried: str, *, said: str | None = None, next_step: str | None = None, code: int = 0, domain: int = 0
    ) -> None:
        super().__init__(tried, said=said, next_step=next_step)
        self.code = code
        self.domain = domain


class GuestError(VmsnapError):
    """A guest did not do what it was asked for."""


class GuestNotReadyError(GuestError):
    """A guest takes no commands: it is off, still starting, or has nothing that listens for them."""


class LabError(VmsnapError):
    """A lab cannot be opened or changed."""


class LabBusyError(LabError):
    """Another process has this lab open: one process at a time can drive an embedded libvirt."""


class StalePlanError(VmsnapError):
    """The images or guests have changed since the plan was made; make it again."""


class PlanRefusedError(VmsnapError):
    """A plan has concerns of level "refuse" that were not waived by name; `concerns` holds them.

    Parameters
    ----------
    tried : str
        The plan's title.
    concerns : sequence of Concern
        Those that stand in the way.
    """

    def __init__(self, tried: str, concerns: Sequence[Concern]) -> None:
        super().__init__(
            tried,
            said="\n".join(f"{c.name}: {c.what}" for c in concerns),
            next_step="\n".join(c.remedy for c in concerns if c.remedy) or None,
        )
        self.concerns = tuple(concerns)


class ConcernWarning(UserWarning):
    """What a plan warns of that a call runs without showing it; `concern` holds it.

    Parameters
    ----------
    tried : str
        The plan's title.
    concern : Concern
        What it warns of.
    """

    def __init__(self, tried: str, concern: Concern) -> None:
        super().__init__(f"{tried}\n  {concern.name}: {concern.what}\n  next: {concern.remedy}")
        self.concern = concern
