"""The lab's folder: marked, locked, and removed with what was made in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.images import create

from vmsnap_nb.errors import InvalidRequestError, LabBusyError, LabError, VmsnapError
from vmsnap_nb.lab import bases, scenarios
from vmsnap_nb.lab.folder import MAX_ROOT, LabFolder, default_root
from vmsnap_nb.lab.holder import busy
from vmsnap_nb.words.message import t


def test_a_folder_is_marked_locked_and_removed_with_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    root = tmp_path / "lab"
    folder = LabFolder(root)
    with pytest.raises(LabBusyError, match=f"process {os.getpid()}"):
        LabFolder(root)
    for name in ("made.qcow2", "mine.qcow2"):
        (folder.images / name).write_text("x")
    folder.add(folder.images / "made.qcow2", "RootBase")
    folder.add(folder.images / "gone.qcow2")
    folder.drop(folder.images / "gone.qcow2")
    assert folder.made() == {str(root / "images" / "made.qcow2"): "RootBase"}
    folder.release()

    again = LabFolder(root)
    assert again.made() == folder.made()
    (root / "run").mkdir()
    assert again.remove() == [str(root / "images" / "mine.qcow2")]
    assert sorted(path.name for path in root.rglob("*")) == [".vmsnap-lab.json", "images", "mine.qcow2"]

    reopened = LabFolder(root)
    assert reopened.made() == {}
    (folder.images / "mine.qcow2").unlink()
    assert reopened.remove() == []
    assert not root.exists()


def test_a_busy_lab_names_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/course/02-snapshots.ipynb")
    folder = LabFolder(tmp_path / "lab")
    said = rf"the notebook /home/me/course/02-snapshots.ipynb \(process {os.getpid()}\) has it open"
    with pytest.raises(LabBusyError, match=said):
        LabFolder(folder.root)
    folder.release()
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setattr("sys.argv", ["-c"])
    folder = LabFolder(folder.root)
    with pytest.raises(LabBusyError, match=f"why:  process {os.getpid()} has it open"):
        LabFolder(folder.root)
    folder.release()


LEAVES = """
import os, sys, time
from pathlib import Path
from vmsnap_nb.lab.folder import LabFolder
import vmsnap_nb.lab.folder, vmsnap_nb.system.files.locks as locks
vmsnap_nb.lab.folder.MAX_ROOT = 4096
folder = LabFolder(Path(sys.argv[1]))
os.register_at_fork(before=locks._KEPT.clear)  # as a program that C code forks, which knows nothing of this
if os.fork() == 0:
    print(os.getpid(), flush=True)
    os.close(1)
    time.sleep(float(sys.argv[2]))
os._exit(0)
"""


def left_by_a_killed_process(root: Path, seconds: float) -> int:
    """Let a process open a lab and end; a program that it started has the lock for some seconds. Return its number."""
    argv = [sys.executable, "-c", LEAVES, str(root), str(seconds)]
    return int(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)


def test_what_a_killed_process_started_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    monkeypatch.setattr("vmsnap_nb.lab.folder._LINGERS", 60.0)
    left_by_a_killed_process(tmp_path / "lab", 0.5)
    LabFolder(tmp_path / "lab").release()


def test_what_a_killed_process_has_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    monkeypatch.setattr("vmsnap_nb.lab.folder._LINGERS", 0.1)
    pid = left_by_a_killed_process(tmp_path / "lab", 600)
    try:
        holder = rf"process {pid} \(python[^)]*\) still has it open, although process \d+, which"
        with pytest.raises(LabBusyError, match=holder):
            LabFolder(tmp_path / "lab")
    finally:
        os.kill(pid, signal.SIGKILL)


def test_several_processes_that_are_left_are_named() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    error = busy(t("open the lab"), f"{ended.pid}\n\n", [(1, "one"), (2, "two")])
    assert error.why == (
        f"process 1 (one) and process 2 (two) still have it open, although process {ended.pid}, which opened the lab, "
        "has ended"
    )
    assert str(error.next_step).startswith("end these processes")


def test_a_folder_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    (tmp_path / "precious").write_text("x")
    with pytest.raises(LabError, match=f"not the folder of a lab, and it contains {tmp_path}/precious"):
        LabFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(LabError, match="not a folder"):
        LabFolder(file)
    empty = LabFolder(tmp_path / "new")
    (empty.root / ".vmsnap-lab.json").unlink()
    with pytest.raises(LabError, match="destroy\\(\\) removes none"):
        empty.remove()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of somebody else, in a folder of its own."""
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "precious"
    file.write_text("x")
    return file


def handed_over(root: Path, *made: str) -> LabFolder:
    """Open a lab whose mark somebody else has written."""
    root.mkdir(exist_ok=True)
    (root / ".vmsnap-lab.json").write_text(json.dumps({"lab": 1, "made": dict.fromkeys(made, "x")}))
    return LabFolder(root)


