"""Work in threads: how many there are at once."""

from __future__ import annotations

import threading
import time

import pytest

from vmsnap_nb.system.threads import TOTAL, in_threads, shared_by


@pytest.mark.parametrize(("hosts", "most"), [(1, 40), (32, TOTAL // 32), (1000, 1)])
def test_hosts_share_all_threads(hosts: int, most: int) -> None:
    seen: set[int] = set()

    def work(item: int) -> int:
        seen.add(threading.get_ident())
        time.sleep(0.001)
        return item * 2

    with shared_by(hosts):
        assert in_threads(work, range(80), 40) == [item * 2 for item in range(80)]
    assert len(seen) <= most
    assert threading.current_thread().ident not in seen
