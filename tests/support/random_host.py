"""A random host, and a random verb on it: either it is refused, or everything that anything needs reads as before.

``python -m support.random_host --runs 500 --seed 1`` (root) prints how the runs ended; a seed repeats a run.
What is needed is found without this package: by libvirt's own XML of guests, snapshots and saved memory, and by what
dirty bitmaps have recorded. In a fifth of the runs the verb is a plain user's, in group libvirt, who cannot read all.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import vmsnap_nb as vs
from support.bitmaps import add, recorded
from support.commands import run
from support.hosts import (
    IMAGES,
    MEMBER,
    SystemLibvirt,
    clear,
    define,
    file_disk,
    pool,
    system_libvirt,
    volume_disk,
)
from support.images import MIB, create, luks, write
from vmsnap_nb.errors import PlanRefusedError, VmsnapError
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.system.libvirt.library import library

SIZE = 4 * MIB
ONE, TWO, LINK, BOUND = (IMAGES / name for name in ("one", "two", "link", "bound"))
"""Two folders, and other names of the first one: by a symbolic link, and by a bind mount."""

ATTEMPTS = 8
"""To draw a verb that makes sense on a host."""

Readings = dict[tuple[str, ...], str]
"""What is needed, by what needs it: the checksum of what that reads."""


@dataclass
class World:
    """What was made, before the verb; the user who performs that has no connection of root's."""

    chance: random.Random
    connection: Any = None
    images: list[Path] = field(default_factory=list)
    parent: dict[Path, Path] = field(default_factory=dict)
    formats: dict[Path, str] = field(default_factory=dict)
    guests: list[str] = field(default_factory=list)
    snapshots: list[tuple[str, str]] = field(default_factory=list)

    @property
    def leaves(self) -> list[Path]:
        bases = set(self.parent.values())
        return [path for path in self.images if path not in bases]


