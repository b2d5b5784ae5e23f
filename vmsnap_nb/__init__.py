"""See, do and understand virtual machine snapshots in a notebook.

    import vmsnap_nb as vs

The names below are the whole public interface of this level; each is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; typing's own would take some milliseconds to load

if TYPE_CHECKING:
    from typing import Any

    from vmsnap_nb.course.ask import Prediction, Quiz, predict, quiz
    from vmsnap_nb.course.question import Outcome, Quizzed
    from vmsnap_nb.errors import (
        CommandError,
        ConcernWarning,
        GuestError,
        GuestNotReadyError,
        ImageError,
        InUseError,
        InvalidRequestError,
        LabBusyError,
        LabError,
        LibvirtError,
        MissingPartError,
        NoSpaceError,
        NotFoundError,
        NothingToDoError,
        PermissionDeniedError,
        PlanRefusedError,
        ReadOnlyError,
        StalePlanError,
        VmsnapError,
    )
    from vmsnap_nb.fleet.connect import connect
    from vmsnap_nb.fleet.fleet import Fleet
    from vmsnap_nb.lab.acceleration import Acceleration
    from vmsnap_nb.lab.exercises.check import Check
    from vmsnap_nb.lab.exercises.class_table import class_progress
    from vmsnap_nb.lab.exercises.hint import Hint
    from vmsnap_nb.lab.exercises.lines import Lines
    from vmsnap_nb.lab.lab import Lab
    from vmsnap_nb.live.chain import LiveChain
    from vmsnap_nb.live.forest import LiveForest, chain, create_overlay, scan
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Guests, Host
    from vmsnap_nb.live.job import Job, Progress
    from vmsnap_nb.live.leftovers import LiveLeftovers
    from vmsnap_nb.live.plan import LivePlan
    from vmsnap_nb.live.report import LiveReport
    from vmsnap_nb.model.blockmap import BlockMap
    from vmsnap_nb.model.by_host import ByHost, TablesByHost
    from vmsnap_nb.model.completed import Completed
    from vmsnap_nb.model.files import DiskLayer, FileChange, FileChanges, FileEntry, FileParts, Files, LostFiles
    from vmsnap_nb.model.forest import Chain, Forest
    from vmsnap_nb.model.guest import Disk, Disks, Domain, Use
    from vmsnap_nb.model.image import Bitmap, Image, InternalSnapshot
    from vmsnap_nb.model.image_check import ImageCheck
    from vmsnap_nb.model.leftovers import Leftover, Leftovers
    from vmsnap_nb.model.need import Need
    from vmsnap_nb.model.reference import Reference
    from vmsnap_nb.model.snapshot import Snapshot, SnapshotList, SnapshotLists, SnapshotRecord
    from vmsnap_nb.model.space import ImageSpace, InternalSpace, Space
    from vmsnap_nb.panels import panel
    from vmsnap_nb.plans.concern import Concern, Concerns
    from vmsnap_nb.plans.findings import Finding, Findings
    from vmsnap_nb.plans.freed import Freed
    from vmsnap_nb.plans.plan import Alternative, Move, Plan
    from vmsnap_nb.plans.report import Report, StepDone
    from vmsnap_nb.plans.step import Step
    from vmsnap_nb.words.language import language, set_language
    from vmsnap_nb.words.message import Message

__version__ = "0.1.0"

_NAMES = {
    "course.ask": ("Prediction", "Quiz", "predict", "quiz"),
    "course.question": ("Outcome", "Quizzed"),
    "errors": (
        "CommandError",
        "ConcernWarning",
        "GuestError",
        "GuestNotReadyError",
        "ImageError",
        "InUseError",
        "InvalidRequestError",
        "LabBusyError",
        "LabError",
        "LibvirtError",
        "MissingPartError",
        "NoSpaceError",
        "NotFoundError",
        "NothingToDoError",
        "PermissionDeniedError",
        "PlanRefusedError",
        "ReadOnlyError",
        "StalePlanError",
        "VmsnapError",
    ),
    "fleet.connect": ("connect",),
    "fleet.fleet": ("Fleet",),
    "lab.acceleration": ("Acceleration",),
    "lab.exercises.check": ("Check",),
    "lab.exercises.class_table": ("class_progress",),
    "lab.exercises.hint": ("Hint",),
    "lab.exercises.lines": ("Lines",),
    "lab.lab": ("Lab",),
    "live.chain": ("LiveChain",),
    "live.forest": ("LiveForest", "chain", "create_overlay", "scan"),
    "live.guest": ("Guest",),
    "live.host": ("Guests", "Host"),
    "live.job": ("Job", "Progress"),
    "live.leftovers": ("LiveLeftovers",),
    "live.plan": ("LivePlan",),
    "live.report": ("LiveReport",),
    "model.blockmap": ("BlockMap",),
    "model.by_host": ("ByHost", "TablesByHost"),
    "model.completed": ("Completed",),
    "model.files": ("DiskLayer", "FileChange", "FileChanges", "FileEntry", "FileParts", "Files", "LostFiles"),
    "model.forest": ("Chain", "Forest"),
    "model.guest": ("Disk", "Disks", "Domain", "Use"),
    "model.image": ("Bitmap", "Image", "InternalSnapshot"),
    "model.image_check": ("ImageCheck",),
    "model.leftovers": ("Leftover", "Leftovers"),
    "model.need": ("Need",),
    "model.reference": ("Reference",),
    "model.snapshot": ("Snapshot", "SnapshotList", "SnapshotLists", "SnapshotRecord"),
    "model.space": ("ImageSpace", "InternalSpace", "Space"),
    "panels": ("panel",),
    "plans.concern": ("Concern", "Concerns"),
    "plans.findings": ("Finding", "Findings"),
    "plans.freed": ("Freed",),
    "plans.plan": ("Alternative", "Move", "Plan"),
    "plans.report": ("Report", "StepDone"),
    "plans.step": ("Step",),
    "words.language": ("language", "set_language"),
    "words.message": ("Message",),
}
"""What each module has of them."""
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [
    "Acceleration",
    "Alternative",
    "Bitmap",
    "BlockMap",
    "ByHost",
    "Chain",
    "Check",
    "CommandError",
    "Completed",
    "Concern",
    "ConcernWarning",
    "Concerns",
    "Disk",
    "DiskLayer",
    "Disks",
    "Domain",
    "FileChange",
    "FileChanges",
    "FileEntry",
    "FileParts",
    "Files",
    "Finding",
    "Findings",
    "Fleet",
    "Forest",
    "Freed",
    "Guest",
    "GuestError",
    "GuestNotReadyError",
    "Guests",
    "Hint",
    "Host",
    "Image",
    "ImageCheck",
    "ImageError",
    "ImageSpace",
    "InUseError",
    "InternalSnapshot",
    "InternalSpace",
    "InvalidRequestError",
    "Job",
    "Lab",
    "LabBusyError",
    "LabError",
    "Leftover",
    "Leftovers",
    "LibvirtError",
    "Lines",
    "LiveChain",
    "LiveForest",
    "LiveLeftovers",
    "LivePlan",
    "LiveReport",
    "LostFiles",
    "Message",
    "MissingPartError",
    "Move",
    "Need",
    "NoSpaceError",
    "NotFoundError",
    "NothingToDoError",
    "Outcome",
    "PermissionDeniedError",
    "Plan",
    "PlanRefusedError",
    "Prediction",
    "Progress",
    "Quiz",
    "Quizzed",
    "ReadOnlyError",
    "Reference",
    "Report",
    "Snapshot",
    "SnapshotList",
    "SnapshotLists",
    "SnapshotRecord",
    "Space",
    "StalePlanError",
    "Step",
    "StepDone",
    "TablesByHost",
    "Use",
    "VmsnapError",
    "__version__",
    "chain",
    "class_progress",
    "connect",
    "create_overlay",
    "language",
    "panel",
    "predict",
    "quiz",
    "scan",
    "set_language",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        home = importlib.import_module(f"vmsnap_nb.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        from vmsnap_nb.system.packages import missing_module

        raise missing_module(name, error) from error
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _add_to_ipython() -> None:
    """Add what makes notebooks comfortable to the IPython that imports this; nothing is loaded for it elsewhere."""
    import sys

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        from vmsnap_nb.lab.in_ipython import install

        install(shell)


_add_to_ipython()


def load_ipython_extension(shell: Any) -> None:
    """Add the ``%%guest`` cell magic: ``%load_ext vmsnap_nb``; the import in a notebook does so, too."""
    from vmsnap_nb.lab.magic import register

    register(shell)
