"""libvirt is loaded on one core, and all threads may use every core afterwards."""

from __future__ import annotations

import os
import threading

from vmsnap_nb.system.libvirt.first_core import on_first_core


def test_a_thread_that_begins_meanwhile_is_not_kept_on_the_core() -> None:
    allowed = os.sched_getaffinity(0)
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    try:
        with on_first_core():
            assert os.sched_getaffinity(0) == {min(allowed)}
            thread.start()
            assert thread.native_id is not None
        assert os.sched_getaffinity(0) == allowed
        assert os.sched_getaffinity(thread.native_id) == allowed
    finally:
        end.set()
        thread.join()
