"""The errors that vmsnap_nb raises deliberately, all with a common base class, and its only warning.

Each error states the operation that failed, the reason, and the next step. The reason is either the package's own
diagnosis or a quotation from the program that refused: libvirt, QEMU or the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vmsnap_nb.words.message import joined, lines, t
from vmsnap_nb.words.printable import printable

if TYPE_CHECKING:
    from vmsnap_nb.plans.concern import Concern
    from vmsnap_nb.plans.report import Report

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
    "NothingToDoError",
    "PermissionDeniedError",
    "PlanRefusedError",
    "ReadOnlyError",
    "StalePlanError",
    "VmsnapError",
]


class VmsnapError(Exception):
    """The base class of all errors from vmsnap_nb.

    Parameters
    ----------
    tried : str
        A description of the operation that failed, without a full stop.
    said : str, optional
        The message from libvirt, QEMU or the system.
    next_step : str, optional
        What the user can do next.
    why : str, optional
        vmsnap_nb's own diagnosis.

    Attributes
    ----------
    quoted : str or None
        The message from libvirt, QEMU or the system; None if vmsnap_nb found the reason itself.
    said : str or None
        The quoted message or, if there is none, vmsnap_nb's own diagnosis.
    reports : tuple of Report
        If several plans were run in sequence, the reports of the plans that had already ended.

    Examples
    --------
    >>> error = VmsnapError("open 'a.qcow2'", said="No such file or directory", next_step="check the name")
    >>> print(error)
    cannot open 'a.qcow2'
      said: No such file or directory
      next: check the name
    """

    def __init__(
        self, tried: str, *, said: str | None = None, next_step: str | None = None, why: str | None = None
    ) -> None:
        super().__init__(tried)
        self.tried = tried
        self.quoted = said
        self.said = said or why
        self.next_step = next_step
        self.why = why
        self.reports: tuple[Report, ...] = ()

    def __str__(self) -> str:
        return printable(self._text())

    def add_note(self, note: str, /) -> None:
        """Add a note, which Python prints below the error."""
        super().add_note(printable(note))

    def _text(self) -> str:
        parts = [self.headline]
        if self.why:
            parts.append(t("  why:  {text}", text=_indented(self.why)))
        if self.quoted:
            parts.append(t("  said: {text}", text=_indented(self.quoted)))
        if self.next_step:
            parts.append(t("  next: {text}", text=_indented(self.next_step)))
        return "\n".join(parts)

    @property
    def headline(self) -> str:
        """The first line of the error's text, which states what could not be done."""
        return t("cannot {tried}", tried=joined([self.tried]))  # a text, even if it came from another process

    @property
    def docs(self) -> str:
        """The address of the section on this kind of error, relative to the documentation's first page."""
        kinds = (kind.__name__ for kind in type(self).__mro__ if kind.__module__ == __name__)
        return f"troubleshooting.html#{next(kinds)}"

    @property
    def reason(self) -> str:
        """The reason for the failure, as diagnosed by vmsnap_nb or as reported by the program that failed."""
        return self.why or self.quoted or ""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        from vmsnap_nb.views.error_lines import error_lines

        return error_lines(self)


def _indented(text: str) -> str:
    """Return a text whose further lines begin below its first one."""
    return text.strip().replace("\n", "\n        ")


class MissingPartError(VmsnapError):
    """A required program or library is not installed; `next_step` states what to install."""


class InvalidRequestError(VmsnapError, ValueError):
    """An argument is invalid, such as a name, a size or an option that is out of range."""


class NothingToDoError(InvalidRequestError):
    """The requested result exists already, so there is nothing to plan; the command line treats this as success."""


class NotFoundError(VmsnapError, LookupError):
    """No image, guest, disk or snapshot has that name."""


class ImageError(VmsnapError):
    """An image cannot be read, or its format or content is not as expected."""


class NoSpaceError(VmsnapError):
    """The file system is full, or would become full."""


