"""A guest that writes all the time, with checksums, while its chain is merged below it."""

from __future__ import annotations

import pytest

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest

WRITER = """
mkdir -p /load; rm -f /load/stop /load/done
(
  n=0
  while [ ! -e /load/stop ]; do
    n=$((n+1)); f=/load/$((n % 24))
    head -c 200000 /dev/urandom > $f; sync; md5sum < $f > $f.sum
  done
  echo $n > /load/new; mv /load/new /load/done
) > /dev/null 2>&1 &
"""
CHECK = """
bad=0; seen=0; echo 3 > /proc/sys/vm/drop_caches
for s in /load/*.sum; do seen=$((seen+1)); f=${s%.sum}; [ "$(md5sum < $f)" = "$(cat $s)" ] || bad=$((bad+1)); done
echo $seen $bad $(cat /load/done)
"""


def test_nothing_differs_while_a_guest_writes(lab: Lab, base: Image) -> None:
    guest = lab.guest("load", backing=base).start()
    try:
        for name in ("one", "two", "three", "four"):
            guest.execute(f"head -c 3000000 /dev/urandom > /{name}; md5sum /{name} >> /sums; sync").check()
            assert guest.snapshot(name, kind="external-disk").run(progress=False).as_predicted
        layers = [image.path for image in guest.chain()]
        assert len(layers) == 6
        guest.execute(WRITER).check()
        plans = [
            lambda: guest.commit(top=layers[3], base=layers[2]),  # between others
            lambda: guest.pull(base=layers[2], remove=True),  # a part of the chain
            lambda: guest.commit(base=layers[2], keep_active=True),
            lambda: guest.commit(base=layers[2]),  # with pivot
        ]
        for plan in plans:
            report = plan().run(progress=False)
            assert report.as_predicted, report.differences
        assert [image.path for image in guest.chain()] == [layers[0], *layers[1:3]]
        # The records that no longer mean anything are forgotten; no record is stale.
        assert {row.status for row in guest.snapshots()} <= {"ok"}
        guest.execute("until [ -e /load/5.sum ]; do sleep 0.1; done; touch /load/stop").check()
        guest.execute("while [ ! -e /load/done ]; do sleep 0.1; done; sync", timeout=60).check()
        seen, bad, written = map(int, guest.execute(CHECK, timeout=60).check().stdout.split())
        assert seen > 3
        assert written > 3
        assert bad == 0
        guest.execute("md5sum -c /sums").check()
        # And so it is after another start.
        guest.shutdown()
        guest.start()
        seen, bad, _ = map(int, guest.execute(CHECK, timeout=60).check().stdout.split())
        assert bad == 0
        guest.execute("md5sum -c /sums").check()
    finally:
        guest.destroy()
