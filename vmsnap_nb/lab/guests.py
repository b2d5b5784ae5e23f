"""The guests of a lab: how they are named and made, and on which images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.errors import ConcernWarning, InvalidRequestError, NotFoundError
from vmsnap_nb.lab.bases import ALPINE
from vmsnap_nb.lab.domain_xml import domain_xml, lab_of
from vmsnap_nb.lab.folder import LabFolder, check_guest_fits
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Guests, Host
from vmsnap_nb.live.phases import Phases
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.caller import warn_caller
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.lookup import path_of
from vmsnap_nb.model.names import check_name, there_are
from vmsnap_nb.model.number import whole_number
from vmsnap_nb.model.size import Size, in_bytes
from vmsnap_nb.plans.overlay.request import GuestsRequest
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.words.message import counted, listed, t

if TYPE_CHECKING:
    from vmsnap_nb.lab.lab import Lab
    from vmsnap_nb.lab.machine import Machine

__all__ = ["Backing", "Boot", "GuestSpec", "LabGuests"]

Backing = Image | Guest | str | os.PathLike[str]
Boot = Literal["kernel", "disk"]

_LEAST_MEMORY = 16
"""MiB. The lab's Linux wants 256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """How guests are made; each field is as `Lab.guest` documents it."""

    memory: Size
    cpus: int
    boot: Boot | None
    protect: bool | None

    def check(self) -> None:
        """Check that guests can be made so."""
        if self.boot not in (None, "kernel", "disk"):
            raise InvalidRequestError(
                t("boot a guest with boot={boot!r}", boot=self.boot),
                next_step=t("use 'kernel' or 'disk', or omit it"),
            )
        whole_number(self.mebibytes, "memory", "MiB", least=_LEAST_MEMORY)
        whole_number(self.cpus, "cpus", "processors", least=1)

    @property
    def mebibytes(self) -> int:
        """The memory in MiB: a number is one of MiB, a text has its unit."""
        return in_bytes(self.memory) >> 20 if isinstance(self.memory, str) else self.memory


_SEEN: set[str] = set()
"""UUIDs of guests that this process has used."""


