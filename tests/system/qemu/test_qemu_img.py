"""Programs that fail: each way, provoked for real, is an error of ours that says what to do next."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import qemu_io
from support.images import MIB, create
from support.nobody import as_nobody
from support.small_disk import fill_up, small_disk
from support.waiting import eventually

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
from vmsnap_nb.system import process
from vmsnap_nb.system.process import Limits
from vmsnap_nb.system.qemu import qemu_img


def fail(kind: type[VmsnapError], *argv: object) -> VmsnapError:
    with pytest.raises(kind) as caught:
        qemu_img.run(["qemu-img", *map(str, argv)], tried="try it")
    error = caught.value
    assert type(error) is kind
    assert error.tried == "try it"
    assert error.reason
    return error


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create(tmp_path / "image", size=MIB)


@pytest.mark.system
def test_what_succeeds_gives_its_output(image: Path) -> None:
    done = qemu_img.run(["qemu-img", "check", "-q", str(image)], tried="check it")
    assert (done.exit_status, done.stdout, done.stderr) == (0, b"", "")
    assert qemu_img.info(str(image), "qcow2")["virtual-size"] == MIB


@pytest.mark.system
def test_an_image_in_use_names_who_holds_it(image: Path) -> None:
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
def test_a_full_disk_is_an_error_that_asks_for_room(full: Path) -> None:
    assert "free space" in str(fail(NoSpaceError, "create", "-f", "qcow2", full / "new", "1M").next_step)


@pytest.mark.system
def test_want_of_permission_is_an_error_that_names_owner_and_mode(nobodys_folder: Path) -> None:
    image = create(nobodys_folder / "image", size=MIB)
    image.chmod(0o444 if os.geteuid() == 0 else 0)
    answer = as_nobody(lambda: {"next": fail(PermissionDeniedError, "resize", image, "2M").next_step})
    assert "owner and mode" in answer["next"]


@pytest.mark.system
def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    assert fail(NotFoundError, "info", tmp_path / "nowhere").next_step
    over = create(tmp_path / "over", "nowhere", size=MIB)
    assert "nowhere" in str(fail(NotFoundError, "check", "--image-opts", f"driver=qcow2,file.filename={over}").reason)


@pytest.mark.system
def test_a_damaged_image_is_an_error_of_the_image(image: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 1000)
    assert "not in qcow2 format" in str(fail(ImageError, "info", "-f", "qcow2", tmp_path / "text").reason)
    os.truncate(image, 100)
    fail(ImageError, "info", image)
    create(tmp_path / "loop", "loop", size=MIB)
    assert "infinite loop" in str(fail(ImageError, "info", "--backing-chain", tmp_path / "loop").reason)


@pytest.mark.system
def test_anything_else_is_an_error_with_command_and_status(image: Path) -> None:
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


def python(code: str, limits: Limits) -> process.ProcessResult:
    return process.run([sys.executable, "-c", code], tried="run it", limits=limits)


def test_a_limit_of_time() -> None:
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"longer than 0\.5 s") as caught:
        python("import time; time.sleep(60)", Limits(seconds=0.5))
    assert time.monotonic() - began < 10
    assert caught.value.exit_status is None


@pytest.mark.system
def test_a_limit_of_processor_time() -> None:
    with pytest.raises(CommandError, match="signal") as caught:
        python("while True: pass", Limits(seconds=60, cpu_seconds=1))
    assert caught.value.exit_status in {-signal.SIGXCPU, -signal.SIGKILL}


def test_a_limit_of_memory() -> None:
    # The limit is set right after the start, so the program first waits for something that takes longer.
    code = "import time; time.sleep(0.5); x = bytearray(1 << 28)"
    with pytest.raises(CommandError, match="MemoryError"):
        python(code, Limits(seconds=60, memory=1 << 27))
    assert python(code, Limits(seconds=60)).exit_status == 0


def test_much_output_on_both_sides_does_not_block() -> None:
    code = "import sys; sys.stderr.write('e' * 300000); sys.stdout.write('o' * 300000)"
    done = python(code, Limits(seconds=30))
    assert (len(done.stdout), len(done.stderr)) == (300000, 300000)


def test_more_output_than_is_kept_is_cut_and_said_so() -> None:
    code = "import sys; sys.stderr.write('e' * 300000); sys.stdout.write('o' * 300000)"
    done = python(code, Limits(seconds=30, output=1000, errors=2048))
    assert (done.stdout, done.cut) == (b"o" * 1000, True)
    assert done.stderr == "e" * 2048 + "\n(truncated after 2 KiB)"
    assert not python("print('x' * 999)", Limits(output=1000)).cut


def test_a_flood_ends_with_the_time_and_is_not_kept() -> None:
    code = "import os\nwhile True: os.write(1, b'o' * 65536); os.write(2, b'e' * 65536)"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CommandError, match="longer than 2 s") as caught:
        python(code, Limits(seconds=2))
    assert len(caught.value.stderr) < 2 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB; it wrote gigabytes


def test_what_a_program_has_started_ends_with_it() -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    seen = bytearray()
    done = process.run([sys.executable, "-c", code], tried="run it", take=seen.extend, stop=lambda: b"\n" in seen)
    assert (done.stopped, done.exit_status) == (True, -signal.SIGKILL)
    assert eventually(lambda: not is_alive(int(seen)))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_error_of_who_takes_the_output_ends_the_program() -> None:
    def refuse(_: bytes) -> None:
        raise ImageError("take it")

    began = time.monotonic()
    with pytest.raises(ImageError, match="take it"):
        process.run([sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"], tried="x", take=refuse)
    assert time.monotonic() - began < 10


def test_a_limit_that_was_reached_is_named() -> None:
    with pytest.raises(CommandError, match=r"signal .* 1 s of processor time and 4 GiB of memory"):
        python("while True: pass", Limits(seconds=60, cpu_seconds=1, memory=4 << 30))
    with pytest.raises(CommandError, match="may use up to 8 GiB of memory"):
        python("import os; os.abort()", Limits(memory=8 << 30))


@pytest.mark.system
def test_a_header_that_takes_too_long_is_an_error_of_the_image(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limits, said in (
        (Limits(seconds=0.0), "longer than 0.0 s"),
        (Limits(output=10), "longer than 10 B"),
    ):
        monkeypatch.setattr(qemu_img, "INFO_LIMITS", limits)
        with pytest.raises(ImageError, match=said):
            qemu_img.info(str(image), "qcow2")


@pytest.mark.system
def test_a_limit_below_that_of_this_process_stays(image: Path) -> None:
    argv = [sys.executable, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_AS)[0])"]
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from vmsnap_nb.system import process
print(process.run({argv!r}, tried="run it").stdout.decode())
"""
    assert int(process.run([sys.executable, "-c", code], tried="run it").stdout) == 3 << 30


