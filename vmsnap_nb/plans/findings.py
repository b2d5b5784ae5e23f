"""What is wrong or at risk on a host, or in some folders: by the checks that plans make, and some of whole hosts."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from vmsnap_nb.model.base_mismatch import DIRTY
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import Carded, Tabled
from vmsnap_nb.model.snapshot import SnapshotList
from vmsnap_nb.plans.checks import devices, host, layers, security, start
from vmsnap_nb.plans.checks.notes import strangers
from vmsnap_nb.plans.checks.open_images import held_concerns
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.machine import Machine
from vmsnap_nb.plans.merge.checks import interrupted
from vmsnap_nb.plans.merge.request import unfinished_needs
from vmsnap_nb.plans.repair.guestless import guestless, what_was_begun
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.words.message import Message, counted, listed, t

__all__ = ["Finding", "Findings", "find_all", "findings_needs"]

Severity = Literal["error", "warning", "note"]
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_OF_LEVEL: dict[str, Severity] = {"refuse": "error", "warn": "warning", "note": "note"}


@dataclass(frozen=True, slots=True)
class Finding(Carded):
    """A problem or a risk.

    Attributes
    ----------
    name : str
        The kind of the finding, such as ``missing-base``. The `Concern` of a plan that makes the same check has the
        same name.
    severity : str
        ``error`` if an image, guest or snapshot cannot be used or will be lost; ``warning`` if this may happen;
        ``note`` for information.
    what : Message
        A sentence that describes the problem or risk.
    where : str
        The path of the image, or the name of the guest.
    help : Message or str
        A Python call, a command line or an instruction that helps.
    """

    name: str
    severity: Severity
    what: str
    where: str = ""
    help: str = ""


@dataclass(frozen=True)
class Findings(Tabled):
    """Problems and risks, with the most serious first.

    `to_frame` returns a table with index ``finding`` and columns ``severity where what help``.

    Attributes
    ----------
    findings : tuple of Finding
        The rows.
    """

    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, number: int) -> Finding:
        return self.findings[number]

    def __repr__(self) -> str:
        counts = [
            f"{number} {severity}" + ("" if number == 1 else "s")
            for severity in _SEVERITIES
            if (number := sum(one.severity == severity for one in self.findings))
        ]
        return f"<Findings: {', '.join(counts) or 'no problems found in what could be checked'}>"


def findings_needs(forest: Forest) -> Needs:
    """Return what must be read beside the forest."""
    local = tuple(path for path in forest.images if path.startswith("/"))
    return replace(unfinished_needs(forest), places=local, leftovers=tuple(sorted(forest.folders)), modes=local)


def find_all(
    reading: Reading,
    guests: Iterable[GuestFacts] = (),
    lists: Iterable[SnapshotList] = (),
    *,
    name: str = "forest",
    uri: str = "",
    machine: Machine | None = None,
) -> Findings:
    """Return all that is found; `name` is what the calls are made on that are not those of a guest.

    `uri` is the address of the libvirt that was asked for guests.
    `machine` is where the images are, if command lines must name it.
    """
    guests, found = tuple(guests), dict[tuple[str, str], Finding]()
    for finding in (
        *(one for guest in guests for one in _of_guest(replace(reading, guest=guest))),
        *(one for each in lists for one in _of_list(each)),
        *_of_journal(reading, name),
        *_of_images(reading, name, uri),
        *_of_shared_disks(reading.forest, guests),
        *_of_host(reading, name, str if machine is None else machine.line),
    ):
        found.setdefault((finding.name, finding.where), finding)
    return Findings(tuple(sorted(found.values(), key=lambda one: _SEVERITIES.index(one.severity))))


def _finding(concern: Concern, *, where: str = "", severity: Severity | None = None) -> Finding:
    return Finding(
        name=concern.name,
        severity=severity or _OF_LEVEL[concern.level],
        what=concern.what,
        where=where or next(iter((*concern.images, *concern.holders)), ""),
        help=concern.remedy,
    )


def _row(name: str, severity: Severity, what: Message, where: str, help: str = "") -> Finding:
    return Finding(name=name, severity=severity, what=what, where=where, help=help)


def _fields(concern: Concern) -> dict[str, Any]:
    return dict(getattr(concern.what, "fields", {}))


def _call(guest: str, call: str, name: str = "forest") -> str:
    return f"host.guest({guest!r}).{call}" if guest else f"{name}.{call}"


# -- guests -----------------------------------------------------------------------------------------------------


def _of_guest(reading: Reading) -> Iterator[Finding]:
    forest, owner = reading.forest, reading.owner
    if not owner.running:
        yield from map(_finding, (c for c in start.start_concerns(reading) if c.name != "untrusted-note"))
        return
    yield from map(_finding, held_concerns(forest, owner.domain.name))
    for concern in start.shared_bases(forest, owner.domain):
        what = t(
            "{guest} writes to {image}, its disk {disk}, but other images are based on {image}", **_fields(concern)
        )
        how = t(
            "if these overlays are still needed, pull the data of {image} into them; if not, remove them. {call} lists "
            "the files that nothing needs",
            call="host.leftovers()",
            **_fields(concern),
        )
        yield replace(_finding(concern), what=what, help=how)
    below = [path for use in owner.domain.uses for path in forest.known_lineage(use.path)[1:]]
    for concern in security.denied_writes(owner, forest, below):
        yield _finding(concern, where=owner.domain.name, severity="note")


def _of_list(listed: SnapshotList) -> Iterator[Finding]:
    for row in listed:
        if row.status == "ok":
            continue
        severity: Severity = "warning" if row.status in ("missing-file", "stale") else "note"
        what = t(
            "snapshot {snapshot} of {guest}: {problem}", snapshot=row.name, guest=listed.guest, problem=row.problem
        )
        yield _row(f"{row.status}: {row.name}", severity, what, listed.guest, _call(listed.guest, "reconcile()"))
    if listed.going_back_to is not None:
        what = t(
            "a revert of {guest} to snapshot {snapshot} is running, or was interrupted",
            guest=listed.guest,
            snapshot=listed.going_back_to,
        )
        yield _row("active-job", "error", what, listed.guest, _call(listed.guest, f"revert({listed.going_back_to!r})"))


# -- what was begun ---------------------------------------------------------------------------------------------


def _of_journal(reading: Reading, name: str) -> Iterator[Finding]:
    for entry in reading.merges:
        for concern in interrupted((entry,), (entry.base,)):
            guest = entry.guest or next((use.guest for use in reading.forest.known_users(entry.base)), "")
            yield replace(_finding(concern), help=_call(guest, "unfinished()[0].run()", name))
    for pull in reading.pulls:
        guest = next((use.guest for use in reading.forest.known_users(pull.image)), "")
        what = t("a pull into {path} is running, or was interrupted", path=pull.image)
        yield _row("active-job", "warning", what, pull.image, _call(guest, "unfinished()[0].run()", name))
    for lost in guestless(reading):
        yield _row("active-job", "warning", what_was_begun(lost), lost.path, f"{name}.unfinished()")
    yield from map(_finding, strangers(reading))
    for path in reading.leftovers:
        what = t("a process started to write this file but ended before the file was complete")
        yield _row("never-completed", "note", what, path, f"{name}.cleanup()")


# -- images -----------------------------------------------------------------------------------------------------


def _of_images(reading: Reading, name: str, uri: str) -> Iterator[Finding]:
    forest = reading.forest
    kept = {path for use in forest.uses for path in use.deleted}  # the guest's own finding says what to do
    for path, image in forest.images.items():
        status = forest.status(path)
        if not _is_first_name(forest, path) or (status == "missing" and path in kept):
            continue
        if status == "invalid" and not forest.children(path):
            what = t("{image} was merged into another image, and QEMU refuses to open it", image=image.name)
            yield _row("invalid", "note", what, path, f"{name}.cleanup()")
        elif status == "dirty":
            yield _row(
                "dirty", "note", t("{image}: {why}", image=image.name, why=DIRTY), path, f"{name}.check({path!r})"
            )
        elif status == "in-use":
            yield _row(
                "in-use", "note", t("a process that is not a known guest is writing to {image}", image=image.name), path
            )
        elif status not in ("outside", "remote"):
            yield from map(_finding, layers.unreadable(image, status))
        if image.corrupt:
            what = t(
                "QEMU has marked the tables of {image} as damaged, so it opens the image read-only", image=image.name
            )
            yield _row("damaged-image", "error", what, path, f"{name}.repair({path!r}, 'repaired')")
        if status == "ok" and image.format == "raw" and image.problem:  # or it is a disk that begins like that
            what = Message("{problem}", problem=image.problem)
            yield _row("backing-format-wrong", "warning", what, path, t("correct the format that the overlay records"))
        yield from map(_finding, layers.foreign_data(image))
        yield from map(_finding, layers.doubt(forest, path))
        yield from map(_finding, _formats(forest, path))
    for need in forest.stale_memory:
        what = t(
            "this saved memory of {guest} cannot be used: the image it belongs to, {path}, has changed or no "
            "longer exists",
            guest=need.guest,
            path=need.path,
        )
        yield _row("stale-memory", "note", what, need.name, f"{name}.cleanup()" if uri else "")


def _is_first_name(forest: Forest, path: str) -> bool:
    """Return whether this is the name under which a file with several is listed."""
    return forest.same_file(path)[0] == path


def _formats(forest: Forest, path: str) -> Iterator[Concern]:
    image, parent = forest[path], forest.parent(path)
    if image.backing is not None and parent is not None and parent in forest.images:
        yield from start.missing_formats(forest, (path, parent))
        found = layers.backing_format(image, forest[parent])
        yield from (concern for concern in found if concern.name == "backing-format-wrong")


# -- the host ---------------------------------------------------------------------------------------------------


def _of_shared_disks(forest: Forest, guests: Iterable[GuestFacts]) -> Iterator[Finding]:
    meant = {(guest.domain.name, target) for guest in guests for target in devices.shared_on_purpose(guest)}
    for path, uses in host.shared_disks(forest, meant):
        others = dict.fromkeys(use.path for use in uses if use.path != path)
        fields = {"image": path, "disks": listed(f"{use.guest} ({use.target})" for use in uses)}
        what = (
            t("{image} is the disk of {disks}, also under the name {names}", names=listed(others), **fields)
            if others
            else t("{image} is the disk of {disks}", **fields)
        )
        what = t("{what}. Any change of it, also by a snapshot or a merge, is a change of all these disks", what=what)
        yield _row("shared-disk", "warning", what, path, t("give each guest a disk of its own, for example a copy"))


def _of_host(reading: Reading, name: str, line: Callable[[str], str]) -> Iterator[Finding]:
    forest = reading.forest
    for growth in host.growth_by_file_system(forest, reading.folders.free):
        if much := host.overcommitted(growth):
            yield _row("overcommitted", "warning", much, growth.folder, f"{name}.space()")
    for concern, guest in host.deep_chains(forest):
        top = next(iter(concern.images))
        call = _call(guest, "shorten(keep=2)") if guest else f"{name}.shorten({top!r}, keep=2)"
        yield replace(_finding(concern), name="deep-chain", help=call)
    for image, overlays in host.writable_bases(forest):
        if not _is_first_name(forest, image.path):
            continue
        what = counted(
            "{image} is writable, and {count} overlay is based on it. A write to {image} would corrupt the overlay",
            "{image} is writable, and {count} overlays are based on it. A write to {image} would corrupt them",
            sum(_is_first_name(forest, overlay) for overlay in overlays),
            image=image.name,
        )
        yield _row("writable-base", "note", what, image.path, line(host.protect_by_hand(image.path)))
    for image, below in host.closed_bases(forest, reading.modes):
        if not _is_first_name(forest, image.path):
            continue
        what = t(
            "every user on this machine may read {image}, but not its backing file {base}",
            image=image.name,
            base=below.name,
        )
        command = shlex.join(("chmod", "o-r", "--", image.path))
        yield _row("world-readable", "warning", what, image.path, line(command))
    for image, guest in host.unrecorded(forest):
        if forest.status(image.path) == "missing":
            continue
        what = t(
            "{image} looks like the overlay of a snapshot of {guest}, but no snapshot record names it",
            image=image.name,
            guest=guest,
        )
        yield _row("unrecorded-overlay", "note", what, image.path, _call(guest, f"commit(top={image.name!r})"))
