"""What libvirt tells of images: hosts are asked at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from vmsnap_nb.system.libvirt.knowledge import Knowledge

pytestmark = pytest.mark.system


def test_no_host_waits_for_the_answer_of_another() -> None:
    both = threading.Barrier(2, timeout=20)

    class Slow:
        """A connection whose answers come as soon as both hosts were asked."""

        def listAllStoragePools(self, _: int = 0) -> list[Any]:  # noqa: N802 - a name of libvirt
            both.wait()
            return []

        def getAllDomainStats(self, *_: int) -> list[Any]:  # noqa: N802
            both.wait()
            return []

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Knowledge.list_all, [Knowledge(Slow(), ()) for _ in "ab"]))
