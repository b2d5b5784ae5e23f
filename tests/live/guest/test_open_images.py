"""A running guest whose QEMU writes to an image that libvirt does not name, or whose file was deleted."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from support.guests import discard
from support.held import switch
from support.labs import run_python

from vmsnap_nb.errors import ConcernWarning, GuestError, PlanRefusedError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.text import to_text

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Iterator[Guest]:
    one = lab.guest(f"held{abs(hash(request.node.nodeid)) % 10**6}", backing=base)
    yield one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConcernWarning)
        discard(one)


def text(thing: Shown) -> str:
    return " ".join(to_text(thing).split())


def test_what_libvirt_does_not_know(guest: Guest, tmp_path: Path) -> None:
    guest.start()
    assert guest.concerns() == ()
    named, written = guest.chain().top, str(tmp_path / "elsewhere.qcow2")
    switch(guest, Path(written))
    guest.execute("echo later > /later").check()
    chain = guest.chain()
    assert chain.top == written
    said = f"QEMU writes disk vda of {guest.name} to {written}, but the image in libvirt's definition is {named}"
    assert said in repr(chain)
    assert said in text(chain)
    assert said in repr(guest.snapshots())
    assert said in text(guest.snapshots())
    [concern] = guest.concerns()
    assert (concern.name, concern.images) == ("other-image", (written, named))
    for plan in (guest.snapshot(kind="external-disk"), guest.commit(), guest.pull(), guest.save()):
        with pytest.raises(PlanRefusedError, match="in libvirt's definition is"):
            plan.run(progress=False)
    with pytest.raises(GuestError, match="in libvirt's definition is") as refused:
        guest.shutdown()
    assert "unfinished" in (refused.value.next_step or "")
    assert guest.running
    [plan] = guest.unfinished()
    assert plan.run(progress=False).as_predicted
    assert guest.unfinished() == ()
    assert "a shutdown loses no data" in guest.concerns()[0].what
    guest.shutdown()
    assert guest.chain().top == written
    assert guest.concerns() == ()
    guest.start()
    assert guest.execute("cat /later").stdout == "later\n"
    assert guest.concerns() == ()
    guest.shutdown()


def test_libvirt_fails_after_qemu_has_switched(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    guest.start()
    named = guest.chain().top
    plan = guest.snapshot("failed", kind="external-disk")
    [written] = plan.creates

    def fails(*_: object) -> None:
        switch(guest, Path(written))
        guest.execute("echo later > /later").check()
        raise libvirt.libvirtError("Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(libvirt.virDomain, "snapshotCreateXML", fails)
        with pytest.raises(VmsnapError, match=f"but the image in libvirt's definition is {named}"):
            plan.run(progress=False)
    for left in guest.unfinished():
        assert left.run(progress=False).as_predicted
    guest.shutdown()
    for left in guest.unfinished():
        assert left.run(progress=False).as_predicted
    assert guest.start().execute("cat /later").stdout == "later\n"
    assert guest.chain().top == written
    guest.shutdown()


def test_a_deleted_overlay_is_saved(guest: Guest) -> None:
    base = guest.chain().top
    guest.start()
    guest.snapshot("before", kind="external-disk").run(progress=False)
    guest.execute("echo later > /later").check()
    top = guest.chain().top
    Path(top).unlink()
    said = f"QEMU writes disk vda of {guest.name} to {top}, which was deleted or moved. QEMU still has the file open"
    chain = guest.chain()
    assert [image.path for image in chain][-2:] == [base, top]
    assert said in text(chain)
    assert said in text(guest.snapshots())
    assert [concern.name for concern in guest.concerns()] == ["deleted-image"]
    with pytest.raises(GuestError, match="was deleted"):
        guest.shutdown()
    assert guest.running
    assert guest.reconcile().steps == ()
    with pytest.raises(PlanRefusedError, match="was deleted"):
        guest.delete_snapshot("before").run(progress=False)
    assert guest.snapshots().names == ("before",)
    [plan] = guest.unfinished()
    assert {concern.name for concern in plan.concerns if concern.level != "note"} == {"state-lost"}
    report = plan.run(progress=False)
    assert report.differences == ()
    assert guest.chain().top == base
    assert guest.unfinished() == ()
    assert guest.concerns() == ()
    guest.shutdown()
    guest.start()
    assert guest.execute("cat /later").stdout == "later\n"
    guest.shutdown()


def test_a_deleted_layer_is_saved(guest: Guest) -> None:
    guest.start()
    guest.snapshot("one", kind="external-disk").run(progress=False)
    guest.execute("echo later > /later").check()
    layer = guest.chain().top
    guest.snapshot("two", kind="external-disk").run(progress=False)
    top = guest.chain().top
    Path(layer).unlink()
    assert [image.path for image in guest.chain()][-2:] == [layer, top]
    assert len(guest.chain()) == 4
    assert [concern.name for concern in guest.concerns()] == ["deleted-image"]
    assert guest.reconcile().steps == ()
    with pytest.raises(GuestError, match="was deleted"):
        guest.shutdown()
    [plan] = guest.unfinished()
    report = plan.run(progress=False)
    assert report.differences == ()
    assert guest.concerns() == ()
    guest.shutdown()
    assert guest.chain().top == top
    assert guest.start().execute("cat /later").stdout == "later\n"
    guest.shutdown()


STOPPED = """
    import warnings
    from support.held import switch
    lab = vs.Lab(sys.argv[1])
    guest = lab.guest("demo", backing=lab.base("RootBase")).start()
    switch(guest, Path(sys.argv[1]) / "images" / "elsewhere.qcow2")
    guest.execute("echo later > /later").check()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        lab.close()
    print([one.message.concern.name for one in heard])
