"""Switches of QEMU to another image of which libvirt hears nothing."""

from __future__ import annotations

import json
from pathlib import Path

import libvirt_qemu

from vmsnap_nb.live.guest import Guest


def switch(guest: Guest, path: Path) -> None:
    """Let QEMU write to a new overlay, of which libvirt hears nothing: as if that was killed in between."""
    source = guest.domain().disks[0].source
    answer = libvirt_qemu.qemuMonitorCommand(guest.handle.domain, '{"execute": "query-named-block-nodes"}', 0)
    nodes = json.loads(answer)["return"]
    node = next(one["node-name"] for one in nodes if (one["file"], one["drv"]) == (source, "qcow2"))
    arguments = {"node-name": node, "snapshot-file": str(path), "snapshot-node-name": "mine", "format": "qcow2"}
    command = {"execute": "blockdev-snapshot-sync", "arguments": arguments}
    assert "error" not in libvirt_qemu.qemuMonitorCommand(guest.handle.domain, json.dumps(command), 0)