class PermissionDeniedError(VmsnapError):
    """The current user lacks a permission."""


class ReadOnlyError(VmsnapError):
    """The connection is read-only, so no plan can be run."""


class InUseError(VmsnapError):
    """Another guest or process, which is listed in `holders`, has an image open.

    Parameters
    ----------
    tried, said, next_step, why
        As in `VmsnapError`.
    holders : sequence of str
        The names of the guests or processes that have the image open.
    """

    def __init__(
        self,
        tried: str,
        *,
        said: str | None = None,
        next_step: str | None = None,
        why: str | None = None,
        holders: Sequence[str] = (),
    ) -> None:
        super().__init__(tried, said=said, next_step=next_step, why=why)
        self.holders = tuple(holders)


class CommandError(VmsnapError):
    """A program failed; `argv`, `exit_status` and `stderr` contain the details.

    Parameters
    ----------
    tried, said, next_step, why
        As in `VmsnapError`.
    argv : sequence of str
        The command line.
    exit_status : int or None
        The exit status of the program; None if it was stopped because it took too long.
    stderr : str
        The standard error of the program.
    """

    def __init__(
        self,
        tried: str,
        *,
        said: str | None = None,
        next_step: str | None = None,
        why: str | None = None,
        argv: Sequence[str] = (),
        exit_status: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(tried, said=said, next_step=next_step, why=why)
        self.argv = tuple(argv)
        self.exit_status = exit_status
        self.stderr = stderr


class LibvirtError(VmsnapError):
    """libvirt refused an operation; `code` and `domain` identify the error.

    Parameters
    ----------
    tried, said, next_step, why
        As in `VmsnapError`.
    code : int
        libvirt's error number, ``virErrorNumber`` in https://libvirt.org/html/libvirt-virterror.html.
    domain : int
        The part of libvirt that raised the error, ``virErrorDomain`` on the same page.
    """

    def __init__(
        self,
        tried: str,
        *,
        said: str | None = None,
        next_step: str | None = None,
        why: str | None = None,
        code: int = 0,
        domain: int = 0,
    ) -> None:
        super().__init__(tried, said=said, next_step=next_step, why=why)
        self.code = code
        self.domain = domain


class GuestError(VmsnapError):
    """A guest did not perform the requested operation."""


class GuestNotReadyError(GuestError):
    """A guest does not accept commands: it is off, still starting, or has neither a listener nor an agent."""


class LabError(VmsnapError):
    """A lab cannot be opened or changed."""


class LabBusyError(LabError):
    """Another process has this lab open: only one process at a time can use an embedded libvirt."""


class StalePlanError(VmsnapError):
    """Images or guests have changed since the plan was created; create it again."""


class PlanRefusedError(VmsnapError):
    """A plan has concerns of level "refuse" that were not waived; `concerns` contains these concerns.

    Parameters
    ----------
    tried : str
        The plan's title.
    concerns : sequence of Concern
        The concerns that were not waived.
    """

    def __init__(self, tried: str, concerns: Sequence[Concern]) -> None:
        super().__init__(
            tried,
            why=lines(t("{name}: {what}", name=c.name, what=c.what) for c in concerns),
            next_step=lines(dict.fromkeys(c.remedy for c in concerns if c.remedy)) or None,
        )
        self.concerns = tuple(concerns)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tried, self.concerns)


class ConcernWarning(UserWarning):
    """A warning from a plan that was run without being shown; `concern` contains the details.

    Parameters
    ----------
    tried : str
        The plan's title.
    concern : Concern
        The concern.
    """

    def __init__(self, tried: str, concern: Concern) -> None:
        said = t("{name}: {what}", name=concern.name, what=concern.what)
        remedy = t("  next: {text}", text=_indented(concern.remedy))
        super().__init__(printable(f"{tried}\n  {said}\n{remedy}"))
        self.concern = concern