"""
AFTERWARDS = """
    with vs.Lab(sys.argv[1]) as lab:
        guest = lab.guest("demo")
        print(guest.state, guest.concerns(), guest.chain()[-1].name)
        print(guest.start().execute("cat /later").stdout)
        lab.destroy()
"""


def test_a_lab_is_closed(short: Path) -> None:
    done = run_python(textwrap.dedent(STOPPED), short / "l")
    assert done.stdout == "['other-image']\n", done.stderr
    done = run_python(textwrap.dedent(AFTERWARDS), short / "l")
    assert done.stdout.split("\n") == ["shut off <no concerns> elsewhere", "later", "", ""], done.stderr


CUT = """
    import libvirt
    from support.held import switch
    lab = vs.Lab(sys.argv[1], keep=True)
    guest = lab.guest("demo", backing=lab.base("RootBase")).start()
    plan = guest.snapshot("cut", kind="external-disk")
    def ends(domain, xml, flags):
        switch(guest, Path(plan.steps[0].overlays[0]))
        guest.execute("echo later > /later").check()
        if sys.argv[2] == "off":
            domain.destroy()
        os.kill(os.getpid(), signal.SIGKILL)
    libvirt.virDomain.snapshotCreateXML = ends
    plan.run(progress=False)
"""
FINISHED = """
    with vs.Lab(sys.argv[1]) as lab:
        guest = lab.guest("demo")
        print(guest.state, [one.name for one in guest.concerns()])
        for call in (guest.shutdown, guest.start):
            try:
                call()
            except errors.VmsnapError as error:
                print(type(error).__name__)
        for _ in range(3):
            print([plan.run(progress=False).as_predicted for plan in guest.unfinished()])
            guest.shutdown()
        print(guest.state, guest.concerns(), guest.chain()[-1].name, sorted(lab.root.glob("images/.vmsnap*")))
        print(guest.start().execute("cat /later").stdout)
        lab.destroy()
"""


@pytest.mark.parametrize("state", ["running", "off"])
def test_a_snapshot_is_cut_short(short: Path, state: str) -> None:
    done = run_python(textwrap.dedent(CUT), short / "l", state)
    assert done.returncode == -9, done.stderr
    done = run_python(textwrap.dedent(FINISHED), short / "l")
    first, refused, *finished, last, later, _, _ = done.stdout.split("\n")
    expected = {"running": "running ['other-image']", "off": "shut off ['other-image', 'shared-base']"}
    assert first == expected[state], done.stderr
    assert refused == {"running": "GuestError", "off": "ImageError"}[state]
    assert finished == (["[True]", "[True]", "[]"] if state == "running" else ["[True]", "[]", "[]"])
    assert last == "shut off <no concerns> demo.cut []"
    assert later == "later"
