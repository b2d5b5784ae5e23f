"""The end of a lab: its guests are stopped and forgotten, and what the user needs of its images stays."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from vmsnap_nb.errors import ConcernWarning, GuestNotReadyError, LabError, VmsnapError
from vmsnap_nb.lab.folder import LabFolder
from vmsnap_nb.lab.signals import told_to_end
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.journal import drop_entry, read_all
from vmsnap_nb.model.caller import warn_caller
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.plans.journal import Entry, InsideEntry, MergeEntry, PullEntry, RecordEntry, RevertEntry, SnapshotEntry
from vmsnap_nb.plans.merge.held_layers import CorrectRequest
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.within import within
from vmsnap_nb.words.message import t

__all__ = ["add_snapshots", "forget", "give_up", "images_in_use", "stop"]

_SECONDS_TO_GO = 4.0
"""How long guests may take to shut down when a lab is closed, unless the process is told to end meanwhile."""
_SECONDS_TO_END = 1.5
"""How long libvirt may take to end those that are still there."""
_LOOK = 0.05
_LOOKS, _LOOKS_WHOLE = 15.0, 300.0
"""How long it is looked at what the end of the guests would lose, and at all images of a lab that is removed."""


def stop(guests: Iterable[Guest]) -> None:
    """Shut guests down, all at the same time, and end those that take too long, or all if there is no time.

    Where QEMU writes to an image other than the one libvirt names, the definition is corrected first. One whose image
    was deleted goes on: what QEMU holds of it would be lost.
    """
    guests = tuple(guests)
    doubtful = _doubtful(guests)
    guests = tuple(guest for guest in guests if guest.name not in doubtful or _may_stop(guest))
    deadline = time.monotonic() + _SECONDS_TO_GO
    asked = [guest for guest in guests if guest.handle.still_running]
    if not told_to_end.is_set():
        _each(asked, lambda guest: guest.power.ask_to_stop(_SECONDS_TO_GO / 2), deadline)
    while time.monotonic() < deadline and any(guest.handle.still_running for guest in asked):
        if told_to_end.wait(_LOOK):
            break
    # What they would lose was looked at above; one that hangs would hold up the answer for all now.
    failed = _each(asked, lambda guest: guest.power.destroy(), time.monotonic() + _SECONDS_TO_END, to_the_end=True)
    for error in failed:
        raise error


def _doubtful(guests: Collection[Guest]) -> set[str]:
    """Return the names of guests that would lose something, of all at once since that takes one survey."""
    for guest in guests:
        with contextlib.suppress(VmsnapError):
            try:
                uses = within(_LOOKS, t("stop the guest {guest}", guest=guest.name), guest.host.survey).uses
            except GuestNotReadyError:
                break  # nor would it respond to the next one
            return {use.guest for use in uses if use.next or use.deleted}
    return set()


def _may_stop(guest: Guest) -> bool:
    """Correct what can be corrected, tell what was wrong, and return whether nothing is lost by the end of a guest."""
    tried = t("stop the guest {guest}", guest=guest.name)
    for concern in guest.power.losses_soon():
        warn_caller(ConcernWarning(tried, concern))
    try:
        return within(_LOOKS, tried, lambda: _is_corrected(guest))
    except GuestNotReadyError:
        return False


def _is_corrected(guest: Guest) -> bool:
    with contextlib.suppress(VmsnapError):
        for plan in guest.unfinished():
            if isinstance(plan.request, CorrectRequest):
                plan.run(progress=False)
    return not guest.power.losses()


def _each(
    guests: Iterable[Guest], act: Callable[[Guest], object], deadline: float, *, to_the_end: bool = False
) -> list[VmsnapError]:
    """Do something with guests, with each in a thread, until it is done or the time is up; return what failed.

    The time is also up when this process is told to end, unless it is `to_the_end`.
    """
    failed: list[VmsnapError] = []

    def work(guest: Guest) -> None:
        try:
            act(guest)
        except VmsnapError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(guest,), daemon=True) for guest in guests]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline and (to_the_end or not told_to_end.is_set()):
            thread.join(_LOOK)
    return failed


def give_up(host: Host, folder: LabFolder, guests: Iterable[Guest], inside: Path | None = None) -> None:
    """Make libvirt forget guests of a lab, and write down which images the lab can remove after that.

    `inside` is as in `forget`.
    """
    gone = set()
    for guest in guests:
        guest.power.destroy()  # nothing is lost that was to stay
        add_snapshots(folder, guest, _seen(host, folder, folder.images))
        forget(guest, inside)
        gone.add(guest.uuid)
    for path in images_in_use(folder, _seen(host, folder, folder.images, folder.root)):
        folder.drop(path)
    _drop_entries(folder, gone)


def _seen(host: Host, folder: LabFolder, *folders: Path) -> Forest:
    """Return the images of a lab that is to be removed; storage that does not respond would hold that up for ever."""
    tried = t("remove the lab {folder}", folder=folder.root)
    try:
        return within(_LOOKS_WHOLE, tried, lambda: host.survey(*folders))
    except GuestNotReadyError as error:
        raise LabError(
            tried,
            why=t("its images could not be checked within {seconds:g} s", seconds=_LOOKS_WHOLE),
            next_step=t("check whether the storage of its images still responds, and try again"),
        ) from error


def forget(guest: Guest, inside: Path | None = None) -> None:
    """Make libvirt forget a guest and all that it has recorded of it; its images stay.

    A file of firmware variables that is not `inside` a folder stays, too: whoever made that folder can name any file.
    """
    libvirt = library()
    guest.destroy()
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    )
    nvram = parse_xml(guest.handle.definition()).findtext("os/nvram")
    keep = inside is not None and nvram is not None and not Path(nvram).resolve().is_relative_to(inside.resolve())
    flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM if keep else libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    with libvirt_errors(t("undefine the guest {guest}", guest=guest.name)):
        guest.handle.domain.undefineFlags(flags)


def add_snapshots(folder: LabFolder, guest: Guest, forest: Forest) -> None:
    """Write down the overlays that snapshots have put on an image that the lab made for a guest."""
    made = folder.made()
    for use in guest.domain().uses:
        above: list[str] = []
        for path in forest.known_lineage(use.path):
            if path in made:
                for snapshot in above:
                    folder.add(snapshot, guest.name)
                above = []
            elif Path(path).is_relative_to(folder.images):
                above.append(path)


def _drop_entries(folder: LabFolder, guests: Collection[str]) -> None:
    """Remove journal entries about images that the lab will remove, and about guests (UUIDs) that are forgotten."""
    made = folder.made()
    places = {str(folder.images), *(os.path.dirname(path) for path in made)}
    for entry in read_all(places):
        if isinstance(entry, RecordEntry | RevertEntry | SnapshotEntry):
            is_over = entry.uuid in guests
        else:
            is_over = isinstance(entry, InsideEntry | MergeEntry | PullEntry) and made.keys() >= set(entry.images)
        if is_over and isinstance(entry, Entry):
            drop_entry(entry)


def images_in_use(folder: LabFolder, forest: Forest) -> set[str]:
    """Find the images of the lab on which an image in its folder is based that the lab did not make."""
    made = folder.made()
    inside = (path for path in forest.images if Path(path).is_relative_to(folder.root))
    own = [path for path in inside if path not in made and not folder.goes_whole(path)]
    return {below for path in own for below in forest.lineage(path) if below in made}
