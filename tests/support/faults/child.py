"""What the processes of a run do: run a plan while faults are injected, finish what is left, and look what is lost."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import vmsnap_nb as vs
from support.commands import run
from support.faults.inject import Injector
from support.faults.scenes import VERBS, WORLDS, Facts, World
from support.labs import start_paused
from vmsnap_nb.errors import InvalidRequestError, NotFoundError, VmsnapError
from vmsnap_nb.live import journal
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.guest import OFF
from vmsnap_nb.system.confine import MORE

MORE += (f"{library}.control" for library in os.environ.get("LD_PRELOAD", "").split(":") if library)

PATIENCE = 20.0
"""Seconds in which what QEMU, libvirt or a program of a process that was killed still do must have come to an end."""


def say(**facts: Any) -> NoReturn:
    """Hand over what was found, and end at once: guests go on."""
    print("\n" + json.dumps(facts), flush=True)
    os._exit(0)


def make(root: str, world: str) -> None:
    """Make a world."""
    own = World(Path(root))
    WORLDS[world](own)
    own.guest.destroy()
    say(facts=asdict(Facts.read(own)))


# -- the run ---------------------------------------------------------------------------------------------


def qemu_of(world: World) -> int:
    """Return the process of the guest's QEMU, 0 where it has none.

    libvirt's file with its number says nothing of a QEMU that it has forgotten: the next start takes that away.
    """
    own = f"{world.lab.root}/".encode()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it may end at any time
            words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
            if words[1:2] == [b"-name"] and any(own in word for word in words):
                return int(pid)
    return 0


@contextlib.contextmanager
def injected(world: World, folder: Path, fault: dict[str, Any] | None) -> Iterator[Injector]:
    """Let a fault happen meanwhile: at a call, or after a time; without one, calls are counted."""
    injector = Injector(folder)
    fault = dict(fault or {"roles": 7, "kinds": 511})
    after, victim = fault.pop("seconds", None), fault.pop("victim", "")
    qemu = qemu_of(world)
    injector.arm(world.lab.root, us=os.getpid(), qemu=qemu, **fault)
    timer = None
    if after is not None:

        def strike() -> None:
            injector.note(f"{victim} after {after} s")
            os.kill({"us": os.getpid(), "qemu": qemu}[victim], signal.SIGKILL)

        timer = threading.Timer(after, strike)
        timer.daemon = True
        timer.start()
    try:
        yield injector
    finally:
        injector.disarm()
        if timer is not None:
            timer.cancel()


def act(root: str, folder: str, verb: str, fault: str) -> None:
    """Run the plan of a verb while a fault is injected."""
    world, tried = World(Path(root)), VERBS[verb]
    if tried.live:
        start_paused(world.guest)
    plan = tried.plan(world)
    if plan.refused:
        say(outcome="refused", said=str(plan.concerns))
    began = time.monotonic()
    with injected(world, Path(folder), json.loads(fault)):
        outcome, said = attempt(plan)
    say(outcome=outcome, said=said, seconds=time.monotonic() - began)


def attempt(plan: LivePlan) -> tuple[str, str]:
    """Run a plan; a word for what came of it, and what was said."""
    try:
        report = plan.run(progress=False)
    except VmsnapError as error:
        return "failed", "; ".join((str(error), *getattr(error, "__notes__", ())))
    except Exception as error:  # noqa: BLE001 - no other may come out of a plan
        return "raised", f"{type(error).__name__}: {error}"
    return ("done", "") if report.as_predicted else ("not as predicted", "; ".join(report.differences))


def beside(root: str, name: str) -> None:
    """Do something on the same images in a second process, which has no libvirt of its own."""
    forest = vs.scan(Path(root) / "images")
    try:
        plan = {
            "overlay": lambda: forest.overlay("New", backing="Snap-4"),
            "commit": lambda: forest.commit("Snap-4", "Snap-3"),
            "pull": lambda: forest.pull("Snap-4", "Snap-2"),
            "cleanup": forest.cleanup,
            "finish": lambda: forest.unfinished()[0],
        }[name]()
    except (VmsnapError, IndexError) as error:
        say(outcome="impossible", said=str(error))
    outcome, said = attempt(plan)
    say(outcome=outcome, said=said)


def end(guest: Guest) -> None:
    """End a guest, whatever is lost by that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guest.destroy()


# -- afterwards ------------------------------------------------------------------------------------------


class LossError(Exception):
    """Something that must not be."""


