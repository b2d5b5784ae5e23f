"""What all tests share: a test that carries no other marker of pyproject.toml is quick."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support import kinds
from support.labs import base, booted, first, lab, short  # noqa: F401 - fixtures
from support.nobody import nobodys_folder  # noqa: F401 - a fixture

from vmsnap_nb.system.reaper import collect_orphans

BY_FIRST = frozenset(
    f"tests/{name}.py"
    for name in (
        "lab/test_agent",
        "live/guest/test_boot",
        "live/guest/test_commands",
        "live/guest/test_walkthrough",
        "live/snapshot/test_running",
    )
)
"""The files whose tests use the guest `first`."""
SLOW = frozenset({"system", "guest", "notebook", "browser", "hosts"})

# What tests compare is English, whatever the locale of this machine is.
os.environ["VMSNAP_LANG"] = "en"

# What nbformat loads would build forty parsers for addresses that nobody here checks: a second in each process.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# On a busy machine an example may take longer than usual, by no fault of ours.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure() -> None:
    # What a test's own processes leave behind is collected at once, also on machines whose process 1 takes its time.
    collect_orphans()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Load no file for the quick tests that says of itself that it has none."""
    if config.getoption("markexpr") != "quick" or not collection_path.is_file():
        return None
    marks = re.search(r"(?m)^pytestmark = (.*)$", collection_path.read_text())
    return True if marks and SLOW & set(re.findall(r"pytest\.mark\.(\w+)", marks[1])) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW.isdisjoint(mark.name for mark in item.iter_markers()):
            item.add_marker(pytest.mark.quick)
    # The quick ones last: then no process is left alone with a long file while the others have nothing to do.
    items.sort(key=lambda item: item.get_closest_marker("quick") is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give files to processes: those that use the same guest go to the same one, which boots it."""
    from xdist.scheduler import LoadFileScheduling

    class ByGuest(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "first" if file in BY_FIRST else file

    return ByGuest(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    # All that was loaded stays to the end: to look through it again and again takes some of the processor's time.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    kinds.save()
