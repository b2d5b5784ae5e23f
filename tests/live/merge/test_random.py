"""Random forests of real images, and random merges of them: what survives reads the same, or we refused for a reason.

`VMSNAP_MERGE_EXAMPLES=500 pytest tests/live/merge/test_random.py -s` tries more of them; the counts are printed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from support.commands import shell
from support.content import content, content_or_refusal
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.forest import Forest

pytestmark = pytest.mark.system

EXAMPLES = int(os.environ.get("VMSNAP_MERGE_EXAMPLES", "12"))
MOST = 7
OWN = 2 * MIB
"""Each image writes in a part of its own, which no other image touches even with the largest clusters: so whatever
reads one layer too many, or one too few, can be told."""
SHARED = 4 * MIB
SIZE = MOST * OWN + SHARED
COUNTS: Counter[str] = Counter()


@dataclass(frozen=True)
class Spec:
    """One image of a random forest."""

    parent: int
    size: int
    cluster: int
    kind: str
    relative: bool
    snapshot: bool
    writes: tuple[tuple[str, int, int], ...]


@st.composite
def specs(draw: st.DrawFn) -> list[Spec]:
    count = draw(st.integers(3, MOST))
    found: list[Spec] = []
    for number in range(count):
        # Mostly chains, sometimes branches.
        parent = -1 if number == 0 else draw(st.sampled_from([number - 1] * 3 + list(range(number))))
        kind = draw(st.sampled_from(["v3", "v3", "v3", "extended", "v2", "raw" if parent < 0 else "v3"]))
        cluster = draw(st.sampled_from([65536, 65536, 4096, 2 * MIB]))
        if kind == "extended":
            cluster = max(cluster, 65536)
        size = SIZE + draw(st.sampled_from([0, 0, 0, MIB, -MIB, 512, -512]))
        write_one = st.tuples(
            st.sampled_from(["write", "write", "zero", "discard"]),
            st.integers(0, SHARED // 512 - 1),
            st.sampled_from([1, 8, 128, 1000, 2048]),
        )
        writes = tuple(draw(st.lists(write_one, max_size=4)))
        snapshot = kind != "raw" and draw(st.integers(0, 9)) == 0
        found.append(Spec(parent, size, cluster, kind, draw(st.booleans()), snapshot, writes))
    return found


def build(folder: Path, images: list[Spec]) -> list[Path]:
    paths: list[Path] = []
    for number, spec in enumerate(images):
        path = folder / (f"{number}.raw" if spec.kind == "raw" else f"{number}.qcow2")
        paths.append(path)
        if spec.kind == "raw":
            path.touch()
            os.truncate(path, spec.size)
        else:
            options: dict[str, object] = {"cluster_size": spec.cluster}
            options |= {"extended": {"extended_l2": "on"}, "v2": {"compat": "0.10"}}.get(spec.kind, {})
            backing = backing_format = None
            if spec.parent >= 0:
                below = paths[spec.parent]
                backing = below.name if spec.relative else below
                backing_format = "raw" if images[spec.parent].kind == "raw" else "qcow2"
            create(path, backing, size=spec.size, backing_format=backing_format, **options)  # type: ignore[arg-type]
        format = "raw" if spec.kind == "raw" else "qcow2"
        if spec.snapshot:
            write(path, f"write -q -P {number + 100} {number * OWN + 65536} 4k")
            assert shell([f"qemu-img snapshot -c s {path}"], folder).returncode == 0
        commands = [f"write -q -P {number + 1} {number * OWN} 512"]
        commands += [f"write -q -P {number + 1} {spec.size - 4096 * (number + 1)} 512"]
        for what, start, length in spec.writes:
            place = MOST * OWN + start * 512
            size = min(length * 512, spec.size - place)
            if size > 0:
                command = {"write": f"write -q -P {number + 50}", "zero": "write -q -z", "discard": "discard -q"}[what]
                commands.append(f"{command} {place} {size}")
        write(path, *commands, format=format)
    return paths


def choose(forest: LiveForest, paths: list[Path], data: st.DataObject) -> LivePlan | None:
    """Draw a merge; None where what was drawn makes no sense."""
    verb = data.draw(st.sampled_from(["commit", "commit", "pull", "pull", "remove", "shorten"]), "verb")
    path = str(data.draw(st.sampled_from(paths[1:]), "image"))
    below = [*forest.lineage(path)[1:]]
    remove = data.draw(st.booleans(), "remove")
    try:
        if verb == "commit":
            base = data.draw(st.sampled_from(below or [path]), "base")
            return forest.commit(path, base, remove=remove, verify=data.draw(st.booleans(), "verify"))
        if verb == "pull":
            return forest.pull(path, data.draw(st.sampled_from([*below[1:], None]), "base"), remove=remove)
        if verb == "remove":
            return forest.remove(path, method=data.draw(st.sampled_from([None, 1, 2]), "method"))
        return forest.shorten(
            path,
            keep=data.draw(st.integers(1, 3), "keep"),
            top_may_go=data.draw(st.booleans(), "top_may_go"),
            remove=remove,
        )
    except InvalidRequestError:
        return None


def readings(forest: Forest, paths: list[str]) -> dict[tuple[str, str], str]:
    """What each image reads, and each internal snapshot."""
    found: dict[tuple[str, str], str] = {}
    for path in paths:
        image = forest[path]
        found[path, ""] = content(path, image.format or "raw")
        for snapshot in image.snapshots:
            found[path, snapshot.name] = content(path, "qcow2", snapshot=snapshot.name)
    return found


def survivors(plan: LivePlan) -> list[str]:
    """Images that a plan promises to leave as they read: all but the bases that take data, and what it spoils."""
    taking = {move.target for move in plan.moves if move.label == "commit data"}
    return [path for path, image in plan.after.images.items() if image.status == "ok" and path not in taking]


def leaves_below(forest: Forest, gone: set[str]) -> list[str]:
    """Disks that guests may have: images on which nothing stands, but what is merged away."""
    return [path for path in forest.images if path not in gone and set(forest.children(path)) <= gone]


@pytest.fixture(scope="module", autouse=True)
def counts(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    lines = ", ".join(f"{what}: {count}" for what, count in sorted(COUNTS.items()))
    with capture.global_and_fixture_disabled():
        print(f"\nmerges of random forests: {lines}")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # making an example smaller would take many minutes
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=EXAMPLES < 100,
)
@given(images=specs(), data=st.data())
@pytest.mark.timeout(7200)
def test_what_survives_reads_the_same(images: list[Spec], data: st.DataObject) -> None:
    folder = Path(tempfile.mkdtemp(prefix="vmsnap-merge-", dir="/dev/shm"))
    try:
        paths = build(folder, images)
        forest = vs.scan(folder)
        plan = choose(forest, paths, data)
        if plan is None:
            COUNTS["requests without sense"] += 1
        elif plan.refused:
            names = sorted({c.name for c in plan.concerns if c.level == "refuse"})
            event(f"refused: {', '.join(names)}")
            COUNTS["refused"] += 1
            force(plan, forest, folder)
        else:
            event("legal")
            COUNTS["legal"] += 1
            perform(plan, forest)
    finally:
        shutil.rmtree(folder)


def perform(plan: LivePlan, forest: LiveForest) -> None:
    before = readings(forest, survivors(plan))
    tops = {step.image: step for step in plan.steps if step.action == "commit"}
    ends = {
        entry.base: content(entry.top, size=forest[entry.top].virtual_size)
        for step in tops.values()
        for entry in [step.entry]  # type: ignore[attr-defined]
        if not forest.children(entry.top)
    }
    predicted = plan.bytes_to_copy
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    after = forest.refresh()
    assert readings(after, survivors(plan)) == before
    for base, was in ends.items():
        assert content(base, forest[base].format or "raw", size=int(was.split()[0])) == was
    for path in plan.invalid:
        if path not in plan.unlinks:
            assert after[path].status == "invalid"
            assert "merged into another image" in content_or_refusal(path)
    assert not forest.refresh().unfinished()
    assert predicted is not None
    COUNTS["bytes predicted"] += predicted
    COUNTS["images read before and after"] += len(before)


def force(plan: LivePlan, forest: LiveForest, folder: Path) -> None:
    """Do by hand what was refused: QEMU refuses too, or somebody's content changes."""
    # Whoever loses must be somebody whom the plan would have left alone; merged layers are not asked.
    gone = set(plan.invalid) | set(plan.unlinks) | {m.target for m in plan.moves if m.label == "commit data"}
    watched = [path for path in forest.images if path not in gone]
    lost = [path for path in gone if forest[path].snapshots]
    before = readings(forest, [*watched, *lost])
    done = shell(plan.commands, folder)
    now = {
        key: content_or_refusal(key[0], forest[key[0]].format or "raw", snapshot=key[1] or None)
        for key in before
        if key[0] in watched or key[1]
    }
    changed = [key for key in now if now[key] != before[key]]
    if done.returncode != 0 and not changed:
        COUNTS["refused by QEMU too"] += 1
        event(f"QEMU: {done.stderr.strip().rpartition(':')[2]}")
        return
    if not changed and {c.name for c in plan.concerns if c.level == "refuse"} == {"smaller-size"}:
        # A cluster of the base would come to light that is stored, and holds zeros: a map cannot tell.
        COUNTS["refused though stored zeros would do no harm"] += 1
        return
    assert changed, f"refused for nothing: {[c.what for c in plan.concerns if c.level == 'refuse']}"
    COUNTS["does damage when forced"] += 1
