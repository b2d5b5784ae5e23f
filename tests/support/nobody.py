"""Work without the rights of root, also when the tests run as root."""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NOBODY = 65534


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """Return a folder that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        closed = Path(folder, "closed")
        if closed.exists():
            closed.chmod(0o755)


def as_nobody(work: Callable[[], object]) -> dict[str, Any]:
    """Do some work in another process without the rights of root, and give its result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writer, json.dumps(work()).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return dict(json.loads(answer))
