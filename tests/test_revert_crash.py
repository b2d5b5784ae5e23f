"""QEMU is killed while a guest goes back to a snapshot: what was there before is there again, memory included."""

from __future__ import annotations

from pathlib import Path

import pytest
from labs import run_python

from vmsnap_nb.errors import GuestError, LibvirtError
from vmsnap_nb.live.revert import _explained

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("kind", "while_"), [("internal-checkpoint", "RevertInside"), ("external-checkpoint", "RestoreMemory")]
)
def test_a_killed_qemu_is_taken_back(short: Path, kind: str, while_: str) -> None:
    done = run_python(
        """
        import threading
        root, kind, while_ = sys.argv[1:]
        with vs.Lab(root) as lab:
            guest = lab.guest("demo", backing=lab.base("RootBase"))
            guest._domain.createWithFlags(1)  # paused: it boots nothing, and has a memory all the same
            guest.snapshot("a", kind=kind).run(progress=False)
            guest._domain.resume()  # QEMU writes the memory of one moment only once
            guest._domain.suspend()
            top = guest.chain().top
            names = guest.snapshots().names
            plan = guest.revert("a")
            [which] = {type(step) for step in plan.steps if type(step).__name__ == while_}
            act, killed = plan.world.actions[which], []

            def pid():
                try:
                    return int(next((lab.root / "run").rglob("demo.pid")).read_text())
                except (StopIteration, OSError, ValueError):
                    return old

            def kill():
                while not killed:
                    now = pid()
                    if now != old:
                        os.kill(now, signal.SIGKILL)
                        killed.append(now)
                    time.sleep(0.001)

            def act_and_kill(step):
                threading.Thread(target=kill, daemon=True).start()
                return act(step)

            old = 0
            old = pid()
            plan.world.actions[which] = act_and_kill
            try:
                plan.run(progress=False)
            except errors.VmsnapError as error:
                notes = [note for note in error.__notes__ if "could not" in note]
                print(type(error).__name__, bool(error.next_step), notes, error.said.splitlines(), file=sys.stderr)
                print(type(error).__name__, bool(error.next_step), [note.partition(": ")[0] for note in notes])
            print(len(killed), guest.state, guest.chain().top == top)
            kept = [name for name in guest.snapshots().names if name not in names]
            print(kept, guest.unfinished(), {row.status for row in guest.snapshots()})
            print(guest.revert("a").run(progress=False).as_predicted, guest.state)
            print(lab.destroy())
        """,
        short,
        kind,
        while_,
        env={"VMSNAP_ACCEL": "tcg"},
    )
    # What an overlay of a guest that runs holds cannot be taken back: the snapshot of before stays.
    stays = kind.startswith("external")
    assert done.stdout.splitlines() == [
        f"GuestError True {['could not take back'] * stays}",
        f"1 paused {not stays}",
        f"{['kept1'] * stays} () {{'ok'}}",
        "True paused",
        "()",
    ], done.stderr


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("internal error: End of file from qemu monitor (vm='demo')", GuestError),
        ("internal error: process exited while connecting to monitor", GuestError),
        ("internal error: Process exited prior to exec: libvirt: error", GuestError),
        ("internal error: Child process (LC_ALL=C qemu -name guest=demo -S) unexpected exit status 1", GuestError),
        ("internal error: Child process (qemu-img snapshot -a s a) unexpected exit status 1: no", LibvirtError),
    ],
)
def test_the_end_of_a_qemu_has_many_words(said: str, named: type[Exception]) -> None:
    error = _explained(LibvirtError("revert demo to a", said=said, code=1, domain=10))
    assert type(error) is named
    assert said in (error.said or "")
    assert error.next_step
