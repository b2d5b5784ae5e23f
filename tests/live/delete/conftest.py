"""What the tests of deletions while the guest runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.guests import discard
from support.paused import Paused

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.image import Image


@pytest.fixture
def paused(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Iterator[Paused]:
    one = Paused(lab, base, f"rm{abs(hash(request.node.nodeid)) % 10**6}")
    yield one
    discard(one.guest)