def test_names_that_leave_the_folder_are_never_removed(elsewhere: Path, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    (root / "images").mkdir(parents=True)
    (root / "images" / "link").symlink_to(elsewhere.parent)
    (root / "images" / "own").write_text("x")
    names = (str(elsewhere), "../elsewhere/precious", "images/../../elsewhere/precious", "images/link/precious")
    folder = handed_over(root, *names, "", ".", "images", "images/own")
    assert set(folder.made()) == {str(root / "images"), str(root / "images" / "own")}
    folder.add(elsewhere)
    folder.add(root / "images" / "link" / "precious")
    assert len(folder.made()) == 2
    assert not folder.has(root / "images" / "link")
    folder.remove()
    assert elsewhere.exists()
    assert not (root / "images" / "own").exists()


@pytest.mark.parametrize("name", ["images", "boot", "scenarios", "etc", "run"])
def test_a_link_in_place_of_a_folder_is_refused(elsewhere: Path, tmp_path: Path, name: str) -> None:
    left = elsewhere.with_name(f".{32 * 'a'}.partial")
    left.write_text("x")
    root = tmp_path / "lab"
    root.mkdir()
    (root / name).symlink_to(elsewhere.parent)
    with pytest.raises(LabError, match="link"):
        handed_over(root)
    assert left.exists()


def test_lock_and_mark_are_not_followed(elsewhere: Path, tmp_path: Path) -> None:
    for number, name in enumerate((".vmsnap-lab.lock", ".vmsnap-lab.json")):
        root = tmp_path / f"lab{number}"
        root.mkdir()
        (root / name).symlink_to(elsewhere)
        with pytest.raises(VmsnapError):
            (LabFolder(root) if number else handed_over(root)).made()
        assert elsewhere.read_text() == "x"
    folder = handed_over(tmp_path / "lab2")
    (folder.root / ".vmsnap-lab.json").unlink()
    os.mkfifo(folder.root / ".vmsnap-lab.json")
    with pytest.raises(LabError, match="regular file"):
        folder.made()


def test_a_base_that_is_another_file_is_not_write_protected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive can have a hard link, which becomes one to a file of the user."""
    monkeypatch.setattr("vmsnap_nb.lab.folder.MAX_ROOT", 4096)
    own = create(tmp_path / "own.qcow2")
    folder = handed_over(tmp_path / "lab")
    path = folder.images / "Base.qcow2"
    path.hardlink_to(own)
    folder.add(path, bases.ALPINE)
    with pytest.raises(InvalidRequestError, match="hard link") as caught:
        bases.base(folder, "Base", None, None)
    assert own.stat().st_mode & 0o200
    command = caught.value.next_step.split(": ", 1)[1].replace("NEW", shlex.quote(f"{path}.new"))
    subprocess.run(command, shell=True, check=True)
    assert not bases.base(folder, "Base", None, None).writable
    assert own.stat().st_mode & 0o200


def test_the_folder_of_a_scenario_that_is_a_link_is_not_read(elsewhere: Path, tmp_path: Path) -> None:
    folder = handed_over(tmp_path / "lab")
    (folder.root / "scenarios" / "figure-1").symlink_to(elsewhere.parent)
    for use in (scenarios.keep_scenario, lambda *of: scenarios.remove_scenario(*of, uses=())):
        with pytest.raises(LabError, match="leads elsewhere"):
            use(folder, "figure-1")
    assert elsewhere.exists()


@pytest.mark.parametrize("mark", ["", "\0" * 100, "[]", '{"made": []}', '{"made": {"x": 1}}', "[" * 100_000, None])
def test_a_lab_whose_mark_is_lost_opens_by_what_is_advised(elsewhere: Path, tmp_path: Path, mark: str | None) -> None:
    """Nobody has a copy of it, so without this every later Lab() there would be refused."""
    root = tmp_path / "a lab"
    folder = handed_over(root, "images/own.qcow2")
    (root / "images" / "own.qcow2").write_text("x")
    (root / "etc" / "qemu").mkdir(parents=True)
    (root / "etc" / "qemu" / "vm1.xml").write_text("<domain/>")
    file = root / ".vmsnap-lab.json"
    file.unlink() if mark is None else file.write_text(mark)
    with pytest.raises(LabError, match=r"images/own.qcow2 and .*etc/qemu/vm1.xml$") as caught:
        folder.made()
    assert caught.value.why == "the file is empty" or mark not in {"", "\0" * 100}
    folder.release()
    if mark is None:
        with pytest.raises(LabError, match="not the folder of a lab") as caught:
            LabFolder(root)
    command = re.search(r"write an empty one: (.*?)\. The lab", str(caught.value.next_step))
    assert command is not None
    subprocess.run(command[1], shell=True, check=True)
    assert [path.read_text() for path in tmp_path.glob("a lab-*")] == ([] if mark is None else [mark])
    again = LabFolder(root)
    assert again.made() == {}
    again.add(root / "images" / "more.qcow2")
    assert again.remove() == [str(root / "images" / "own.qcow2")]


def test_others_lose_the_permission_to_write_to_it(elsewhere: Path, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    (root / "images").mkdir(parents=True)
    for folder in (root, root / "images"):
        folder.chmod(0o777)
    with pytest.warns(UserWarning, match="Other users had write permission for"):
        handed_over(root).release()
    assert [folder.stat().st_mode & 0o777 for folder in (root, root / "images")] == [0o755, 0o755]
    LabFolder(root)


def test_a_lab_that_was_cut_short_before_its_mark_is_usable(elsewhere: Path, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    root.mkdir()
    (root / ".vmsnap-lab.lock").write_text("1")
    (root / f".{32 * 'a'}.partial").write_text("{")
    assert LabFolder(root).made() == {}


def test_where_a_lab_is_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMSNAP_LAB", raising=False)
    monkeypatch.setenv("HOME", "/home/tom")
    assert default_root() == Path("/home/tom/.vmsnap")
    monkeypatch.setenv("HOME", "/" + "h" * MAX_ROOT)
    assert default_root() == Path(f"/var/tmp/vmsnap-{os.getuid()}")
    monkeypatch.setenv("VMSNAP_LAB", "/x")
    assert default_root() == Path("/x")
