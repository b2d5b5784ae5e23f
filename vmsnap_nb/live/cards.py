"""Cards of what lives: a host and a guest, read when they are shown, and never for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vmsnap_nb.model.guest import Domain
from vmsnap_nb.views.cards import Card, card_html
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.views.tables import Column, Table
from vmsnap_nb.words.message import N_, joined, t

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host
    from vmsnap_nb.live.job import Job, Progress

__all__ = ["fact", "guest_card", "guests_table", "host_card", "job_card", "read_card", "versions"]

_PATIENCE = 2.0
"""Seconds that a display may take: libvirt can be busy, or on another machine."""

_GUESTS = (Column("guest"), Column("state", "state"), Column("disks", "count"), Column("sources"))
_DISKS = (Column("disk"), Column("source", "path"), Column("format"), Column("bus"), Column("read-only", "yes or no"))


def read_card(read: Callable[[], Iterator[Card]], title: str, *, patience: float = _PATIENCE) -> str:
    """Return the HTML of a card that grows while it is read; what cannot be read, or not in time, it says."""
    card = Card(title)
    missing = ""

    def work() -> None:
        nonlocal card, missing
        try:
            for grown in read():
                card = grown
        except Exception as error:  # noqa: BLE001 - a display never raises: it says what is wrong
            missing = str(error)

    thread = threading.Thread(target=work, name="vmsnap card", daemon=True)
    thread.start()
    thread.join(patience)
    late = (
        t("no response within {seconds:g} s; display the object again", seconds=patience)
        if thread.is_alive()
        else missing
    )
    return card_html(replace(card, facts=(*card.facts, (t("not read"), late))))


def fact(read: Callable[[], str]) -> str:
    """Return what is read, or nothing where that fails."""
    try:
        return read()
    except Exception:  # noqa: BLE001 - libvirt's own errors, too: one fact less
        return ""


def guest_card(guest: Guest) -> Iterator[Card]:
    """Read the card of a guest."""
    domain = guest.domain()
    rows = tuple((disk.target, disk.source, disk.format, disk.bus, disk.readonly) for disk in domain.disks)
    facts = (
        (t("state"), state_text(domain.state)),
        (t("host"), guest.host.uri),
        (t("checkpoints"), joined(domain.checkpoints)),
        (t("persistent"), "" if domain.persistent else t("no: libvirt forgets the guest when it stops")),
    )
    yield Card(t("Guest {name}", name=domain.name), facts, ((t("Disks"), Table(_DISKS, rows)),))


def host_card(host: Host) -> Iterator[Card]:
    """Read the card of a host: its guests first, then what may take longer."""
    if host.closed:
        yield Card(t("Host {uri}", uri=host.uri), ((t("state"), t("closed")),))
        return
    facts: tuple[tuple[str, str], ...] = ((t("access"), t("read-only") if host.readonly else ""),)
    card = Card(t("Host {uri}", uri=host.uri), facts, ((t("Guests"), guests_table(host.domains())),))
    yield card
    yield replace(card, facts=(*facts, *versions(host.connection)))


def versions(connection: Any) -> Iterator[tuple[str, str]]:
    """Read the versions of libvirt and of what runs the guests; the second can take seconds the first time."""
    yield "libvirt", fact(lambda: _version(connection.getLibVersion()))
    yield fact(lambda: str(connection.getType())) or t("hypervisor"), fact(lambda: _version(connection.getVersion()))


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def guests_table(domains: Iterable[Domain]) -> Table:
    """Return guests with their states and images."""
    rows = tuple(
        (domain.name, domain.state, len(domain.disks), ", ".join(use.path for use in domain.uses) or None)
        for domain in domains
    )
    return Table(_GUESTS, rows)


_STATES = {"running": N_("running"), "failed": N_("failed"), "cancelled": N_("cancelled"), "done": N_("done")}


def _progress(progress: Progress) -> str:
    if not progress.total:
        return ""
    if progress.unit == "bytes":
        return t("{done} of {total} bytes", done=progress.done, total=progress.total)
    return t("{done} of {total} steps", done=progress.done, total=progress.total)


def job_card(job: Job) -> Iterator[Card]:
    """Read the card of a job."""
    progress, report = job.progress, job.report
    error = None if report is None else report.error
    state = "running" if job.running else "failed" if error else "cancelled" if job.cancelled else "done"
    left = progress.seconds_left if job.running else None
    facts = (
        (t("state"), t(_STATES[state])),
        (t("progress"), _progress(progress)),
        (t("step"), progress.text if job.running else ""),
        (t("time left"), "" if left is None else t("about {seconds:.0f} s", seconds=left)),
        (t("error"), "" if error is None else str(error)),
    )
    yield Card(job.title, facts)
