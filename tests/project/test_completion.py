"""Tab offers verbs and properties on every public object: IPython's completer is asked, with jedi, as in a notebook."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import IPCompleter, provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import vmsnap_nb as vs
from vmsnap_nb.lab.acceleration import Acceleration
from vmsnap_nb.lab.exercises.exercise import Aim
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.overlay.request import OverlayRequest
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import CreateOverlay
from vmsnap_nb.words.message import Message

pytestmark = pytest.mark.system


class Shell(InteractiveShell):
    """A shell that is no singleton, so that it stays in this test."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        made = Shell()
        made.history_manager.enabled = False
        yield made
        made.history_manager.end_session()


@pytest.fixture(scope="module")
def names(shell: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a user has in variables: one of every public class that needs no lab."""
    folder = tmp_path_factory.mktemp("images")
    base, top = folder / "Base.qcow2", folder / "Top.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "1M"], check=True)
    live = vs.scan(folder)
    live.overlay(top, "Base").run(progress=False)
    live = live.refresh()
    bound = live.overlay("New", "Top")
    job = bound.start()
    report = job.wait(60)
    forest = vs.Forest(live.images)
    request = OverlayRequest(paths=(str(folder / "Other.qcow2"),), backing=str(base))
    plan = request.plan(Reading(forest=forest))
    record = vs.SnapshotRecord("demo", "before", disks=(SnapshotDisk("vda", "internal", str(top)),))
    snapshots = vs.SnapshotList("demo", (vs.Snapshot(record),))
    host = vs.connect("test:///default", readonly=True)
    found = {
        "acceleration": Acceleration("tcg", "a test"),
        "bound": bound,
        "chain": forest.chain("Top"),
        "check": vs.Check("x", "X", (Aim(Message("A is there"), True),)),
        "completed": vs.Completed(0, "", ""),
        "concern": vs.Concern("in-use", "refuse", "A is held"),
        "concerns": plan.concerns,
        "disks": host.guest("test").disks(),
        "domain": host.domains()[0],
        "error": vs.NotFoundError("find it"),
        "file_change": vs.FileChange("/a", "added"),
        "file_changes": vs.FileChanges("x"),
        "file_entry": vs.FileEntry("/a"),
        "file_parts": vs.FileParts("x"),
        "files": vs.Files("x"),
        "lost_files": vs.LostFiles("x"),
        "forest": forest,
        "finding": vs.Finding("loop", "error", "A is based on itself", "/i/A"),
        "findings": live.findings(),
        "leftover": vs.Leftover("/i/A", "image"),
        "leftovers": live.leftovers(),
        "fleet": (fleet := vs.connect({"a": "test:///default"})),
        "by_host": fleet.survey(),
        "tables_by_host": fleet.space(),
        "freed": report.frees,
        "guests": host.guests(),
        "host": host,
        "image": forest["Top"],
        "job": job,
        "live": live,
        "live_chain": live.chain("Top"),
        "map_": live.blockmap("Top"),
        "need": vs.Need("snapshot", str(top), "demo", "before"),
        "plan": plan,
        "progress": job.progress,
        "record": record,
        "report": report,
        "snapshot": snapshots["before"],
        "snapshots": snapshots,
        "snapshot_lists": vs.SnapshotLists((snapshots,)),
        "space": live.space(),
        "image_space": live.space().images[0],
        "internal_space": vs.InternalSpace(str(top), "1", "before", exclusive=65536, vm_state_size=0),
        "step": bound.steps[0],
        "vm": host.guest("test"),
        "vs": vs,
    }
    assert isinstance(found["step"], CreateOverlay)
    shell.user_ns.update(found)
    return found


def offered(shell: Any, code: str) -> set[str]:
    completer = shell.Completer
    assert isinstance(completer, IPCompleter)
    assert completer.use_jedi
    with provisionalcompleter():
        return {completion.text for completion in completer.completions(code, len(code))}


def meant(kind: type) -> set[str]:
    """What a class has for its users: methods and properties with a docstring, and fields."""
    hidden = getattr(kind, "_unlisted", frozenset())
    members = {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
    return (members | set(getattr(kind, "__dataclass_fields__", ()))) - hidden


VARIABLES = (
    "acceleration",
    "bound",
    "chain",
    "check",
    "completed",
    "concern",
    "concerns",
    "disks",
    "domain",
    "error",
    "forest",
    "guests",
    "host",
    "image",
    "job",
    "live",
    "live_chain",
    "map_",
    "need",
    "plan",
    "progress",
    "record",
    "report",
    "snapshot",
    "snapshots",
    "snapshot_lists",
    "leftover",
    "leftovers",
    "finding",
    "findings",
    "fleet",
    "by_host",
    "tables_by_host",
    "freed",
    "space",
    "image_space",
    "internal_space",
    "step",
    "vm",
)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_completed(shell: Any, names: dict[str, Any], name: str) -> None:
    wanted = {"tried", "said", "next_step"} if name == "error" else meant(type(names[name]))
    assert wanted
    assert wanted <= offered(shell, f"{name}.")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("vs.Lab().guest('x').", vs.Guest),
        ("vs.Lab().base().", vs.Image),
        ("vs.Lab().scenario('merge').", vs.LiveForest),
        ("vs.Lab().check('x').", vs.Check),
        ("vs.connect('x').", vs.Host),
        ("vs.chain('x').", vs.LiveChain),
        ("vs.scan('x').", vs.LiveForest),
        ("vs.create_overlay('a', 'b').", vs.LivePlan),
        ("host.guest('x').", vs.Guest),
        ("live.overlay('a', 'b').", vs.LivePlan),
        ("live.chain('a').blockmap().", BlockMap),
        ("bound.run().", vs.LiveReport),
        ("bound.start().", vs.Job),
        ("bound.run().cleanup().", vs.LivePlan),
        ("vm.chain().", vs.LiveChain),
        ("vm.commit().", vs.LivePlan),
        ("vm.disks().", vs.Disks),
        ("vm.files('/').", vs.Files),
        ("vm.diff('x').", vs.FileChanges),
        ("vm.pull().lost_files().", vs.LostFiles),
        ("vm.chain().where('/a').", vs.FileParts),
        ("vm.execute('true').", vs.Completed),
        ("vm.pull().", vs.LivePlan),
        ("vm.revert('x').", vs.LivePlan),
        ("vm.shorten(keep=1).", vs.LivePlan),
        ("vm.snapshot().", vs.LivePlan),
        ("vm.snapshots().", vs.SnapshotList),
    ],
)
def test_the_result_of_a_call_is_completed(shell: Any, names: dict[str, Any], code: str, kind: type) -> None:
    assert meant(kind) <= offered(shell, code)


def test_the_package_offers_its_names(shell: Any, names: dict[str, Any]) -> None:
    assert set(vs.__all__) - {"__version__"} <= offered(shell, "vs.")


def test_names_of_images_are_offered_as_keys(shell: Any, names: dict[str, Any]) -> None:
    for code in ("chain['", "forest['", "live['"):
        assert {"Base", "Top"} <= {text.strip("'\"]") for text in offered(shell, code)}
    assert "before" in {text.strip("'\"]") for text in offered(shell, "snapshots['")}


@pytest.mark.parametrize("name", VARIABLES)
def test_dir_lists_what_is_meant_for_users(names: dict[str, Any], name: str) -> None:
    thing = names[name]
    if not isinstance(thing, BaseException) and hasattr(type(thing), "_unlisted"):
        assert set(dir(thing)) >= meant(type(thing))
        assert [found for found in dir(thing) if found.startswith("_")] == []
        assert {"build", "bind", "make", "tell", "edited"}.isdisjoint(dir(thing))
    else:
        assert meant(type(thing)) <= set(dir(thing))


def test_panels_are_completed(shell: Any, names: dict[str, Any]) -> None:
    from vmsnap_nb.panels import MergePanel, OverlayPanel

    for kind in (MergePanel, OverlayPanel):
        panel = kind(names["live"], every=0)
        shell.user_ns["panel"] = panel
        try:
            assert {"close", "refresh", "flow", "chain"} <= offered(shell, "panel.")
            assert {"propose", "confirm", "cancel", "wait"} <= offered(shell, "panel.flow.")
        finally:
            panel.close()


def test_no_property_is_annotated_with_a_literal() -> None:
    """With one of them jedi completes nothing of the whole object."""
    package = Path(vs.__file__).parent
    wrong = []
    for found in pkgutil.walk_packages([str(package)], "vmsnap_nb."):
        module = importlib.import_module(found.name)
        for kind in vars(module).values():
            if not isinstance(kind, type) or kind.__module__ != found.name:
                continue
            for name, member in vars(kind).items():
                if isinstance(member, property) and member.fget is not None:
                    try:
                        given = typing.get_type_hints(member.fget).get("return")
                    except NameError:  # it is known to type checkers alone
                        continue
                    if typing.get_origin(given) is typing.Literal:
                        wrong.append(f"{found.name}.{kind.__name__}.{name}")
    assert wrong == []
