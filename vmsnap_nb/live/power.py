"""Start, stop and pause a guest."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from vmsnap_nb.errors import (
    GuestError,
    GuestNotReadyError,
    ImageError,
    InUseError,
    LibvirtError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.live.claim import Claim
from vmsnap_nb.live.commands import Commands
from vmsnap_nb.live.guest_actions.stale_chain import forget_old_chains
from vmsnap_nb.live.handle import GuestHandle, ended_at_once
from vmsnap_nb.live.phases import Phases
from vmsnap_nb.live.reading import look_at_files
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.guest import State
from vmsnap_nb.plans.checks.open_images import held_concerns, held_losses, switched
from vmsnap_nb.plans.checks.start import held_images, start_concerns, start_needs
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.system.files.locks import holders
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.within import within
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import Message, counted, lines, listed, t

__all__ = ["Power"]

T = TypeVar("T")

_HELD_IMAGE = re.compile(r"Is another process using the image \[(.*?)\]\?", re.DOTALL)
_TRIED_AGAIN = 3.0
"""Seconds in which QEMU tries again what a disk could not do before."""
_ASKED = 15.0
"""Seconds in which a lab's guest has to take the command that shuts it down; then its power button is pressed."""
_LOOKS = 15.0
"""Seconds in which it is looked at what the end of a guest would lose."""
_OF_IMAGES = {"backing-format-missing", "missing-base", "loop", "shared-base", "other-image", "damaged-image"}
"""Concerns about the images themselves, whoever else has them open."""