class LabGuests:
    """The guests of one lab."""

    def __init__(self, lab: Lab, folder: LabFolder, machine: Machine) -> None:
        self._lab = lab
        self._folder = folder
        self._machine = machine
        self._earlier: frozenset[str] = frozenset()

    def note_earlier(self) -> None:
        """Note which guests are there as the lab is opened: another notebook has left them."""
        with libvirt_errors(t("list the guests")):
            self._earlier = frozenset(domain.UUIDString() for domain in self._lab.connection.listAllDomains())

    def all(self) -> Guests:
        """List those of the host that are the lab's."""
        return Guests(guest for guest in Host.guests(self._lab) if self._is_ours(guest))

    def _is_ours(self, guest: Guest) -> bool:
        try:
            return lab_of(guest.xml()) == str(self._lab.root)
        except NotFoundError:
            return False  # gone meanwhile

    def existing(self, *names: str) -> Guests:
        """Return guests that are there."""
        guests = self.all()
        by_name = {guest.name: guest for guest in guests}
        for name in names:
            if name not in by_name:
                known = there_are(name, by_name)
                raise NotFoundError(
                    t("find the guest {guest} in the lab {folder}", guest=name, folder=self._lab.root),
                    why=t("the lab has no guest named {guest}", guest=name),
                    next_step=t("{names}. To create it, pass its backing file: lab.guest(name, backing=…)", names=known)
                    if guests
                    else t("to create it, pass its backing file: lab.guest(name, backing=…)"),
                )
        return Guests(by_name[name] for name in names)

    def make(self, overlays: Mapping[str, str], backing: Backing, spec: GuestSpec, *, progress: bool) -> None:
        """Make guests, each with the name of its overlay; those that exist must be based on the same image."""
        there = {guest.name: guest for guest in self.all()}
        for name in overlays:
            if name in there:
                self._check_stands_on(there[name], backing)
                self._say_earlier(there[name])
        new = {name: overlay for name, overlay in overlays.items() if name not in there}
        if new:
            with Phases(counted("create {count} guest", "create {count} guests", len(new))) as phases:
                phases.tell(t("preparing the kernel and the initramfs"))
                plan = self.plan(new, backing, spec)
            _run_unseen(plan, progress=progress)

    def _say_earlier(self, guest: Guest) -> None:
        """Say once that a guest is not new, although the line that asks for it reads as if it were made."""
        if guest.uuid in self._earlier - _SEEN:
            warn_caller(
                t(
                    "The guest {guest} existed before this lab was opened ({state}). It is used unchanged: its disk "
                    "contains all data written earlier. For a new disk, choose another name.",
                    guest=guest.name,
                    state=guest.state,
                )
            )
        _SEEN.add(guest.uuid)

    def plan(self, overlays: Mapping[str, str], backing: Backing, spec: GuestSpec) -> LivePlan:
        """Plan new guests, each with the name of its overlay."""
        spec.check()
        self._check_free(overlays)
        forest, base = self._find_backing(backing)
        protect = not forest.writers(base) if spec.protect is None else spec.protect
        alpine = self._folder.made().get(forest.lineage(base)[-1]) == ALPINE
        by_kernel = spec.boot == "kernel" or (spec.boot is None and alpine)
        disks: dict[str, str] = {}
        xml: dict[str, str] = {}
        for name, overlay in overlays.items():
            check_guest_fits(self._lab.root, check_name(name, "guest"))
            disks[name] = str(self._folder.images / f"{check_name(overlay, 'guest')}.qcow2")
            domain = self._machine.domain(name, disks[name], memory=spec.mebibytes, cpus=spec.cpus, by_kernel=by_kernel)
            xml[name] = domain_xml(domain)

        request = GuestsRequest(disks=disks, xml=xml, backing=base, uri=self._lab.uri, protect=protect)
        return LivePlan.bind(request, forest.place, forest)

    def _check_free(self, names: Iterable[str]) -> None:
        taken = {str(guest.name) for guest in Host.guests(self._lab)} & set(names)
        if taken:
            ours = sorted(taken & {guest.name for guest in self.all()})
            raise InvalidRequestError(
                counted(
                    "create the guest {names}", "create the guests {names}", len(taken), names=listed(sorted(taken))
                ),
                why=t("the name is already in use"),
                next_step=t("choose another name, or use that guest: lab.guest({guest!r})", guest=ours[0])
                if ours
                else t("choose another name"),
            )

    def _find_backing(self, backing: Backing) -> tuple[LiveForest, str]:
        if isinstance(backing, Guest):
            path = backing.chain().top
        elif isinstance(backing, Image):
            path = backing.path
        else:
            text = path_of(backing)
            if text is None:
                raise NotFoundError(
                    t("find the image {image!r}", image=backing),
                    why=t("the argument is not an image, a guest, a path or a name"),
                    next_step=t("use an Image, a Guest, a path or the name of an image"),
                )
            if "/" not in text:
                forest = self._lab.survey()
                return forest, forest.find(text)
            path = os.path.abspath(os.path.expanduser(text))
        inside = Path(path).parent == self._folder.images
        forest = self._lab.survey() if inside else self._lab.survey(os.path.dirname(path))
        return forest, forest.find(path)

    def _check_stands_on(self, guest: Guest, backing: Backing) -> None:
        forest, base = self._find_backing(backing)
        chain = guest.chain()
        if not {path for layer in chain for path in forest.same_file(layer.path)} & {base}:
            raise InvalidRequestError(
                t("create the guest {guest} on {image}", guest=guest.name, image=forest[base].name),
                why=t(
                    "a guest named {guest} already exists, based on {chain}",
                    guest=guest.name,
                    chain=" <- ".join(i.name for i in chain),
                ),
                next_step=t("choose another name, or use that guest: lab.guest({guest!r})", guest=guest.name),
            )


def _run_unseen(plan: LivePlan, *, progress: bool) -> None:
    """Run a plan that the user does not see, and say what it warns of, as if from the line that the user wrote."""
    for concern in plan.concerns:
        if concern.level == "warn":
            warn_caller(ConcernWarning(plan.title, concern))
    plan.run(progress=progress)