@dataclass(frozen=True)
class Performed:
    """What came of a verb, and what its plan says of that; as JSON has it where another user performed it."""

    verb: str
    result: str  # "done", "refused", "failed" or "nothing"
    why: str = ""
    guest: str = ""
    records: tuple[tuple[str, str], ...] = ()  # the snapshots that stay, by guest and name
    concerns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How one run has ended."""

    seed: int
    verb: str
    result: str
    why: str = ""
    lost: tuple[str, ...] = ()
    user: str = "root"


# -- a host ------------------------------------------------------------------------------------------------


def build(world: World) -> None:
    """Make images, pools, guests, snapshots and saved memory."""
    for folder in (ONE, TWO, BOUND):
        folder.mkdir(exist_ok=True)
    if not LINK.is_symlink():
        LINK.symlink_to("one")
    subprocess.run(["mount", "--bind", str(ONE), str(BOUND)], check=True)
    _images(world)
    for name, folder in (("one", ONE), ("two", TWO)):
        pool(world.connection, name, folder, active=world.chance.random() < 0.8)
    _guests(world)
    for name in world.guests:
        _snapshots(world, name)
    for name in world.guests:
        _saved(world, name)


def _images(world: World) -> None:
    chance = world.chance
    for number in range(chance.randint(3, 7)):
        folder = chance.choice((ONE, ONE, TWO))
        if number and chance.random() < 0.06:
            luks("qcow2", folder / f"secret-{number}.qcow2", SIZE)  # nobody here has its key
            continue
        if not number or not world.images or chance.random() < 0.15:
            format = chance.choice(("qcow2", "raw"))
            path = create(folder / f"base-{number}.{format}", size=SIZE, format=format)
        else:
            format, below = "qcow2", chance.choice([world.images[-1], *world.images])
            path = folder / f"disk-{number}.qcow2"
            create(path, reference(world, path, below), backing_format=world.formats[below], size=SIZE)
            world.parent[path] = below
        place = number * 256 + chance.choice((0, 128))
        write(path, f"write -q -P {number + 1} {place}k 128k", f"write -q -P {number + 1} 3M 64k", format=format)
        if format == "qcow2" and chance.random() < 0.2:
            add(path, "kept")
            write(path, f"write -q -P {number + 11} {place}k 64k")
        if chance.random() < 0.2:
            path.chmod(0o444)
        world.images.append(path)
        world.formats[path] = format


def named(world: World, path: Path) -> Path:
    """Return one of the names of an image."""
    if path.parent != ONE:
        return path
    return world.chance.choice((ONE, ONE, LINK, BOUND)) / path.name


def reference(world: World, path: Path, below: Path) -> str:
    """Return a way in which the header of an image can name another one."""
    name, way = named(world, below), world.chance.randrange(8)
    if way == 0:
        return os.path.relpath(name, path.parent)
    if way == 1:
        return str(name.parent / ".." / name.parent.name / name.name)
    if way == 2:
        inner = {"driver": "file", "filename": str(name)}
        return "json:" + json.dumps({"driver": world.formats[below], "file": inner})
    if way in (3, 4):  # with options, and a part of it
        part = {"driver": "raw", "offset": 0, "size": SIZE} if world.formats[below] == "raw" else {"driver": "qcow2"}
        return "json:" + json.dumps({**part, "file": {"driver": "file", "filename": str(name), "locking": "auto"}})
    if way == 5 and not (below.parent / f"hard-{below.name}").exists():
        hard = below.parent / f"hard-{below.name}"
        hard.hardlink_to(below)
        return str(hard)
    return str(name)


def _disk(world: World, path: Path) -> str:
    active = {found.name() for found in world.connection.listAllStoragePools() if found.isActive()}
    if path.parent.name in active and world.chance.random() < 0.3:
        world.connection.storagePoolLookupByName(path.parent.name).refresh()
        return volume_disk(path.parent.name, path.name, format=world.formats[path])
    return file_disk(named(world, path), format=world.formats[path])


def _guests(world: World) -> None:
    chance, libvirt = world.chance, library()
    for number, path in enumerate(world.leaves):
        if chance.random() < 0.25:
            continue
        name = f"guest-{number}"
        used = path if chance.random() < 0.9 else chance.choice(world.images)
        domain = define(world.connection, name, _disk(world, used))
        world.guests.append(name)
        if not used.stat().st_mode & 0o200 or chance.random() < 0.55:
            continue
        with contextlib.suppress(libvirt.libvirtError):  # as with a lock of another guest
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        if domain.isActive() and chance.random() < 0.2:
            other = chance.choice(world.images)
            xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            root = ET.fromstring(xml)
            disk = root.find("devices/disk")
            assert disk is not None
            new = ET.fromstring(file_disk(other, format=world.formats[other]))
            devices = root.find("devices")
            assert devices is not None
            devices.remove(disk)
            devices.append(new)
            world.connection.defineXML(ET.tostring(root, encoding="unicode"))
        elif domain.isActive() and chance.random() < 0.15:
            domain.undefine()


def _snapshots(world: World, name: str) -> None:
    chance, libvirt = world.chance, library()
    domain = world.connection.lookupByName(name)
    for number in range(chance.choice((0, 0, 0, 1, 1, 2, 3))):
        snapshot = f"s{number}"
        external = chance.random() < 0.7
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY if external else 0
        file = chance.choice((ONE, TWO)) / f"{name}.{snapshot}.qcow2"
        disk = f"<disk name='vda' snapshot='external'><source file='{file}'/></disk>" if external else ""
        xml = f"<domainsnapshot><name>{snapshot}</name>{f'<disks>{disk}</disks>' if disk else ''}</domainsnapshot>"
        with contextlib.suppress(libvirt.libvirtError):  # a raw disk, say
            domain.snapshotCreateXML(xml, flags)
            world.snapshots.append((name, snapshot))
            if external and not domain.isActive():
                with contextlib.suppress(AssertionError):  # another guest writes to an image below
                    write(file, f"write -q -P {100 + number} {2048 + number * 64}k 64k")


def _saved(world: World, name: str) -> None:
    libvirt = library()
    domain = world.connection.lookupByName(name)
    if domain.isActive() and domain.isPersistent() and world.chance.random() < 0.15:
        with contextlib.suppress(libvirt.libvirtError):
            domain.managedSave()


# -- what is needed ----------------------------------------------------------------------------------------


def needed(connection: Any) -> Readings:
    """Return what everything reads that anything on the host needs."""
    libvirt, read = library(), functools.cache(reads)
    found: Readings = {**_bitmaps(connection), **_encrypted()}
    for domain in connection.listAllDomains():
        name = domain.name()
        if domain.isActive():
            for target, source in sources(connection, domain.XMLDesc()):
                found["live", name, target] = read(*source)
        if domain.isPersistent():
            for target, source in sources(connection, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)):
                found["next start", name, target] = read(*source)
        if domain.hasManagedSaveImage():
            for target, source in sources(connection, domain.managedSaveGetXMLDesc()):
                found["managed save", name, target] = read(*source)
        for record in domain.listAllSnapshots():
            root = ET.fromstring(record.getXMLDesc())
            then = root.find("domain")
            held = {disk.get("name"): disk.get("snapshot") for disk in root.iterfind("disks/disk")}
            if then is None:
                continue
            for target, source in sources(connection, ET.tostring(then, encoding="unicode")):
                if held.get(target) != "no":
                    inside = record.getName() if held.get(target) == "internal" else None
                    found["snapshot", name, record.getName(), target] = read(*source, inside)
    return found


def _bitmaps(connection: Any) -> Readings:
    """Return what the dirty bitmaps of images have recorded that no guest has open: then the file says all of it."""
    running = [domain.XMLDesc() for domain in connection.listAllDomains() if domain.isActive()]
    is_open = {
        Path(path).stat().st_ino for xml in running for _, (path, _) in sources(connection, xml) if Path(path).exists()
    }
    paths = (path for folder in (ONE, TWO) for path in folder.glob("*.qcow2") if not path.name.startswith("hard-"))
    return {
        ("bitmap", path.name, name): repr(sorted(places))
        for path in paths
        if path.stat().st_ino not in is_open
        for name, places in recorded(path).items()
    }


def _encrypted() -> Readings:
    """Return the content of the files that nobody here can open."""
    paths = (path for folder in (ONE, TWO) for path in folder.glob("secret-*.qcow2"))
    return {("encrypted", path.name): hashlib.sha1(path.read_bytes()).hexdigest() for path in paths}


def sources(connection: Any, xml: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the disks of a domain XML: the target, and the file with its format."""
    for disk in ET.fromstring(xml).iterfind("devices/disk"):
        source, target, driver = disk.find("source"), disk.find("target"), disk.find("driver")
        assert target is not None
        if source is None:
            continue
        path = source.get("file")
        if path is None:
            folder = {"one": ONE, "two": TWO}[source.get("pool", "")]
            path = str(folder / source.get("volume", ""))
        yield target.get("dev", ""), (path, "raw" if driver is None else driver.get("type", "raw"))


