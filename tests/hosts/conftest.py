"""Each test runs on a host with a private system libvirtd: one for the whole run, emptied after every test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.devices import device  # noqa: F401 - a fixture
from support.hosts import SystemLibvirt, clear, system_libvirt

from vmsnap_nb.system.libvirt.library import library


@pytest.fixture(scope="session")
def _first() -> Iterator[SystemLibvirt]:
    with system_libvirt() as host:
        yield host


@pytest.fixture(scope="session")
def _second() -> Iterator[SystemLibvirt]:
    with system_libvirt() as host:
        yield host


def _emptied(host: SystemLibvirt) -> Iterator[SystemLibvirt]:
    yield host
    with host.entered():
        connection = library().open("qemu:///system")
        clear(connection)
        connection.close()


@pytest.fixture(autouse=True)
def system(_first: SystemLibvirt) -> Iterator[SystemLibvirt]:
    """The host on which the test runs, as root."""
    with _first.entered():
        yield from _emptied(_first)


@pytest.fixture
def other(_second: SystemLibvirt) -> Iterator[SystemLibvirt]:
    """Another host."""
    yield from _emptied(_second)


@pytest.fixture
def connection(system: SystemLibvirt) -> Iterator[Any]:
    """libvirt's own handle of the host, as root has it."""
    handle = library().open("qemu:///system")
    yield handle
    handle.close()
