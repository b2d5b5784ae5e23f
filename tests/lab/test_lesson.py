"""The lab of a lesson is empty whenever the lesson begins, and leaves the student's own lab alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.lab.breaking import break_image
from vmsnap_nb.lab.folder import MAX_ROOT
from vmsnap_nb.lab.lesson import lesson_root

LESSON = """
import subprocess
import vmsnap_nb as vs

lab = vs.Lab.for_lesson()
assert not len(lab.guests()), lab.guests()
assert not list(lab.work.iterdir())
guest = lab.guest("first", backing=lab.base("RootBase"), overlay="Overlay-1")
create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
subprocess.run([*create, "-b", guest.chain().top, lab.work / "above.qcow2"], check=True)
for name, base in (("a", "b"), ("b", "a")):
    subprocess.run([*create, "-u", "-b", base + ".qcow2", lab.work / (name + ".qcow2"), "1M"], check=True)
print(lab.root)
"""


@pytest.mark.system
def test_a_lesson_begins_anew_where_it_was_left_and_leaves_nothing(short: Path) -> None:
    env = {**os.environ, "VMSNAP_LAB": str(short / "lab")}
    inside = "os.chdir(lab.work); assert lab.destroy() == (); assert os.getcwd() == str(lab.root.parent)"
    for end in ("os._exit(0)", "", inside):
        code = f"import os\n{LESSON}\nimport sys; sys.stdout.flush()\n{end}\n"
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{short}/lab-lesson"
    assert list(short.iterdir()) == []


def test_where_the_path_would_be_too_long_it_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMSNAP_LAB", "/" + "x" * (MAX_ROOT - 1))
    assert lesson_root() == Path(f"/var/tmp/vmsnap-{os.getuid()}-lesson")


@pytest.mark.system
def test_only_an_image_of_the_lab_is_broken(tmp_path: Path) -> None:
    lab, other = tmp_path / "lab", tmp_path / "other.qcow2"
    lab.mkdir()
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", "base.qcow2"]
    for path in (lab / "top.qcow2", other):
        subprocess.run([*create, path, "1M"], check=True)
    before = other.read_bytes()
    (lab / "link.qcow2").symlink_to(other)
    for path in (other, lab / "link.qcow2"):
        with pytest.raises(InvalidRequestError, match="not in the folder"):
            break_image(lab, "missing-format", path)
    with pytest.raises(NotFoundError, match="missing-format"):
        break_image(lab, "missing", lab / "top.qcow2")
    assert other.read_bytes() == before
    break_image(lab, "missing-format", lab / "top.qcow2")
    told = subprocess.run(["qemu-img", "info", "-U", lab / "top.qcow2"], capture_output=True, text=True, check=False)
    assert "backing file format" not in told.stdout + told.stderr
    with pytest.raises(InvalidRequestError, match="does not record"):
        break_image(lab, "missing-format", lab / "top.qcow2")
