"""The end of a lab that is interrupted (Ctrl-C, the notebook's stop button): it can be opened and ended again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.labs import run_python

pytestmark = pytest.mark.guest

CODE = """
from unittest.mock import patch

def interrupted(what, call):
    try:
        with patch(f"vmsnap_nb.lab.{what}", side_effect=KeyboardInterrupt):
            call()
    except KeyboardInterrupt:
        return vs.Lab(lab.root)
    raise AssertionError(what)

lab = vs.Lab(sys.argv[1])
lab.guest("one", backing=lab.base("RootBase"), boot="disk")
lab.guest("one").start()
lab = interrupted("closing._each", lab.close)
print(lab.guest("one").state)
lab.close()
lab = vs.Lab(sys.argv[1])
print(lab.guest("one").state)
for what in ("closing.forget", "lab.Lab.close", "folder.shutil.rmtree", "folder._remove_empty", "folder.release"):
    lab = interrupted(what, lab.destroy)
    names = [guest.name for guest in lab.guests()]
    print(what, names)
    lab.guest(what.replace(".", "-"), backing=lab.base("RootBase"), boot="disk")
print(lab.destroy(), lab.root.exists())
"""


def test_it_can_be_opened_and_ended_again(short: Path) -> None:
    done = run_python(CODE, short / "l")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "running",
        "shut off",
        "closing.forget ['one']",
        "lab.Lab.close []",
        "folder.shutil.rmtree []",
        "folder._remove_empty []",
        "folder.release []",
        "() False",
    ]