class Observer:
    """Looks at what a fault has left behind, finishes it, and compares it with what was there before."""

    def __init__(self, world: World, verb: str, facts: Facts) -> None:
        self.world = world
        self.verb = VERBS[verb]
        self.before = facts
        self.notes: list[str] = []
        self._whole: set[tuple[object, ...]] = set()

    def unfinished(self) -> list[LivePlan]:
        try:
            return [*self.world.guest.unfinished(), *self.world.forest.unfinished()]
        except Exception as error:
            raise LossError(f"unfinished() raises {type(error).__name__}: {error}") from error

    def first_look(self, rest: str, *, dies: bool) -> None:
        """Check at once: where the guest is off and may be started, its disk reads as it may."""
        guest = self.world.guest
        self.unfinished()
        if self.verb.live and not dies and not guest.running:
            self.check_still_there()
        if (
            self.verb.world == "saved"
            and not dies
            and not guest.running
            and not guest.handle.domain.hasManagedSaveImage()
        ):
            raise LossError("the saved memory is gone")
        if rest == "off":
            self.end()
        if guest.state in OFF and not any(concern.level == "refuse" for concern in guest.concerns()):
            found = self.world.disks
            if found not in self.disks():
                raise LossError(
                    f"at first the disk reads {found}, not {self.disks()}, and nothing keeps it from a start"
                )
        if rest == "started" and guest.state in OFF:
            with contextlib.suppress(Exception):
                start_paused(guest)

    def check_still_there(self) -> None:
        """Check that a guest which libvirt calls off goes on all the same, and that this is said.

        libvirt 9.0 can be killed after it has written down a state that it cannot read: it forgets the QEMU then.
        """
        runs = qemu_of(self.world)
        if not runs and self.has_crashed():
            self.notes.append("the QEMU of the guest has crashed by itself")
            return
        if not runs:
            raise LossError("the guest has ended")
        said = {concern.name for concern in self.world.guest.concerns() if concern.level == "refuse"}
        if "in-use" not in said:
            raise LossError(f"its QEMU goes on, libvirt does not know of it, and nothing says so: {said}")
        self.notes.append("libvirt has forgotten the QEMU of the guest")

    def has_crashed(self) -> bool:
        """Return whether QEMU has ended by an error of its own, as 7.2 does if it cannot name another backing file."""
        logs = self.world.lab.root.glob(f"log/qemu/{self.world.guest.name}.log")
        return any("reason=crashed" in log.read_text() for log in logs)

    def end(self) -> None:
        """End the guest, and its QEMU where libvirt does not know of that."""
        end(self.world.guest)
        while pid := qemu_of(self.world):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def disks(self) -> set[str]:
        """What the guest's disks may read as."""
        held, words = self.before.snapshots, len(self.before.disk.split(" "))  # the memory comes after the disks
        return {" ".join(held[name].split(" ")[:words]) if name else self.before.disk for name in self.verb.disk}

    def finish(self) -> None:
        """Run what `unfinished` offers until there is nothing left."""
        deadline = time.monotonic() + PATIENCE
        while plans := self.unfinished():
            ready = [plan for plan in plans if not plan.refused]
            for plan in ready[:1]:
                outcome, said = attempt(plan)
                self.notes.append(f"{plan.title}: {outcome} {said}")
                if outcome in ("raised", "not as predicted"):
                    raise LossError(f"{plan.title}: {outcome}: {said}")
            refusals = {one.name for plan in plans for one in plan.concerns if one.level == "refuse"}
            held = self.world.guest.running or qemu_of(self.world) > 0
            if time.monotonic() > deadline or (not ready and refusals == {"in-use"} and held):
                if held:
                    self.end()  # what is taken back waits until the guest is off
                    deadline = time.monotonic() + PATIENCE
                    continue
                said = "; ".join(f"{plan.title}: {[str(c) for c in plan.concerns]}" for plan in plans)
                raise LossError(f"unfinished() offers only what is refused or fails: {said} {self.notes[-1:]}")
            if not ready:
                time.sleep(0.2)

    def compare(self, when: str) -> None:
        """Compare with what was there before; the guest is off."""
        now = Facts.read(self.world)
        if now.disk not in self.disks():
            raise LossError(f"{when} the disk reads {now.disk}, not {self.disks()}")
        for name, read in self.before.snapshots.items():
            if name not in now.snapshots and name not in self.verb.loses:
                raise LossError(f"{when} the snapshot {name} is gone")
            if now.snapshots.get(name, read) != read and name not in self.verb.loses:
                raise LossError(f"{when} the snapshot {name} reads {now.snapshots[name]}, not {read}")
        kept = [read for name, read in now.snapshots.items() if name not in self.before.snapshots]
        if self.verb.keeps and now.disk != self.before.disk and not any(r.startswith(self.before.disk) for r in kept):
            raise LossError(f"{when} what was there before is in no snapshot: {now.snapshots}")
        for name, read in self.before.leaves.items():
            if now.leaves.get(name) != read:
                raise LossError(f"{when} {name} reads {now.leaves.get(name)}, not {read}")
        for name in now.leaves.keys() - self.before.leaves.keys():
            if now.leaves[name] not in (self.before.disk, *self.bases()):
                raise LossError(f"{when} the new overlay {name} reads {now.leaves[name]}")
        for row in self.world.guest.snapshots():
            if row.status != "ok" and row.name in self.before.snapshots and row.name not in self.verb.loses:
                raise LossError(f"{when} the snapshot {row.name} is {row.status}: {row.problem}")
        for image in self.world.forest:
            stamps = self.world.stamps(image.path)
            if image.format == "qcow2" and image.status == "ok" and stamps not in self._whole:
                checked = run("qemu-img", "check", "-q", "-U", "-f", "qcow2", image.path, check=False)
                if checked.returncode not in (0, 3):  # 3: clusters that nothing uses
                    raise LossError(f"{when} {image.name} is damaged: {checked.stdout} {checked.stderr}")
                self._whole.add(stamps)

    def bases(self) -> tuple[str, ...]:
        path = self.world.images / "Snap-4.qcow2"
        return (self.world.content(path),) if path.exists() else ()

    def again(self) -> None:
        """Nothing that is left keeps the next plans from being made."""
        world, guest = self.world, self.world.guest
        if self.verb.live and not guest.running:
            start_paused(guest)
        if not self._is_done():
            self._run_again("again", lambda: self.verb.plan(world), possible=False)
        end(guest)
        self.finish()
        self.compare("after the same again")
        for row in guest.snapshots():
            if row.status != "ok":
                self._run_again("reconcile", guest.reconcile)
        with contextlib.suppress(InvalidRequestError):
            self._run_again("cleanup", guest.cleanup, possible=False)
            self._run_again("cleanup", world.forest.cleanup, possible=False)
        self._leftovers()
        bad = [str(concern) for concern in guest.concerns() if concern.level == "refuse"]
        if bad:
            raise LossError(f"the guest cannot be started: {bad}")
        if not guest.handle.domain.hasManagedSaveImage():
            self._run_again("next snapshot", lambda: guest.snapshot("next", kind="external-disk"))
        self.compare("in the end")

    def _is_done(self) -> bool:
        """Return whether the layer that the verb merges is merged."""
        found = [image.status for image in self.world.forest if image.name == self.verb.merges]
        return bool(self.verb.merges) and found != ["ok"]

    def _run_again(self, what: str, make: Callable[[], LivePlan], *, possible: bool = True) -> None:
        try:
            plan = make()
        except (InvalidRequestError, NotFoundError) as error:
            if possible:
                raise LossError(f"{what}: {error}") from error
            return
        except VmsnapError as error:
            raise LossError(f"{what}: {error}") from error
        refusals = {concern.name for concern in plan.concerns if concern.level == "refuse"}
        if refusals:
            if not possible and refusals <= {"name-taken", "exists", "file-exists", "in-use"}:
                return
            if self.verb.world == "saved" and not self.world.guest.handle.domain.hasManagedSaveImage():
                return  # it was restored, and ended afterwards
            raise LossError(f"{what} is refused: {[str(c) for c in plan.concerns]}")
        outcome, said = attempt(plan)
        if outcome != "done":
            raise LossError(f"{what}: {outcome}: {said}")

    def _leftovers(self) -> None:
        known = {image.path for image in self.world.forest}
        known |= {row.record.memory_file or "" for row in self.world.guest.snapshots()}
        known |= {
            str(path) for path in self.world.images.glob("*.mem") if path.read_bytes()[:16] == b"LibvirtQemudSave"
        }
        left = [str(p) for p in sorted(self.world.images.iterdir()) if str(p) not in known and p != self.world.saved]
        if left:
            raise LossError(f"left over: {left}")