@checked_methods
@dataclass(frozen=True)
class Power:
    """What starts, stops and pauses one guest."""

    handle: GuestHandle
    commands: Commands

    # -- start -----------------------------------------------------------------------------------------------

    def concerns(self) -> tuple[Concern, ...]:
        """Return what speaks against starting it now."""
        return self._held() if self.handle.running else self._concerns()

    def _held(self) -> tuple[Concern, ...]:
        return tuple(held_concerns(self.handle.survey(Survey(follow=True)).forest, self.handle.name))

    def losses(self) -> tuple[Concern, ...]:
        """Return what would be lost with the end of a guest that runs; what cannot be read is not known."""
        try:
            if not self.handle.running:
                return ()
            now = self.handle.survey(Survey(follow=True)).forest
        except VmsnapError:
            return ()
        return tuple(held_losses(now, self.handle.name))

    def losses_soon(self) -> tuple[Concern, ...]:
        """Return the same; nothing if that takes too long, since a guest is ended so whose storage does not respond."""
        try:
            return within(_LOOKS, t("stop {guest}", guest=self.handle.name), self.losses)
        except GuestNotReadyError:
            return ()

    def _concerns(self) -> tuple[Concern, ...]:
        handle = self.handle
        now = handle.survey(Survey(follow=True), around=True)
        if handle.link.files_are_here:
            now = look_at_files(now, start_needs(now.forest, handle.name))
            if overlays := [one.file for entry in switched(now) for one in entry.disks]:
                now = handle.survey(Survey(follow=True), overlays, around=True)
                maps = tuple(path for path in overlays if path in now.forest.images)
                now = look_at_files(now, replace(start_needs(now.forest, handle.name), maps=maps))
        identities = {path: now.forest[path].identity for path in held_images(now.forest, handle.name)}
        processes = {
            path: tuple(f"{command} ({pid})" for pid, command in holders(identity))
            for path, identity in identities.items()
            if identity is not None
        }
        return start_concerns(replace(now, processes=processes))

    def start(self, *, wait: bool, force: bool, timeout: float) -> None:
        """Start it, and wait until it takes commands where it is a lab's guest."""
        handle = self.handle
        tried = t("start {guest}", guest=handle.name)
        handle.check_writable(tried)
        deadline = time.monotonic() + timeout
        handle.check_answers(tried, deadline)
        look = partial(self._seen, tried, deadline, timeout)
        with Phases(tried) as phases:
            if not handle.running:
                phases.tell(t("checking its images"))
                with self._no_plan(look) if self.handle.link.files_are_here and not force else nullcontext():
                    if not force:
                        self._raise_concerns(look(self.concerns))
                    saved = handle.state == "saved"
                    phases.tell(t("restoring its saved memory") if saved else t("starting QEMU"))
                    booting = partial(phases.tell, t("booting its Linux"), self.commands.console_tail)
                    self._create(booting if wait else None, timeout)
                handle.has_started()
            if wait and self.commands.takes_commands:
                phases.tell(t("booting its Linux"), self.commands.console_tail)
                self.commands.wait_ready(timeout)

    def _raise_concerns(self, found: Iterable[Concern]) -> None:
        concerns = [concern for concern in found if concern.level == "refuse"]
        tried = t("start {guest}", guest=self.handle.name)
        why = lines(dict.fromkeys(concern.what for concern in concerns))
        next_step = lines(dict.fromkeys(concern.remedy for concern in concerns))
        if concerns and all(concern.name in _OF_IMAGES for concern in concerns):
            raise ImageError(tried, why=why, next_step=next_step)
        if concerns:
            raise InUseError(tried, why=why, next_step=next_step, holders=_holders(concerns))

    @contextmanager
    def _no_plan(self, look: Callable[[Callable[[], Reading]], Reading]) -> Iterator[None]:
        """Start it while no plan changes its images: what it wrote to one that is being merged would be lost."""
        tried = t("start {guest}", guest=self.handle.name)
        forest = look(lambda: self.handle.survey(Survey(follow=True))).forest
        tops = (use.path for use in forest.uses if use.guest == self.handle.name)
        layers = [layer for top in tops for layer in forest.known_lineage(top) if layer.startswith("/")]
        try:
            claim = Claim(tried, "", (), layers)
        except StalePlanError as error:
            next_step = t("wait until that plan has ended, then start {guest} again", guest=self.handle.name)
            raise InUseError(tried, why=error.why, next_step=next_step) from error
        try:
            yield
        finally:
            claim.release()

    def _seen(self, tried: Message, deadline: float, seconds: float, look: Callable[[], T]) -> T:
        """Return what is seen of its images: storage that does not respond holds up whoever looks, without an end."""
        try:
            return within(deadline - time.monotonic(), tried, look)
        except GuestNotReadyError as error:
            raise GuestError(
                tried,
                why=t("its images could not be checked within {seconds:g} s", seconds=seconds),
                next_step=t("check whether the storage of its images still responds, or allow more time"),
            ) from error

    def _create(self, booting: Callable[[], None] | None, timeout: float) -> None:
        forget_old_chains(self.handle)
        with self.commands.starting():
            if self.handle.link.customs.start(self.handle.domain, booting, timeout):
                return
        try:
            self._create_once()
        except LibvirtError as error:
            # libvirt can be too late to hear why QEMU has ended: then the next one says it.
            if not ended_at_once(error):
                raise
            self._create_once()

    def _create_once(self) -> None:
        try:
            with libvirt_errors(t("start {guest}", guest=self.handle.name)):
                self.handle.domain.create()
        except InUseError as error:
            raise self._named(error) from error

    def _named(self, error: InUseError) -> InUseError:
        """Return QEMU's complaint with the names of the guests that hold the image."""
        match = _HELD_IMAGE.search(error.quoted or "")
        concerns = [concern for concern in self._concerns() if concern.name == "in-use"]
        concerns = [concern for concern in concerns if match is None or match[1] in concern.images] or concerns
        return InUseError(
            error.tried,
            said=error.quoted,
            next_step=lines(dict.fromkeys(concern.remedy for concern in concerns)) or error.next_step,
            holders=_holders(concerns),
        )

    # -- stop ------------------------------------------------------------------------------------------------

    def shutdown(self, timeout: float) -> None:
        """Shut it down cleanly and wait for its end; nothing happens if it is off."""
        handle = self.handle
        tried = t("shut {guest} down", guest=handle.name)
        handle.check_writable(tried)
        deadline = time.monotonic() + timeout
        handle.check_answers(tried, deadline)
        if not handle.running:
            return
        if handle.state == "paused":
            raise GuestError(
                tried,
                why=t("it is paused, so it cannot respond"),
                next_step=t("call resume() first, or use destroy(), which stops the guest forcibly"),
            )
        if losses := self._seen(tried, deadline, timeout, self.losses):
            raise GuestError(
                tried,
                why=lines(concern.what for concern in losses),
                next_step=t(
                    "{remedy}. To stop the guest forcibly, use destroy()",
                    remedy=lines(one.remedy for one in losses),
                ),
            )
        self.ask_to_stop(timeout)
        while handle.still_running:
            if time.monotonic() >= deadline:
                raise GuestError(
                    tried,
                    why=t("it is still running after {seconds:g} s", seconds=timeout),
                    next_step=t("allow more time, or use destroy(), which stops the guest forcibly"),
                )
            time.sleep(0.05)
            handle.check_answers(tried, deadline)

    def ask_to_stop(self, seconds: float) -> None:
        """Ask it within these seconds to shut itself down, and do not wait for its end."""
        handle = self.handle
        tried = t("shut {guest} down", guest=handle.name)
        deadline = time.monotonic() + seconds
        if self.commands.listens:
            half = min(seconds / 2, _ASKED)
            try:
                self.commands.run_on_port(
                    "(sleep 0.1; kill -USR2 1) & exit", timeout=half, deadline=time.monotonic() + half
                )
                return
            except GuestError:
                # It may be going down without having answered; otherwise the power button is left.
                if not handle.still_running:
                    return
        try:
            within(deadline - time.monotonic(), tried, lambda: self._press(tried))
        except GuestNotReadyError:
            return  # an agent that does not answer; whoever waits for the end sees it
        except VmsnapError as error:
            # It may be going at this moment: libvirt refuses then, a little before its state says so.
            if "domain is not running" in (error.quoted or ""):
                return
            soon = min(deadline, time.monotonic() + 1.0)
            while handle.still_running:
                if time.monotonic() >= soon:
                    raise
                time.sleep(0.05)

    def _press(self, tried: Message) -> None:
        with libvirt_errors(tried):
            self.handle.domain.shutdown()

    def destroy(self) -> None:
        """Pull its plug; nothing happens if it is off."""
        handle = self.handle
        tried = t("stop {guest}", guest=handle.name)
        handle.check_writable(tried)
        if not handle.still_running:
            return
        try:
            with libvirt_errors(tried):
                handle.domain.destroy()
        except VmsnapError:
            if handle.still_running:
                raise

    def undefine(self) -> None:
        """Make libvirt forget it."""
        handle = self.handle
        tried = t("undefine {guest}", guest=handle.name)
        handle.check_writable(tried)
        handle.link.check_soon(tried)
        if handle.running:
            raise GuestError(tried, why=t("it is running"), next_step=t("shut it down first"))
        try:
            with libvirt_errors(tried):
                handle.domain.undefine()
        except LibvirtError as error:
            with libvirt_errors(tried):
                count = handle.domain.snapshotNum()
            if count:
                error.next_step = counted(
                    "libvirt has a record of {count} snapshot: delete it first with delete_snapshot()",
                    "libvirt has records of {count} snapshots: delete them first with delete_snapshot()",
                    count,
                )
            elif handle.state == "saved":
                error.next_step = t("start the guest, then shut it down, so that its saved memory is used")
            raise

    # -- pause -----------------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Pause it."""
        self._pace(t("pause {guest}", guest=self.handle.name), "paused", self.handle.domain.suspend)

    def resume(self) -> None:
        """Let it run again."""
        self._pace(t("resume {guest}", guest=self.handle.name), "running", self._resume)

    def _pace(self, tried: Message, wanted: State, change: Callable[[], object]) -> None:
        handle = self.handle
        handle.check_writable(tried)
        handle.link.check_soon(tried)
        if not handle.running:
            raise GuestError(tried, why=t("it is off"), next_step=t("start it first"))
        if handle.state != wanted:
            with libvirt_errors(tried):
                change()

    def _resume(self) -> None:
        handle = self.handle
        failed = handle.domain.diskErrors()  # for which QEMU has paused it; it tries those writes again when it goes on
        handle.domain.resume()
        deadline = time.monotonic() + _TRIED_AGAIN
        while failed and handle.still_running and time.monotonic() < deadline:
            if handle.state == "paused":
                full = library().VIR_DOMAIN_DISK_ERROR_NO_SPACE in failed.values()
                tried, disks = t("resume {guest}", guest=handle.name), listed(sorted(failed))
                if full:
                    raise GuestError(
                        tried,
                        why=t("QEMU paused it again: no space is left for {disks}", disks=disks),
                        next_step=t("free space on the file system of its images"),
                    )
                raise GuestError(
                    tried,
                    why=t("QEMU paused it again: {disks} cannot be read or written", disks=disks),
                    next_step=t("check whether the storage of its images still responds"),
                )
            time.sleep(0.02)


def _holders(concerns: list[Concern]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(holder for concern in concerns for holder in concern.holders))
