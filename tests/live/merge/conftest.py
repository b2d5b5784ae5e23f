"""What tests of merges of real images share."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.small_disk import small_disk

import vmsnap_nb as vs
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.host import Host
from vmsnap_nb.system.libvirt.library import library


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder in memory: these tests need files, not a disk."""
    path = Path(tempfile.mkdtemp(prefix="vmsnap-merge-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def small(folder: Path) -> Iterator[Path]:
    """Return a file system of 4 MiB."""
    with small_disk(folder / "small", "4m") as path:
        yield path


@pytest.fixture(scope="session")
def _host(lab: Lab) -> Host:
    return vs.connect(lab.uri)  # once: libvirt's embedded driver cannot be opened often


@pytest.fixture
def host(_host: Host) -> Iterator[Host]:
    """A host without guests, on which tests define what they want."""
    yield _host
    libvirt = library()
    for domain in _host.connection.listAllDomains():
        if domain.name().startswith("own-"):
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
