"""Runs: which verb, which fault, at which call of whom; each in a fresh copy of its world, by processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.faults.inject import ERRORS, KINDS, ROLES, STRIKES, Injector
from support.faults.scenes import VERBS
from support.forks import Forks
from support.small_disk import as_root

__all__ = ["FAULTS", "Outcome", "Run", "Worker", "chosen", "play_all"]

LIMIT = 120.0
"""Seconds that a process of a run may take: more is a loss as well."""
DEVICE = 640 << 20
COUNTED = Path(__file__).with_name("calls.json")
"""How many calls each verb makes (libvirt 9.0, QEMU 7.2); ``python -m support.faults --count`` writes it."""


@dataclass(frozen=True)
class Fault:
    """One way in which things go wrong.

    Attributes
    ----------
    strikes : tuple of str
        What is done at the call; nothing where it happens after a time.
    who : tuple of str
        Whose calls count.
    kinds : tuple of str
        Which calls count.
    disk : bool
        Whether the world lies on a disk of its own.
    victim : str
        Who is killed after a time.
    """

    strikes: tuple[str, ...] = ()
    who: tuple[str, ...] = ("us", "tool")
    kinds: tuple[str, ...] = KINDS
    error: str = "eio"
    disk: bool = False
    victim: str = ""


CHANGES = tuple(kind for kind in KINDS if kind != "monitor")
GROWS = ("write", "length", "create", "link", "rename")
ANYBODY = ("us", "tool", "qemu")
FAULTS: Mapping[str, Fault] = {
    "kill": Fault(("kill-us",), ANYBODY),
    "kill after": Fault(("kill-us", "after"), ANYBODY),
    "kill at random": Fault(victim="us"),
    "kill qemu-img": Fault(("kill-caller",), ("tool",)),
    "kill QEMU": Fault(("kill-qemu", "after"), ANYBODY),
    "kill QEMU at random": Fault(victim="qemu"),
    "kill all": Fault(("kill-us", "kill-caller", "kill-qemu"), ANYBODY),
    "EIO": Fault(("fail",), ANYBODY, CHANGES),
    "EIO permanently": Fault(("from",), ANYBODY, CHANGES),
    "ENOSPC": Fault(("from",), ANYBODY, GROWS, "enospc"),
    "ENOSPC at flush": Fault(("fail",), ANYBODY, ("sync",), "enospc"),
    "read-only": Fault(("read-only",), ANYBODY, CHANGES, disk=True),
    "power loss": Fault(("power", "kill-us", "kill-caller", "kill-qemu"), ANYBODY, disk=True),
    "two at once": Fault(("stop-us",), ("us",)),
}
BESIDE = ("overlay", "commit", "pull", "cleanup", "finish")
"""What a second process does while the first one is stopped."""
RESTS = ("off", "on", "started")
"""How the guest is when it is finished: off, as it is, or started past what speaks against it."""


@dataclass(frozen=True)
class Strike:
    """A fault, at the N-th call of somebody, or after some milliseconds."""

    fault: str
    who: str
    at: int

    def __str__(self) -> str:
        return f"{self.fault}@{self.who}:{self.at}"

    @classmethod
    def of(cls, text: str) -> Strike:
        fault, _, rest = text.partition("@")
        who, _, at = rest.partition(":")
        return cls(fault, who, int(at))

    @property
    def told(self) -> dict[str, Any]:
        """What the process is told that lets it happen."""
        fault = FAULTS[self.fault]
        if fault.victim:
            return {"seconds": self.at / 1000, "victim": fault.victim, "kinds": 511, "roles": 7}
        return {
            "at": self.at,
            "action": sum(STRIKES[name] for name in fault.strikes),
            "error": ERRORS[fault.error],
            "kinds": sum(1 << KINDS.index(kind) for kind in fault.kinds),
            "roles": ROLES[self.who],
        }


@dataclass(frozen=True)
class Run:
    """One run: a verb, what happens to it, how the guest is afterwards, and what happens while that is finished."""

    verb: str
    strike: Strike
    rest: str = "off"
    second: Strike | None = None

    def __str__(self) -> str:
        parts = (self.verb, str(self.strike), self.rest, *((str(self.second),) if self.second else ()))
        return " | ".join(parts)

    @classmethod
    def of(cls, text: str) -> Run:
        verb, strike, rest, *second = (part.strip() for part in text.split("|"))
        return cls(verb, Strike.of(strike), rest, Strike.of(second[0]) if second else None)


@dataclass
class Outcome:
    """What came of a run."""

    run: Run
    loss: str = ""
    hit: str = ""
    notes: list[str] = field(default_factory=list)


@cache
def fits(verb: str) -> tuple[str, ...]:
    """Return the faults that can happen to a verb."""
    live = VERBS[verb].live
    without = {"kill QEMU", "kill QEMU at random"} if not live else set()
    if VERBS[verb].world != "chain":
        without.add("two at once")
    return tuple(name for name in FAULTS if name not in without)


@dataclass(frozen=True)
class Calls:
    """What a verb does where nothing happens to it: how many calls of each kind everybody makes, and how long."""

    numbers: Counter[tuple[str, str]]
    milliseconds: int

    def of(self, who: str, kinds: tuple[str, ...]) -> int:
        return sum(self.numbers[who, kind] for kind in kinds)


def chosen(count: int, seed: int) -> list[tuple[str, str, int]]:
    """Choose verbs and faults, so that each pair comes about as often, with a number for what is chosen later."""
    chance = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        faults = {verb: chance.sample(fits(verb), len(fits(verb))) for verb in VERBS}
        for turn in range(len(FAULTS)):
            verbs = [verb for verb in VERBS if turn < len(faults[verb])]
            chance.shuffle(verbs)
            pairs += [(verb, faults[verb][turn]) for verb in verbs]
    numbers = (random.Random(f"{seed} {place}").getrandbits(32) for place in range(count))
    return [(verb, fault, number) for (verb, fault), number in zip(pairs, numbers, strict=False)]


def counted() -> dict[str, Calls]:
    """Return the numbers that were written down: where they are old, more faults come too late."""
    return {
        verb: Calls(Counter({tuple(key.split(" ")): number for key, number in of["calls"].items()}), of["milliseconds"])  # type: ignore[misc]
        for verb, of in json.loads(COUNTED.read_text()).items()
    }


class Worker:
    """A folder in which worlds are made and destroyed, and the processes that do it.

    With `anew` what is known of calls is left aside.
    """

    def __init__(self, *, anew: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
        self.root = self.folder / "w"
        self._calls = {} if anew else counted()
        self._facts: dict[str, str] = {}
        as_root(
            "mount", "-t", "tmpfs", "-o", f"mode=755,uid={os.getuid()},gid={os.getgid()}", "tmpfs", str(self.folder)
        )
        self.injector = Injector(self.folder)
        self._servers = [self._server(), self._server()]

    def _server(self) -> Forks:
        return Forks("support.faults.child", LD_PRELOAD=str(self.injector.library))

    def close(self) -> None:
        self._end_all()
        for server in self._servers:
            server.close()
        as_root("umount", "--lazy", str(self.folder))
        self.folder.rmdir()

    # -- processes -------------------------------------------------------------------------------------

    def child(self, what: str, *arguments: object, server: int = 0) -> dict[str, Any]:
        """Run a function of `support.faults.child` in another process; what it says, or how it ended."""
        code = "import sys\nfrom support.faults.child import ROLES\nROLES[sys.argv[1]](*sys.argv[2:])\n"
        env = {**os.environ, "LD_PRELOAD": str(self.injector.library)}
        try:
            done = self._servers[server].run(
                code, [what, *map(str, arguments)], env=env, folder=Path("/"), timeout=LIMIT
            )
        except subprocess.TimeoutExpired as error:
            return {"outcome": "hangs", "loss": f"hangs: {error.stderr!r}"}
        finally:
            self.injector.disarm()
        if done.returncode:
            killed = done.returncode == -signal.SIGKILL
            said = "" if killed else f"{what} ended with {done.returncode}: {done.stderr[-3000:]}"
            return {"outcome": "killed" if killed else "ended", "loss": said, "said": said}
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def _ours(self) -> list[int]:
        """Processes that a run has left behind."""
        found = []
        servers = {str(server.pid) for server in self._servers} if hasattr(self, "_servers") else set()
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if pid not in servers and f"{self.injector.library}\n" in Path("/proc", pid, "maps").read_text():
                    found.append(int(pid))
        return found

    def _end_all(self) -> None:
        deadline = time.monotonic() + 10
        while (left := self._ours()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    # -- worlds ----------------------------------------------------------------------------------------

    def _template(self, world: str) -> Path:
        kept = self.folder / f"{world}.world"
        if not kept.exists():
            made = self.child("make", self.root, world)
            assert "facts" in made, made
            self._facts[world] = json.dumps(made["facts"])
            self._end_all()
            self.root.rename(kept)
        return kept

    @contextlib.contextmanager
    def world(self, name: str, *, disk: bool = False) -> Iterator[None]:
        """Make a world, on a disk of its own if wanted, and remove it again."""
        template = self._template(name)
        device = self.folder / "device"
        self.root.mkdir()
        if disk:
            with open(device, "wb") as file:
                file.truncate(DEVICE)
            tool = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "mkfs.ext4"
            subprocess.run([tool, "-q", "-F", "-E", "nodiscard", str(device)], check=True)
            self._mount(device, self.root)
            (self.root / "lost+found").rmdir()
        subprocess.run(["cp", "-a", "--sparse=always", f"{template}/.", str(self.root)], check=True)
        try:
            if disk:
                subprocess.run(["sync", "-f", str(self.root)], check=True)
            yield
        finally:
            self._end_all()
            if disk:
                as_root("umount", str(self.root))
                device.unlink()
            shutil.rmtree(self.root, ignore_errors=True)

    @staticmethod
    def _mount(device: Path, at: Path) -> None:
        as_root("mount", "-o", "loop", str(device), str(at))
        if os.getuid():
            as_root("chown", str(os.getuid()), str(at))

    def _mount_again(self) -> None:
        """Do what happens at the next start of a machine: the journal of the file system is replayed.

        Its device has another number then, as the order of mounts has it.
        """
        self._end_all()
        # A mount namespace of another process may keep the file system as it is; so a copy of the device is mounted.
        device, copy, again = (self.folder / name for name in ("device", "copy", "again"))
        subprocess.run(["cp", "--sparse=always", str(device), str(copy)], check=True)
        again.mkdir()
        self._mount(copy, again)
        for _ in range(50):
            try:
                as_root("umount", str(self.root))
                break
            except pytest.fail.Exception:
                time.sleep(0.1)
        as_root("mount", "--bind", str(again), str(self.root))
        as_root("umount", str(again))
        again.rmdir()
        copy.replace(device)

    # -- runs ------------------------------------------------------------------------------------------

    def calls(self, verb: str) -> Calls:
        """Return how many calls a verb makes, as counted before; of a verb that was not, it is run without a fault."""
        return self._calls[verb] if verb in self._calls else self.count(verb)

    def count(self, verb: str) -> Calls:
        """Run a verb without a fault, and count."""
        if verb not in self._calls:
            with self.world(VERBS[verb].world):
                done = self.child("act", self.root, self.folder, verb, "null")
            assert done["outcome"] == "done", (verb, done)
            numbers: Counter[tuple[str, str]] = Counter()
            names = {bit: who for who, bit in ROLES.items()}
            for line in self.injector.calls.splitlines():
                _, role, kind, *_ = line.split(" ", 4)
                numbers[names[int(role)], KINDS[int(kind)]] += 1
            self._calls[verb] = Calls(numbers, round(done["seconds"] * 1000))
        return self._calls[verb]

    def run_of(self, verb: str, fault: str, number: int) -> Run | None:
        """Choose at which call a fault happens; None where there is no such call."""
        chance, calls, what = random.Random(number), self.calls(verb), FAULTS[fault]
        who: str = what.victim
        if what.victim:
            at = chance.randint(0, calls.milliseconds)
        else:
            several = [one for one in what.who if calls.of(one, what.kinds)]
            if not several:
                return None
            who = chance.choice(several)
            at = chance.randint(1, calls.of(who, what.kinds))
        rest = chance.choice(RESTS)
        second = None
        if chance.random() < 0.3:
            again = chance.choice(["kill", "kill after", "kill qemu-img", "EIO", "ENOSPC", "ENOSPC at flush"])
            second = Strike(
                again, chance.choice([one for one in FAULTS[again].who if one != "qemu"]), chance.randint(1, 25)
            )
        return Run(verb, Strike(fault, who, at), rest, second)

    def play(self, run: Run) -> Outcome:
        """Let it happen, finish it, and compare."""
        verb, fault = VERBS[run.verb], FAULTS[run.strike.fault]
        outcome = Outcome(run)
        self.injector.forget()
        with self.world(verb.world, disk=fault.disk):
            told = json.dumps(run.strike.told)
            arguments = ("act", self.root, self.folder, run.verb, told)
            if run.strike.fault == "two at once":
                done = self._two(arguments, BESIDE[run.strike.at % len(BESIDE)], outcome)
            else:
                done = self.child(*arguments)
            outcome.hit = self.injector.hit
            outcome.notes.append(f"{done['outcome']}: {done.get('said', '')}")
            # That it is not as predicted may well be, and was said.
            if done["outcome"] in ("raised", "hangs", "ended", "refused"):
                outcome.loss = f"{done['outcome']}: {done.get('said', '')}"
            if fault.disk:
                self._mount_again()
            dies = "QEMU" in run.strike.fault or run.strike.fault == "kill all" or fault.disk or verb.ends
            for second in (run.second, None) if run.second else (None,):
                if outcome.loss:
                    break
                told = json.dumps(None if second is None else second.told)
                facts = self._facts[verb.world]
                rest = run.rest if second is run.second else "off"
                known = int(dies or second is not run.second)
                after = self.child("judge", self.root, self.folder, run.verb, rest, facts, told, known, int(fault.disk))
                if second is not None and self.injector.hit:
                    outcome.notes.append(f"second: {self.injector.hit}")
                outcome.notes += after.get("notes", [])
                outcome.loss = after["loss"]
        return outcome

    def _two(self, arguments: tuple[object, ...], other: str, outcome: Outcome) -> dict[str, Any]:
        """Stop a process in the middle, let another one do something, and let the first one go on."""
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(self.child, *arguments)
            while not first.done() and not self.injector.hit:
                time.sleep(0.005)
            if self.injector.hit and not first.done():
                try:
                    done = self.child("beside", self.root, other, server=1)
                finally:
                    os.kill(self.injector.us, signal.SIGCONT)
                outcome.notes.append(f"beside, {other}: {done}")
                if done["outcome"] in ("raised", "not as predicted", "hangs", "ended"):
                    outcome.loss = f"a second process, {other}: {done}"
            return first.result()


def play_all(wanted: list[tuple[str, str, int]], workers: int = 2) -> Iterator[Outcome]:
    """Let all happen, each world with one worker."""
    worlds = Counter(VERBS[verb].world for verb, _, _ in wanted)
    shares: list[list[tuple[str, str, int]]] = [[] for _ in range(workers)]
    for world, _ in worlds.most_common():
        min(shares, key=len).extend(one for one in wanted if VERBS[one[0]].world == world)
    outcomes: list[Outcome] = []

    def work(share: list[tuple[str, str, int]]) -> None:
        if not share:
            return
        worker = Worker()
        try:
            for verb, fault, number in share:
                try:
                    run = worker.run_of(verb, fault, number)
                    tries = 0
                    while run is None:  # there is no such call: another fault instead
                        tries += 1
                        run = worker.run_of(verb, random.Random(number + tries).choice(fits(verb)), number)
                    outcomes.append(worker.play(run))
                except Exception:  # noqa: BLE001 - one run less, and all others go on
                    lost = f"the run itself failed: {traceback.format_exc()}"
                    outcomes.append(Outcome(Run(verb, Strike(fault, "", 0)), lost))
        finally:
            worker.close()

    with ThreadPoolExecutor(workers) as pool:
        works = [pool.submit(work, share) for share in shares]
        seen = 0
        while not all(one.done() for one in works) or seen < len(outcomes):
            while seen < len(outcomes):
                yield outcomes[seen]
                seen += 1
            time.sleep(0.05)
        for one in works:
            one.result()
