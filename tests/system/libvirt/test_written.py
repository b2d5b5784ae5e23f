"""What QEMU says of its disks is understood however it writes the name of an image."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vmsnap_nb.system.libvirt import written
from vmsnap_nb.system.libvirt.written import written_paths


def _device(filename: str, *, ro: bool = False) -> dict[str, Any]:
    return {"inserted": {"ro": ro, "file": filename, "image": {"filename": filename, "virtual-size": 1}}}


def test_names_with_options_are_paths_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # As QEMU writes it where libvirt has named the backing file itself, and the header names it otherwise.
    options = {"backing": {"driver": "qcow2"}, "driver": "qcow2", "file": {"driver": "file", "filename": "/i/base"}}
    devices = [_device("json:" + json.dumps(options)), _device("/i/other"), _device("/i/cdrom", ro=True)]
    monkeypatch.setattr(written, "_query", lambda _: devices)
    assert written_paths(None) == {"/i/base", "/i/other"}