def reads(path: str, format: str, inside: str | None = None) -> str:
    """Return the checksum of a disk, also while a guest has it open; or what qemu-img says where it refuses."""
    raw = Path("/dev/shm") / f"vmsnap-random-{os.getpid()}"
    argv = ["qemu-img", "convert", "-U", *(("-l", inside) if inside else ()), "-f", format, "-O", "raw", path, str(raw)]
    try:
        done = run(*argv, check=False)
        if done.returncode:
            return f"refused: {done.stderr.strip()}"
        return hashlib.sha1(raw.read_bytes()).hexdigest()
    finally:
        raw.unlink(missing_ok=True)


# -- a verb ------------------------------------------------------------------------------------------------

Verb = Callable[[World, Host], LivePlan]


def _forest(host: Host) -> Any:
    return host.survey(ONE, TWO)


def _image(world: World) -> Path:
    made = [path for folder in (ONE, TWO) for path in sorted(folder.glob("*.*")) if not path.name.startswith(".")]
    return world.chance.choice(made or world.images)


def _commit(world: World, host: Host) -> LivePlan:
    forest, path = _forest(host), _image(world)
    below = [*forest.lineage(path)[1:]]
    base = world.chance.choice([None, *below])
    return forest.commit(path, base, remove=world.chance.random() < 0.5)


def _pull(world: World, host: Host) -> LivePlan:
    forest, path = _forest(host), _image(world)
    return forest.pull(path, world.chance.choice([None, *forest.lineage(path)[2:]]), remove=world.chance.random() < 0.5)


def _remove(world: World, host: Host) -> LivePlan:
    return _forest(host).remove(_image(world))


def _shorten(world: World, host: Host) -> LivePlan:
    keep = world.chance.randint(1, 3)
    return _forest(host).shorten(_image(world), keep=keep, remove=world.chance.random() < 0.5)


