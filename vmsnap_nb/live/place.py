"""Where requests are read for, and where their plans run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from socket import gethostname

from vmsnap_nb.live.forbidden_folders import check_verbs
from vmsnap_nb.live.step_action import Action
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.checks.access import Access, on_other_machine, unresolved, with_access
from vmsnap_nb.plans.checks.locked import with_guests_off
from vmsnap_nb.plans.concern import Concern, sorted_concerns
from vmsnap_nb.plans.leftovers.steps import MoveFile
from vmsnap_nb.plans.machine import Machine
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading, Request
from vmsnap_nb.plans.step import GuestRef, Step
from vmsnap_nb.system.files.shared import shared_bytes
from vmsnap_nb.system.files.taken import taken
from vmsnap_nb.system.host_name import other_name
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.language import one_language

__all__ = ["Place", "with_sizes_of_files"]


def with_sizes_of_files(plan: Plan) -> Plan:
    """Return the plan with what no map of an image tells: what other files take, and what files share (reflinks)."""
    others = {path: taken(path) for path in plan.unlinks if path not in plan.before.images}
    moved = {step.path for step in plan.steps if isinstance(step, MoveFile)}  # shared or not, nothing becomes free
    removed = [path for path in plan.unlinks if path in plan.before.images and path not in moved]
    shared = {path: size for path in removed if (size := shared_bytes(path))}
    sizes = {path: None if size is None else -size for path, size in others.items()} | dict(_rewritten(plan))
    if not sizes and not shared:
        return plan
    return replace(plan, growth={**plan.growth, **sizes}, shared=shared)


def _rewritten(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield by how much images grow that share data, where that is overwritten: the other file keeps what was there."""
    copied: Counter[str] = Counter()
    for move in plan.moves:
        copied[move.target] += move.size or 0
    for path, size in copied.items():
        grown = plan.growth.get(path)
        over = 0 if grown is None else size - max(0, grown)
        if grown is not None and over > 0 and path in plan.before.images and (shared := shared_bytes(path)):
            yield path, grown + min(shared, over)


@dataclass(frozen=True)
class Place:
    """Where requests are read for, and where their plans run.

    `survey` reads what is there now: the forest, and of a guest what libvirt says of it. `look` adds to such a reading
    what a request needs beside it. `actions` says how each kind of step is performed here, `readonly` why nothing may
    be changed, or is empty, and `guest` is the guest whose snapshots are changed, by one plan at a time.
    `unseen` says what other hosts may have of the images. `uri` is the address of the libvirt whose guests are known,
    or empty, and `machine` the machine that it runs on. `here` says that its images are files of this machine;
    otherwise no file of this machine is opened, even if it has the same path. What is read within `one_pass` is of one
    moment. `volume` opens an image through libvirt.
    """

    survey: Callable[[], Reading]
    look: Callable[[Reading, Needs], Reading]
    actions: Mapping[type[Step], Action]
    readonly: str = ""
    guest: GuestRef | None = None
    access: Callable[[Plan], Access] | None = None
    unseen: Callable[[Plan], Iterable[Concern]] = lambda _: ()
    uri: str = ""
    here: bool = True
    machine: Callable[[], Machine | None] = lambda: None
    one_pass: Callable[[], AbstractContextManager[None]] = nullcontext
    volume: Callable[[Image], Source] | None = None

    def forest(self) -> Forest:
        """Read the forest as it is now."""
        return self.survey().forest

    def read(self, request: Request, now: Reading | None = None) -> Reading:
        """Read all that a request needs: the survey once, unless it was made already, and the facts once."""
        now = self.survey() if now is None else now
        return self.look(now, request.needs(now.forest))

    def far_machine(self) -> Machine | None:
        """Return the machine of the images if it is another one, so that command lines must name it."""
        return None if self.here else self.machine()

    def plan(self, request: Request, now: Reading | None = None) -> Plan:
        """Make the plan of a request, as it can be performed here."""
        with self.one_pass(), one_language():
            return self._plan(request, now)

    def _plan(self, request: Request, now: Reading | None) -> Plan:
        plan = request.plan(self.read(request, now))
        check_verbs(plan.title, plan.before.images)
        machine = self.machine()
        own = other_name(machine.name) if machine is not None and machine.here else ""
        found = (*unresolved(plan, here=self.here), *self.unseen(plan))
        if machine is not None and own:
            found = (*found, *on_other_machine(plan, machine.name, own))
        if found:
            plan = replace(plan, concerns=sorted_concerns((*plan.concerns, *found)))
        plan = with_sizes_of_files(plan) if self.here else plan
        plan = replace(plan, machine=machine or _this_machine())  # without a machine of libvirt, images are files here
        plan = plan if self.access is None else with_access(plan, self.access(plan))
        return replace(plan, concerns=tuple(with_guests_off(plan.before, plan.concerns)))


def _this_machine() -> Machine | None:
    name = gethostname()
    return Machine(name=name, uri="") if name else None
