"""Who may read files, also where nothing tells the names of users and groups."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vmsnap_nb.system.files.readers import permits


@pytest.mark.parametrize("lacks", [False, True])
def test_owner_and_group_have_names_or_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lacks: bool) -> None:
    """Python for browsers lacks the two modules that know the names."""
    path = tmp_path / "image"
    path.write_bytes(b"")
    path.chmod(0o640)
    os.chown(path, os.geteuid(), os.getegid())
    if lacks:
        monkeypatch.setitem(sys.modules, "pwd", None)
        monkeypatch.setitem(sys.modules, "grp", None)
        wanted = f"uid {os.geteuid()}", f"gid {os.getegid()}"
    else:
        import pwd

        wanted = pwd.getpwuid(os.geteuid()).pw_name, ""  # the group that has the same name, or is of the system
    permit = permits([str(path)])[str(path)]
    assert (permit.user, permit.group) == wanted
    assert (permit.owner, permit.everyone) == (os.geteuid(), False)