def _cleanup(world: World, host: Host) -> LivePlan:
    return _forest(host).cleanup()


def _overlay(world: World, host: Host) -> LivePlan:
    return _forest(host).overlay(world.chance.choice((ONE, TWO)) / "new.qcow2", backing=_image(world))


def _guest(world: World, host: Host) -> Any:
    return host.guest(world.chance.choice(world.guests))


def _layer(world: World, guest: Any) -> Any:
    return world.chance.choice([None, *guest.chain()])


def _guest_commit(world: World, host: Host) -> LivePlan:
    guest = _guest(world, host)
    return guest.commit(top=_layer(world, guest), base=_layer(world, guest), remove=world.chance.random() < 0.5)


def _guest_pull(world: World, host: Host) -> LivePlan:
    guest = _guest(world, host)
    return guest.pull(base=_layer(world, guest), remove=world.chance.random() < 0.5)


def _guest_shorten(world: World, host: Host) -> LivePlan:
    return _guest(world, host).shorten(keep=world.chance.randint(1, 3))


def _snapshot(world: World, host: Host) -> LivePlan:
    return _guest(world, host).snapshot("new", kind=world.chance.choice((None, "external-disk", "internal-disk")))


def _recorded(world: World, host: Host) -> tuple[Any, str]:
    name, snapshot = world.chance.choice(world.snapshots)
    return host.guest(name), snapshot


def _revert(world: World, host: Host) -> LivePlan:
    guest, snapshot = _recorded(world, host)
    return guest.revert(snapshot, to=world.chance.choice(("as-taken", "off")))


def _delete(world: World, host: Host) -> LivePlan:
    guest, snapshot = _recorded(world, host)
    return guest.delete_snapshot(snapshot, children=world.chance.choice(("keep", "also", "only")))


def _reconcile(world: World, host: Host) -> LivePlan:
    return _guest(world, host).reconcile()


IMAGE_VERBS: dict[str, Verb] = {
    "commit": _commit,
    "pull": _pull,
    "remove": _remove,
    "shorten": _shorten,
    "cleanup": _cleanup,
    "overlay": _overlay,
}
GUEST_VERBS: dict[str, Verb] = {
    "guest.commit": _guest_commit,
    "guest.pull": _guest_pull,
    "guest.shorten": _guest_shorten,
    "guest.snapshot": _snapshot,
    "guest.reconcile": _reconcile,
}
SNAPSHOT_VERBS: dict[str, Verb] = {"guest.revert": _revert, "guest.delete_snapshot": _delete}


def one_run(seed: int, connection: Any, system: SystemLibvirt) -> Outcome:
    """Make a host, perform a verb, and compare what is needed before and after."""
    world = World(random.Random(seed), connection)
    build(world)
    user = "root"
    if world.chance.random() < 0.2:
        user = MEMBER
        for folder in world.chance.choice(((), (ONE,), (TWO,), (ONE, TWO))):
            folder.chmod(0o700)
    before = needed(connection)
    made = json.dumps([f"{seed} verb", [str(path) for path in world.images], world.guests, world.snapshots])
    performed = perform(made) if user == "root" else _as_member(system, made)
    after = needed(connection)
    lost = tuple(_lost(performed, before, after))
    return Outcome(seed, performed.verb, performed.result, performed.why, lost, user)


def _as_member(system: SystemLibvirt, made: str) -> Performed:
    """Let a plain user perform a verb, in a process of its own."""
    code = "import sys\nfrom support.random_host import main_of_member\nmain_of_member(sys.argv[1])\n"
    done = system.python(code, made)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout.splitlines()[-1])
    return Performed(**{**values, "records": tuple(map(tuple, values["records"]))})


def main_of_member(made: str) -> None:
    """Perform a verb, and print what came of it."""
    print(json.dumps(asdict(perform(made))))


