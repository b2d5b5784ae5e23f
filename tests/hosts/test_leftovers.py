"""Where files that nothing needs were searched, on this host and from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img

import vmsnap_nb as vs

pytestmark = pytest.mark.hosts


def test_leftovers_say_in_which_folders_they_were_searched(connection: Any, system: SystemLibvirt) -> None:
    nowhere = "No folder was searched for unneeded files. Pass folders, or define and start a storage pool"
    qemu_img("create", "-q", "-f", "qcow2", "d.qcow2", "8M")
    define(connection, "g", file_disk(IMAGES / "d.qcow2"))
    own, far = vs.connect("qemu:///system"), vs.connect(system.uri)
    assert (repr(own.leftovers()), own.leftovers().to_text()) == ("<Leftovers: no folder was searched>", nowhere)
    assert own.leftovers(IMAGES).to_text() == f"No unneeded files were found in {IMAGES}"
    assert far.leftovers().to_text().startswith(nowhere)
    assert far.leftovers(IMAGES).to_text() == f"{nowhere}. 2 images or folders could not be read"
    pool(connection, "p", IMAGES)
    for found in (own.leftovers(), far.leftovers(), far.leftovers(IMAGES)):
        assert found.to_text() == f"No unneeded files were found in {IMAGES}"
        assert found.folders == (str(IMAGES),)
    with vs.connect({"a": system.uri}) as fleet:
        assert fleet.leftovers()["a"].folders == (str(IMAGES),)
    own.close()
    far.close()
