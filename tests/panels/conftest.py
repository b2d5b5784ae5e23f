"""What tests of panels share: images, a forest of them, a guest, and panels that are closed in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from support.guests import forget_records
from support.images import filled

import vmsnap_nb as vs
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.panels.panel import Panel


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """RootBase <- Snap-1 <- Snap-2, and RootBase <- Other."""
    base = filled(tmp_path / "RootBase.qcow2")
    first = filled(tmp_path / "Snap-1.qcow2", base)
    return {
        "base": base,
        "first": first,
        "second": filled(tmp_path / "Snap-2.qcow2", first),
        "other": filled(tmp_path / "Other.qcow2", base),
    }


@pytest.fixture
def forest(images: dict[str, Path], tmp_path: Path) -> LiveForest:
    return vs.scan(tmp_path)


@pytest.fixture
def opened() -> Iterator[list[Panel]]:
    panels: list[Panel] = []
    yield panels
    for panel in panels:
        panel.close()


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    guest = lab.guest(f"panel-{uuid4().hex[:6]}", backing=base)
    yield guest
    forget_records(guest)
    guest.undefine()
