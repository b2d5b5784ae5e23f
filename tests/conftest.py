"""What all tests share: a test that carries no other marker of pyproject.toml is quick."""

from __future__ import annotations

import gc

import kinds
import pytest
from hypothesis import HealthCheck, settings
from labs import base, first, lab, short  # noqa: F401 - fixtures

from vmsnap_nb.system.orphans import collect_orphans

SLOW = frozenset({"system", "guest", "notebook", "browser"})


# On a busy machine an example may take longer than usual, by no fault of ours.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure() -> None:
    # What a test's own processes leave behind is collected at once, also on machines whose process 1 takes its time.
    collect_orphans()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW.isdisjoint(mark.name for mark in item.iter_markers()):
            item.add_marker(pytest.mark.quick)
    # The quick ones last: then no process is left alone with a long file while the others have nothing to do.
    items.sort(key=lambda item: item.get_closest_marker("quick") is not None)


def pytest_collection_finish() -> None:
    # All that was loaded stays to the end: to look through it again and again takes some of the processor's time.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    kinds.save()
