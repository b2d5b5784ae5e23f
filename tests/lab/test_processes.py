"""A lab across processes: who has it, what outlives whom, and whose files they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.labs import nobodys_python, run_python

from vmsnap_nb.errors import LabBusyError, LabError
from vmsnap_nb.lab.folder import MAX_ROOT
from vmsnap_nb.lab.lab import Lab


def qemu_of(root: Path) -> list[int]:
    """The QEMU processes that have something of a folder in their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"/usr/bin/qemu-system") and os.fsencode(root) in words:
                found.append(int(entry.name))
    return found


@pytest.mark.guest
def test_guests_are_found_again_after_the_process_was_killed(short: Path) -> None:
    root = short / "l"
    killed = run_python(
        """
        lab = vs.Lab(sys.argv[1])
        vm = lab.guest("demo", backing=lab.base()).start()
        vm.execute("echo survives > /kept; sleep 600 &").check()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        root,
    )
    assert killed.returncode == -9, killed.stderr
    assert len(qemu_of(root)) == 1

    found = run_python(
        """
        lab = vs.Lab(sys.argv[1])
        vm = lab.guest("demo")
        print(vm.state, vm.execute("cat /kept; ps | grep -c '[s]leep 600'").stdout.split())
        print([guest.name for guest in lab.guests()], "ready" in vm.console())
        # It was not started by this process, so it is left alone at the end of it.
        """,
        root,
    )
    assert found.stdout.splitlines() == ["running ['survives', '1']", "['demo'] True"], found.stderr
    assert len(qemu_of(root)) == 1

    ended = run_python("print(vs.Lab(sys.argv[1]).destroy())", root)
    assert ended.stdout == "()\n", ended.stderr
    assert qemu_of(root) == []
    assert not root.exists()


@pytest.mark.guest
def test_what_libvirt_knows_of_qemu_is_handed_on_to_the_next_lab(short: Path) -> None:
    code = """
        from pathlib import Path
        lab = vs.Lab(sys.argv[1])
        place = Path(sys.argv[1], "cache", "qemu", "capabilities")
        lent = {file.name: file.stat().st_mtime_ns for file in place.glob("*.xml")}
        guest = lab.guest("demo", backing=lab.base(), boot="disk")
        if sys.argv[2] == "start":
            guest.start(wait=False)
        print(len(lent), lent == {file.name: file.stat().st_mtime_ns for file in place.glob("*.xml")})
        lab.destroy()
    """
    env = {"VMSNAP_CACHE": str(short / "cache")}
    kept = short / "cache" / "capabilities"

    def used(how: str) -> str:
        done = run_python(code, short / how, how, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert used("start") == "0 False"
    (file,) = kept.iterdir()
    assert used("believed") == "1 True"  # libvirt would have written it anew
    found = file.read_text()
    file.write_text(found.replace("<qemuctime>1", "<qemuctime>2"))
    assert used("not believed") == "1 False"
    file.write_text(found[: len(found) // 2])
    assert used("start") == "1 False"
    assert file.read_text() == found
    file.unlink()
    kept.rmdir()
    kept.write_text("in the way")
    assert used("believed") == "0 False"


@pytest.mark.guest
def test_the_end_of_the_process_stops_what_it_started_unless_told_to_keep_it(short: Path) -> None:
    start = """
        lab = vs.Lab(sys.argv[1], keep=sys.argv[2] == "keep")
        lab.guest(sys.argv[2], backing=lab.base(), boot="disk").start(wait=False)
        print([guest.state for guest in lab.guests()])
    """
    ends = run_python(start, short / "l", "ends")
    assert ends.stdout == "['running']\n", ends.stderr
    assert qemu_of(short) == []
    kept = run_python(start, short / "l", "keep")
    assert kept.stdout == "['shut off', 'running']\n", kept.stderr
    assert len(qemu_of(short)) == 1
    left = run_python(
        """
        import warnings
        with vs.Lab(sys.argv[1]) as lab:
            (lab.root / "images" / "mine.img").write_text("mine")
            lab.guest("keep").start(wait=False)
            again = vs.Lab(sys.argv[1])
            print(again is lab)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                for _ in range(2):
                    lab.guest("keep", backing=lab.base(), boot="disk")
            print([str(one.message).partition(".")[0] for one in told], told[0].filename)
            print(lab.destroy() == (str(lab.root / "images" / "mine.img"),))
        """,
        short / "l",
    )
    earlier = "The guest keep existed before this lab was opened (running)"
    assert left.stdout.splitlines() == ["True", f"['{earlier}'] <string>", "True"], left.stderr
    assert qemu_of(short) == []
    assert {str(path.relative_to(short)) for path in short.rglob("*") if path.is_file()} == {
        "l/images/mine.img",
        "l/.vmsnap-lab.json",
    }


@pytest.mark.guest
@pytest.mark.parametrize(("when", "ended"), [("at work", -signal.SIGTERM), ("at its end", 0)])
def test_a_process_that_is_told_to_end_stops_its_guests_first(short: Path, when: str, ended: int) -> None:
    """JupyterLab does it to a kernel that takes long to end, as here: the guest has no system that could shut down."""
    code = """
        import atexit, threading
        lab = vs.Lab(sys.argv[1])
        lab.guest("demo", backing=lab.base(), boot="disk").start(wait=False)
        told = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
        told.daemon = True
        if sys.argv[2] == "at its end":
            atexit.register(told.start)
        else:
            told.start()
            time.sleep(60)
    """
    done = run_python(code, short / "l", when)
    assert (done.returncode, qemu_of(short)) == (ended, []), done.stderr


@pytest.mark.system
def test_two_processes_on_one_lab(lab: Lab, short: Path) -> None:
    other = run_python(
        """
        try:
            vs.Lab(sys.argv[1])
        except errors.LabBusyError as error:
            print(error.reason)
            print(error.next_step)
        """,
        lab.root,
    )
    said, step = other.stdout.splitlines()
    assert f"process {os.getpid()}" in said, other.stderr
    assert "kernel" in step

    # Without the lock of ours (an older program, say) libvirt's own is met.
    own = run_python(
        """
        from vmsnap_nb.system.libvirt.connection import open_connection
        try:
            open_connection("qemu:///embed?root=" + sys.argv[1])
        except errors.LabBusyError as error:
            print(error.reason)
        """,
        lab.root,
    )
    assert "Failed to acquire pid file" in own.stdout, own.stderr


@pytest.mark.system
def test_one_process_and_two_labs(lab: Lab, short: Path) -> None:
    with pytest.raises(LabError, match="already open with path") as refused:
        Lab(short / "second")
    assert "driver='session'" in str(refused.value)
    assert not isinstance(refused.value, LabBusyError)
    with pytest.raises(LabError, match="with the driver embed"):
        Lab(lab.root, driver="session")


@pytest.mark.system
def test_closed_and_opened_again_and_destroyed_and_made_again(short: Path) -> None:
    done = run_python(
        """
        lab = vs.Lab(sys.argv[1])
        lab.guest("one", backing=lab.base(), boot="disk")
        lab.close()
        try:
            lab.guests()
        except errors.VmsnapError as error:
            print(error.reason)
        lab = vs.Lab(sys.argv[1])
        print([guest.name for guest in lab.guests()], len(lab.scenario("figure-1")))
        print(lab.destroy(), lab.root.exists())
        lab = vs.Lab(sys.argv[1])
        vm = lab.guest("two", backing=lab.base(), boot="disk").start(wait=False)
        print(vm, lab.guests().to_frame().index.to_list())
        sys.stdout.flush()
        if os.fork() == 0:
            sys.exit()  # a copy of the process runs what is registered for the exit, and must stop nothing
        os.wait()
        print(vm.state)
        print(lab.destroy(), lab.root.exists())
        """,
        short / "l",
    )
    assert done.stdout.splitlines() == [
        "it was closed",
        "['one'] 4",
        "() False",
        "<Guest two: running> ['two']",
        "running",
        "() False",
    ], done.stderr


@pytest.mark.system
def test_a_copy_of_the_process_made_by_fork_uses_no_libvirt_of_it(short: Path) -> None:
    done = run_python(
        """
        def say(act):
            try:
                print(act())
            except errors.VmsnapError as error:
                print(type(error).__name__, error.reason)

        with vs.Lab(sys.argv[1]) as lab:
            vm = lab.guest("one", backing=lab.base(), boot="disk").start(wait=False)
            host = vs.connect("test:///default")
            sys.stdout.flush()
            if os.fork() == 0:
                for act in (lambda: vm.state, lambda: vm.snapshot(), lab.destroy, host.guests, host.close):
                    say(act)
                sys.exit()  # also through the end of the block
            os.wait()
            print(vm.state, len(host.guests()))
            host.close()
            print(lab.destroy(), lab.root.exists())
        """,
        short / "l",
    )
    copy = "VmsnapError this process was forked from the one that opened it"
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("LabBusyError")] == [
        *(copy, copy, copy, "None"),
        "running 1",
        "() False",
    ], done.stderr
    assert lines[2].startswith("LabBusyError"), "its folder is still the other's"


@pytest.mark.system
def test_the_longest_path_that_is_allowed_works_and_one_more_does_not(short: Path) -> None:
    longest = short / ("x" * (MAX_ROOT - len(str(short)) - 1))
    name = "a-name-of-more-than-20-characters"
    done = run_python(
        """
        lab = vs.Lab(sys.argv[1])
        print(lab.guest(sys.argv[2], backing=lab.base()).start(wait=False))
        lab.destroy()
        try:
            vs.Lab(sys.argv[1] + "x")
        except errors.LabError as error:
            print(error.reason)
        """,
        longest,
        name,
    )
    first, second = done.stdout.splitlines()
    assert first == f"<Guest {name}: running>", done.stderr
    assert f"{MAX_ROOT + 1} bytes" in second
    assert f"at most {MAX_ROOT}" in second


@pytest.mark.guest
def test_an_unprivileged_user_boots_a_guest(short: Path) -> None:
    nobody = nobodys_python(short)
    done = run_python(
        """
        assert os.geteuid() != 0
        lab = vs.Lab()
        print(lab.root == Path.home() / ".vmsnap", lab.acceleration.kind)
        vm = lab.guest("demo", backing=lab.base()).start()
        print(vm.execute("id -u; echo hello > /overlay-1; cat /overlay-1").stdout.split())
        print([layer.name for layer in vm.chain()], vm.chain()[0].writable)
        second = lab.guest("second", backing=vm)
        try:
            second.start()
        except errors.InUseError as error:
            print(error.holders)
        vm.shutdown()
        print(vm.state, list(second.concerns()), "demo" in repr(lab.guests()))
        print(lab.destroy())
        """,
        env={"HOME": str(short), "XDG_RUNTIME_DIR": "", "XDG_CACHE_HOME": "", "USER": "nobody"},
        **nobody,
    )
    assert done.stdout.splitlines() == [
        "True tcg",
        "['0', 'hello']",
        "['RootBase', 'demo'] False",
        "('demo',)",
        "shut off [] True",
        "()",
    ], done.stderr
    assert not (short / ".vmsnap").exists()


@pytest.mark.system
def test_a_closed_lab_can_be_destroyed(short: Path) -> None:
    done = run_python(
        """
        with vs.Lab(sys.argv[1]) as lab:
            lab.scenario("figure-1")
        print(lab.destroy(), os.path.exists(sys.argv[1]))
        """,
        short / "l",
    )
    assert (done.stdout, done.returncode) == ("() False\n", 0), done.stderr


@pytest.mark.system
def test_an_image_of_ones_own_keeps_what_it_stands_on(short: Path) -> None:
    done = run_python(
        """
        lab = vs.Lab(sys.argv[1])
        folder = lab.scenario("figure-1").folders[0]
        vs.create_overlay(folder + "/mine.qcow2", folder + "/Overlay-1A.qcow2").run()
        print([os.path.basename(path) for path in lab.destroy()])
        print([image.status for image in vs.chain(folder + "/mine.qcow2")])
        print(len(vs.Lab(sys.argv[1]).guests()))
        """,
        short / "l",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['Overlay-1.qcow2', 'Overlay-1A.qcow2', 'RootBase.qcow2', 'mine.qcow2']",
        "['ok', 'ok', 'ok', 'ok']",
        "0",
    ]


@pytest.mark.system
def test_core_files_may_be_forbidden(short: Path) -> None:
    """As sudo does it."""
    code = """
        with vs.Lab(sys.argv[1]) as lab:
            print(lab.guest("demo", backing=lab.base()).start(wait=False).state)
            lab.destroy()
    """
    forbidden = ["sh", "-c", 'ulimit -c 0; exec "$@"', "sh"]
    done = run_python(code, short / "l", before=forbidden)
    assert done.stdout == "running\n", done.stderr