def judge(root: str, folder: str, verb: str, rest: str, facts: str, second: str, dies: str, boots: str) -> None:
    """Finish what was left, and look what is lost; a second fault may happen meanwhile.

    `boots` is whether the machine has been started again, as far as anybody can tell.
    """
    observer = None
    if int(boots):
        journal._booted = time.time
    faulthandler.dump_traceback_later(100)
    try:
        world = World(Path(root))
        observer = Observer(world, verb, Facts(**json.loads(facts)))
        fault = json.loads(second)
        observer.first_look(rest, dies=bool(int(dies)))
        with contextlib.ExitStack() as stack:
            if fault is not None:
                stack.enter_context(injected(world, Path(folder), fault))
            with contextlib.suppress(LossError) if fault is not None else contextlib.nullcontext():
                observer.finish()
        if fault is not None:
            say(loss="", notes=observer.notes)
        observer.end()
        observer.finish()
        observer.compare("when finished")
        observer.again()
    except LossError as loss:
        say(loss=str(loss), notes=observer.notes if observer else [])
    except Exception as error:  # noqa: BLE001 - is a loss as well
        import traceback

        traceback.print_exc()
        say(loss=f"{type(error).__name__}: {error}", notes=observer.notes if observer else [])
    say(loss="", notes=observer.notes)


ROLES = {function.__name__: function for function in (make, act, beside, judge)}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