def perform(made: str) -> Performed:
    """Perform a random verb on a host that was made."""
    seed, images, guests, snapshots = json.loads(made)
    world = World(random.Random(seed), images=[*map(Path, images)], guests=guests, snapshots=[*map(tuple, snapshots)])
    verbs = {**IMAGE_VERBS, **(GUEST_VERBS if guests else {}), **(SNAPSHOT_VERBS if snapshots else {})}
    with vs.connect("qemu:///system") as host:
        for _ in range(ATTEMPTS):
            verb = world.chance.choice(sorted(verbs))
            plan, result, why = _run(verbs[verb], world, host)
            if result != "nothing":
                break
    if plan is None or result in {"refused", "nothing"}:
        return Performed(verb, result, why)
    return Performed(
        verb,
        result,
        why,
        str(getattr(plan.request, "guest", "")),
        tuple((record.guest, record.name) for record in plan.after.records),
        tuple(dict.fromkeys(concern.name for concern in plan.concerns)),
    )


def _run(verb: Verb, world: World, host: Host) -> tuple[LivePlan | None, str, str]:
    """Plan a verb, and run it; ``nothing`` where what was drawn makes no sense."""
    plan: LivePlan | None = None
    try:
        plan = verb(world, host)
        report = plan.run(progress=False)
    except PlanRefusedError as error:
        return plan, "refused", str(error.reason)
    except VmsnapError as error:
        return plan, "nothing" if plan is None else "failed", f"{type(error).__name__}: {error}"
    return plan, "done" if report.as_predicted else "otherwise than predicted", "; ".join(report.differences)


def _lost(performed: Performed, before: Readings, after: Readings) -> Iterator[str]:
    """Yield what reads otherwise than before, or is not known any more, though the verb does not say so."""
    going: set[tuple[str, ...]] = set()
    verb, concerns = performed.verb, set(performed.concerns)
    if performed.result not in {"refused", "nothing"}:
        if verb == "guest.revert":  # its guest gets other disks, and keeps what it had as a snapshot
            own = {"live", "next start", "managed save"}
            going = {key for key in before if key[0] in own and key[1] == performed.guest}
        # A snapshot that is given up must be named.
        if verb in SNAPSHOT_VERBS or verb == "guest.reconcile" or "state-lost" in concerns:
            going |= {key for key in before if key[0] == "snapshot" and (key[1], key[2]) not in performed.records}
        if "backup-chain" in concerns:
            going |= {key for key in before if key[0] == "bitmap"}
    for key, value in before.items():
        if key not in going and after.get(key) != value:
            yield f"{' of '.join(reversed(key))}: {value[:80]} -> {after.get(key, 'gone')[:80]}"


# -- all of it ---------------------------------------------------------------------------------------------


def emptied(connection: Any) -> None:
    """Remove what a run has made."""
    subprocess.run(["umount", "-l", str(BOUND)], check=False)
    for folder in (ONE, TWO):
        folder.chmod(0o755)
    clear(connection)


def runs(seeds: range, tell: Callable[[Outcome], None]) -> None:
    """Make runs on a host of their own."""
    with system_libvirt() as system, system.entered():
        connection = library().open("qemu:///system")
        for seed in seeds:
            try:
                tell(one_run(seed, connection, system))
            finally:
                emptied(connection)
        connection.close()


def main() -> None:
    """Make runs, and print how they ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    users: Counter[str] = Counter()
    lost = 0

    def tell(outcome: Outcome) -> None:
        nonlocal lost
        counts[outcome.verb, outcome.result] += 1
        users[outcome.user] += 1
        if outcome.lost or options.verbose or outcome.result in {"failed", "otherwise than predicted"}:
            print(f"seed {outcome.seed} ({outcome.user}): {outcome.verb}: {outcome.result}: {outcome.why}", flush=True)
        for line in outcome.lost:
            print(f"  LOST {line}", flush=True)
        lost += bool(outcome.lost)

    with contextlib.suppress(KeyboardInterrupt):  # what there is by then counts
        runs(range(options.seed, options.seed + options.runs), tell)
    results = sorted({result for _, result in counts})
    print(f"{'verb':<24}" + "".join(f"{result:>26}" for result in results))
    for verb in sorted({verb for verb, _ in counts}):
        print(f"{verb:<24}" + "".join(f"{counts[verb, result]:>26}" for result in results))
    performers = ", ".join(f"{number} of {user}" for user, number in sorted(users.items()))
    print(f"{sum(counts.values())} hosts with seeds from {options.seed} on ({performers}), {lost} with a loss")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    assert shutil.which("qemu-img")
    main()
