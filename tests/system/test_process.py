"""Programs that cannot be started."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.system import process
from vmsnap_nb.words.message import Message


def test_where_no_program_can_be_started_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "emscripten does not support processes.")  # as CPython's subprocess does there

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(MissingPartError, match="cannot start programs") as caught:
        process.run(("qemu-img", "info", os.devnull), tried=Message("read it"))
    assert "qemu-img" in str(caught.value.next_step)