def test_the_status_can_be_looked_at_instead() -> None:
    done = process.run([sys.executable, "-c", "raise SystemExit(3)"], tried="run it", check=False)
    assert done.exit_status == 3
    with pytest.raises(CommandError, match="exit status 3"):
        process.run([sys.executable, "-c", "raise SystemExit(3)"], tried="run it")


def test_names_with_any_bytes_and_no_input() -> None:
    name = os.fsdecode(b"a\xff\n;$(x)")
    code = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]) + sys.stdin.buffer.read())"
    assert process.run([sys.executable, "-c", code, name], tried="run it").stdout == b"a\xff\n;$(x)"


def test_what_is_lost_by_a_command_that_ends_with_0(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "3m") as folder:
        path = create(folder / "image.qcow2", size=8 << 30)
        qemu_img.run(["qemu-img", "bitmap", "--add", str(path), "monday"], tried="add a bitmap")
        fill_up(folder)
        error = fail(NoSpaceError, "bitmap", "--add", "-g", "512", path, "tuesday")
        assert "Lost persistent bitmaps" in str(error.reason)


def test_what_is_said_by_programs_that_end_well_is_heard() -> None:
    argv = ["sh", "-c", "echo out; echo one >&2; echo two >&2"]
    with process.hearing() as said:
        process.run(argv, tried="speak")
        process.run(["sh", "-c", "echo failed >&2; exit 1"], tried="fail", check=False)
        process.run(["sh", "-c", "printf %05000d 0 >&2"], tried="speak much")
    assert (said[0], len(said), len(said[1])) == ("one\ntwo", 2, 4098)
    process.run(argv, tried="speak unheard")
    assert len(said) == 2
