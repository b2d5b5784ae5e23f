"""Programs that fail: each way, provoked for real, is an error of ours that says what to do next."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagery import MIB, create
from nobody import as_nobody, nobodys_folder  # noqa: F401 - a fixture
from small_disk import small_disk
from test_survey_locks import qemu_io

from vmsnap_nb.errors import (
    CommandError,
    ImageError,
    InUseError,
    MissingPartError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    VmsnapError,
)
from vmsnap_nb.system import process, qemu_img
from vmsnap_nb.system.process import Limits


def fail(kind: type[VmsnapError], *argv: object) -> VmsnapError:
    with pytest.raises(kind) as caught:
        qemu_img.run(["qemu-img", *map(str, argv)], tried="try it")
    error = caught.value
    assert type(error) is kind
    assert error.tried == "try it"
    assert error.said
    return error


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create(tmp_path / "image", MIB)


@pytest.mark.system
def test_success(image: Path) -> None:
    done = qemu_img.run(["qemu-img", "check", "-q", str(image)], tried="check it")
    assert (done.exit_status, done.stdout, done.stderr) == (0, b"", "")
    assert qemu_img.info(str(image), "qcow2")["virtual-size"] == MIB


@pytest.mark.system
def test_in_use(image: Path) -> None:
    with qemu_io(image) as pid:
        error = fail(InUseError, "resize", image, "2M")
        assert isinstance(error, InUseError)
        assert error.holders == (f"qemu-io (process {pid})",)
        assert error.next_step is not None
        assert f"process {pid}" in error.next_step
        assert "command: qemu-img resize" in error.__notes__[0]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "full", "64k") as folder:
        yield folder


@pytest.mark.system
def test_no_space(full: Path) -> None:
    assert "room" in str(fail(NoSpaceError, "create", "-f", "qcow2", full / "new", "1M").next_step)


@pytest.mark.system
def test_no_permission(nobodys_folder: Path) -> None:  # noqa: F811 - the fixture
    image = create(nobodys_folder / "image", MIB)
    image.chmod(0o444 if os.geteuid() == 0 else 0)
    answer = as_nobody(lambda: {"next": fail(PermissionDeniedError, "resize", image, "2M").next_step})
    assert "owner and mode" in answer["next"]


@pytest.mark.system
def test_not_found(tmp_path: Path) -> None:
    assert fail(NotFoundError, "info", tmp_path / "nowhere").next_step
    over = create(tmp_path / "over", MIB, backing=("nowhere", "qcow2"))
    assert "nowhere" in str(fail(NotFoundError, "check", "--image-opts", f"driver=qcow2,file.filename={over}").said)


@pytest.mark.system
def test_bad_images(image: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 1000)
    assert "not in qcow2 format" in str(fail(ImageError, "info", "-f", "qcow2", tmp_path / "text").said)
    os.truncate(image, 100)
    fail(ImageError, "info", image)
    create(tmp_path / "loop", MIB, backing=("loop", "qcow2"))
    assert "infinite loop" in str(fail(ImageError, "info", "--backing-chain", tmp_path / "loop").said)


@pytest.mark.system
def test_anything_else(image: Path) -> None:
    error = fail(CommandError, "resize", image, "nonsense")
    assert isinstance(error, CommandError)
    assert error.argv == ("qemu-img", "resize", str(image), "nonsense")
    assert error.exit_status == 1
    assert "nonsense" in error.argv
    assert error.stderr.startswith("qemu-img: ")
    assert isinstance(fail(CommandError, "no-such-command"), CommandError)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = fail(MissingPartError, "info", "x")
    for word in ("apt install qemu-utils", "Fedora", "Arch", "openSUSE"):
        assert word in str(error.next_step)


def test_a_program_that_may_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("no program")
    with pytest.raises(PermissionDeniedError):
        process.run([str(tmp_path / "tool")], tried="run it")


# -- limits -------------------------------------------------------------------------------------------------


def python(code: str, limits: Limits) -> process.Completed:
    return process.run([sys.executable, "-c", code], tried="run it", limits=limits)


def test_a_limit_of_time() -> None:
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"longer than 0\.5 s") as caught:
        python("import time; time.sleep(60)", Limits(seconds=0.5))
    assert time.monotonic() - began < 10
    assert caught.value.exit_status is None


def test_a_limit_of_processor_time() -> None:
    with pytest.raises(CommandError, match="signal") as caught:
        python("while True: pass", Limits(seconds=60, cpu_seconds=1))
    assert caught.value.exit_status in {-signal.SIGXCPU, -signal.SIGKILL}


def test_a_limit_of_memory() -> None:
    # The limit is set right after the start, so the program first waits for something that takes longer.
    code = "import time; time.sleep(0.5); x = bytearray(1 << 30)"
    with pytest.raises(CommandError, match="MemoryError"):
        python(code, Limits(seconds=60, memory=1 << 29))
    assert python(code, Limits(seconds=60)).exit_status == 0


def test_much_output_on_both_sides_does_not_block() -> None:
    code = "import sys; sys.stderr.write('e' * 300000); sys.stdout.write('o' * 300000)"
    done = python(code, Limits(seconds=30))
    assert (len(done.stdout), len(done.stderr)) == (300000, 300000)


def test_the_status_can_be_looked_at_instead() -> None:
    done = process.run([sys.executable, "-c", "raise SystemExit(3)"], tried="run it", check=False)
    assert done.exit_status == 3
    with pytest.raises(CommandError, match="exit status 3"):
        process.run([sys.executable, "-c", "raise SystemExit(3)"], tried="run it")


def test_names_with_any_bytes_and_no_input() -> None:
    name = os.fsdecode(b"a\xff\n;$(x)")
    code = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]) + sys.stdin.buffer.read())"
    assert process.run([sys.executable, "-c", code, name], tried="run it").stdout == b"a\xff\n;$(x)"
