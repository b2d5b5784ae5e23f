"""Hosts: any libvirt, read and changed; local ones, one that is reached over TCP, and libvirt's own pretended one."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.labs import Nobody, mounted, nobodys_python, run_python

import vmsnap_nb as vs
from vmsnap_nb.errors import (
    InvalidRequestError,
    LibvirtError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    VmsnapError,
)
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.connection import files_are_here
from vmsnap_nb.system.libvirt.errors import from_libvirt
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.storage import read_domain_chains, read_volume

SESSION = {
    "XDG_RUNTIME_DIR": "",
    "XDG_CONFIG_HOME": "",
    "XDG_CACHE_HOME": "",
    "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",  # where libvirtd is; a plain user may not have it in PATH
}


@pytest.fixture
def session(short: Path) -> tuple[Nobody, dict[str, str]]:
    """A user without rights, whose libvirt starts when it is asked for, and ends with the test."""
    return nobodys_python(short), {**SESSION, "HOME": str(short), "XDG_RUNTIME_DIR": str(short / "r")}


@pytest.mark.guest
def test_a_lab_beside_virsh(short: Path, session: tuple[Nobody, dict[str, str]]) -> None:
    nobody, env = session
    done = run_python(
        """
        import subprocess
        def virsh(*words):
            return subprocess.run(["virsh", "-c", "qemu:///session", *words], capture_output=True, text=True).stdout
        lab = vs.Lab(sys.argv[1], driver="session")
        vm = lab.guest("demo", backing=lab.base()).start()
        print(vm.execute("echo hello > /overlay-1; cat /overlay-1").stdout.strip(), "ready" in vm.console())
        print(virsh("list", "--name").split(), virsh("domblklist", "demo").split()[-2:] == ["vda", vm.chain().top])
        vm.shutdown()
        print(virsh("domstate", "demo").strip())

        # A guest of somebody else is none of the lab's, but the host has it.
        Path("other.xml").write_text("<domain type='qemu'><name>other</name><memory>65536</memory>"
                                     "<os><type>hvm</type></os></domain>")
        virsh("define", "other.xml")
        print(lab.guests(), vs.connect("qemu:///session").guests())
        try:
            lab.guest("other")
        except errors.NotFoundError as error:
            print(error.next_step)
        try:
            lab.guest("other", backing="RootBase")
        except errors.InvalidRequestError as error:
            print(error.reason)
        print(lab.destroy(), lab.root.exists(), virsh("list", "--all", "--name").split())
        """,
        short / "l",
        env=env,
        folder=short,
        **nobody,
    )
    assert done.stdout.splitlines() == [
        "hello True",
        "['demo'] True",
        "shut off",
        "[<Guest demo: shut off>] [<Guest demo: shut off>, <Guest other: shut off>]",
        "available: demo. To create it, pass its backing file: lab.guest(name, backing=…)",
        "the name is already in use",
        "() False ['other']",
    ], done.stderr


def _with_name(file: str, entry: str) -> tuple[str, ...]:
    """Commands that show a file of /etc with this entry, where it has none of that name."""
    name = entry.partition(":")[0]
    return (
        f"cp /etc/{file} /run/{file}",
        f"grep -q '^{name}:' /run/{file} || echo '{entry}' >>/run/{file}",
        f"mount --bind /run/{file} /etc/{file}",
    )


@pytest.mark.system
def test_roots_session_is_the_systems_libvirt(short: Path) -> None:
    # Not all packages need be installed that make these folders, and the user that QEMU has.
    hidden = ("/run", "/var/lib", "/var/log", "/var/cache", "/etc/libvirt")
    daemon = mounted(
        *(f"mount -t tmpfs tmpfs {folder}" for folder in hidden),
        "mkdir /run/libvirt /var/log/libvirt",
        *_with_name("passwd", "libvirt-qemu:x:64055:64055::/nowhere:/bin/false"),
        *_with_name("group", "libvirt-qemu:x:64055:"),
        # sudo allows no core files, and in a container its root may not allow them again.
        "echo 'max_core = 0' >/etc/libvirt/qemu.conf",
        "virtlogd -d",
        "libvirtd -d",
        sudo=True,  # only root has root's session
    )
    code = """
        lab = vs.Lab(sys.argv[1], driver="session")
        vm = lab.guest("demo", backing=lab.base()).start(wait=False)
        print(vm.state, [guest.name for guest in vs.connect("qemu:///system").guests()])
        print(lab.destroy(), lab.root.exists())
    """
    done = run_python(code, short / "l", before=daemon)
    assert done.stdout.splitlines() == ["running ['demo']", "() False"], done.stderr
    none = run_python(code, short / "l", before=mounted("mount -t tmpfs tmpfs /run"))
    assert "LibvirtError: cannot connect to qemu:///session" in none.stderr
    assert "systemctl start libvirtd" in none.stderr


@pytest.mark.system
def test_a_host_over_tcp(short: Path, session: tuple[Nobody, dict[str, str]]) -> None:
    nobody, env = session
    settings = 'listen_tls = 0\nlisten_tcp = 1\ntcp_port = "PORT"\nlisten_addr = "127.0.0.1"\nauth_tcp = "none"\n'
    done = run_python(
        """
        import socket, subprocess
        from vmsnap_nb.lab.scenarios import build_scenario
        settings, folder = sys.argv[1:]
        os.umask(0o22)
        Path(folder).mkdir()
        build_scenario("figure-1", Path(folder) / "figure-1")
        here = os.getcwd()
        Path("r/libvirt").mkdir(parents=True)
        options = ["-f", f"{here}/libvirtd.conf", "-p", f"{here}/r/libvirt/tcp.pid"]
        for _ in range(5):  # somebody else can take the port before it does
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            Path("libvirtd.conf").write_text(settings.replace("PORT", str(port)))
            if subprocess.run(["libvirtd", "--daemon", "--listen", "--timeout", "20", *options]).returncode == 0:
                break
        else:
            sys.exit("libvirtd does not start")
        uri = f"qemu+tcp://127.0.0.1:{port}/session"
        for _ in range(100):
            try:
                host = vs.connect(uri)
                break
            except errors.LibvirtError:
                time.sleep(0.1)
        images = f"{folder}/figure-1"
        host.connection.defineXML(
            "<domain type='qemu'><name>far</name><memory>65536</memory><os><type>hvm</type></os><devices>"
            f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{images}/Overlay-1B.qcow2'/>"
            "<target dev='vda' bus='virtio'/></disk></devices></domain>")
        far = host.guest("far")
        print("is not known" in host.survey().to_text())
        host.connection.storagePoolCreateXML(
            f"<pool type='dir'><name>p</name><target><path>{images}</path></target></pool>")
        print(host.files_are_here, [layer.name for layer in far.chain()], far.disks().depths)
        own_forest = vs.scan(Path(folder) / "figure-1")
        for image in host.survey():
            own = own_forest[image.path]
            for what in ("format", "virtual_size", "allocated"):
                assert getattr(image, what) == getattr(own, what), image
            for what in ("path", "format"):
                assert getattr(image.backing, what, None) == getattr(own.backing, what, None), image
        print(len(host.survey()), [use.guest for use in host.survey().users(f"{folder}/figure-1/RootBase.qcow2")])
        reading = vs.connect(uri, readonly=True)
        print(reading.guest("far").state, len(reading.survey()))
        try:
            reading.guest("far").start()
        except errors.ReadOnlyError as error:
            print(error.reason.replace(uri, "URI"))
        print(host.survey().overlay("new.qcow2", "RootBase").run(progress=False).as_predicted)
        print(sorted(path.name for path in Path(folder, "figure-1").iterdir()))
        os.kill(int(Path(here, "r/libvirt/tcp.pid").read_text()), signal.SIGTERM)
        """,
        settings,
        short / "d",
        env=env,
        folder=short,
        **nobody,
    )
    names = ["RootBase", "Overlay-1", "Overlay-1A", "Overlay-1B"]
    assert done.stdout.splitlines() == [
        "True",  # before there was a pool
        f"False {names} (4,)",
        "4 ['far']",
        "shut off 4",
        "the connection is read-only",
        "True",  # libvirt has made it, as a volume of its pool
        str(sorted(f"{name}.qcow2" for name in [*names, "new"])),
    ], done.stderr


@pytest.mark.system
def test_libvirts_pretended_host() -> None:
    with vs.connect("test:///default", readonly=True) as host:
        assert [guest.name for guest in host.guests()] == ["test"]
        guest = host.guest("test")
        assert (guest.state, guest.concerns()) == ("running", ())
        [disk] = guest.disks()
        assert (disk.target, disk.source) == ("vda", "/guest/diskimage1")
        [layer] = guest.chain()
        assert (layer.path, layer.status) == ("/guest/diskimage1", "ok")
        with pytest.raises(NotFoundError, match="Available: vda"):
            guest.chain("vdb")
        with pytest.raises(NotFoundError, match="available: test"):
            host.guest("nobody")
        for change in (guest.start, guest.shutdown, guest.destroy, guest.undefine):
            with pytest.raises(ReadOnlyError):
                change()
        with pytest.raises(ReadOnlyError):
            guest.execute("true")
        frame = host.guests().to_frame()
        assert (frame.index.to_list(), frame.state.to_list(), frame.disks.to_list()) == (["test"], ["running"], [1])
        assert "<table" in host.guests()._repr_html_()
        assert list(host.survey().images) == ["/guest/diskimage1"]
    with pytest.raises(VmsnapError, match="it was closed"):
        host.guests()


@pytest.mark.system
def test_addresses_that_lead_nowhere() -> None:
    with pytest.raises(InvalidRequestError, match="qemu\\+ssh"):
        vs.connect("box")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(LibvirtError, match="Connection refused") as refused:
            vs.connect(f"qemu+tcp://127.0.0.1:{closed.getsockname()[1]}/system")
    assert "check the URI" in (refused.value.next_step or "")
    assert refused.value.code > 0
    said = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied"
    refusal = from_libvirt("connect to qemu:///system", said)
    assert isinstance(refusal, PermissionDeniedError)
    assert "group libvirt" in (refusal.next_step or "")


@pytest.mark.system
def test_a_second_connection_to_a_lab_is_read_only_if_asked(lab: Lab, base: Image) -> None:
    lab.guest("read", backing=base)
    with vs.connect(lab.uri, readonly=True) as host:
        guest = host.guest("read")
        assert guest.chain().top == lab.guest("read").chain().top
        with pytest.raises(ReadOnlyError):
            guest.start()
        plan = host.survey().overlay("new", backing=guest.chain().top)
        with pytest.raises(ReadOnlyError):
            plan.run()
        assert not os.path.lexists(plan.creates[0])


def test_a_list_without_guests_does_not_count_them() -> None:
    with pytest.raises(NotFoundError, match="no guest has that name"):
        vs.Guests(())["web"]


def test_volumes_are_read_from_xml() -> None:
    image = read_volume(
        "<volume type='file'><name>b</name><capacity unit='bytes'>1024</capacity><allocation>512</allocation>"
        "<target><path>/pool/b</path><format type='qcow2'/><permissions><mode>0444</mode></permissions></target>"
        "<backingStore><path>base one</path><format type='raw'/></backingStore></volume>"
    )
    assert image is not None
    assert (image.path, image.format, image.virtual_size, image.allocated) == ("/pool/b", "qcow2", 1024, 512)
    assert image.backing is not None
    assert (image.backing.path, image.backing.format, image.backing.kind) == ("/pool/base one", "raw", "relative")
    assert not image.writable
    folder = "<volume type='dir'><target><path>/pool/d</path><format type='dir'/></target></volume>"
    assert read_volume(folder) is None


def test_chains_are_read_from_the_xml_of_a_running_guest() -> None:
    layers = list(
        read_domain_chains(
            "<domain><devices><disk type='file'><driver type='qcow2'/><source file='/b'/>"
            "<backingStore type='file'><format type='raw'/><source file='/a'/><backingStore/></backingStore>"
            "</disk></devices></domain>"
        )
    )
    assert [(layer.path, layer.format, layer.backing and layer.backing.path, layer.problem) for layer in layers] == [
        ("/b", "qcow2", "/a", ""),
        ("/a", "raw", None, ""),
    ]
    (off,) = read_domain_chains(
        "<domain><devices><disk type='file'><driver type='qcow2'/><source file='/b'/></disk></devices></domain>"
    )
    assert (off.backing, "is not known" in off.problem) == (None, True)


def own_test_host(folder: Path) -> vs.Host:
    """Return libvirt's pretended host, as no other test has it, with a guest that has a snapshot."""
    (folder / "node.xml").write_text(
        "<node><domain type='test'><name>test</name><memory>1</memory><os><type>hvm</type></os></domain></node>"
    )
    host = vs.connect(f"test://{folder}/node.xml")
    host.guest("test").handle.domain.snapshotCreateXML("<domainsnapshot><name>s</name></domainsnapshot>")
    return host


@pytest.mark.parametrize(
    "answer", ["", "<domain", "None", "<a>" * 5000 + "</a>" * 5000, "<domain id='x'>&#0;</domain>", "<domain>\ud800"]
)
def test_what_is_not_as_libvirt_writes_it_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    libvirt = library()
    with own_test_host(tmp_path) as host:
        guest = host.guest("test")
        calls: tuple[Callable[[], object], ...] = (host.survey, host.snapshots, host.leftovers, guest.snapshots)
        for kind, method in ((libvirt.virDomain, "XMLDesc"), (libvirt.virDomainSnapshot, "getXMLDesc")):
            with monkeypatch.context() as patch:
                patch.setattr(kind, method, lambda *_: answer)
                for call in calls:
                    with pytest.raises(LibvirtError, match="cannot parse"):
                        call()
        for call in calls:
            call()


@pytest.mark.parametrize("time", ["9" * 18, "9" * 30, "²"])
def test_a_snapshot_of_a_time_that_no_calendar_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, time: str) -> None:
    libvirt = library()
    with own_test_host(tmp_path) as host:
        guest = host.guest("test")
        read = libvirt.virDomainSnapshot.getXMLDesc
        at = re.compile("(?<=<creationTime>)[^<]*")
        monkeypatch.setattr(libvirt.virDomainSnapshot, "getXMLDesc", lambda *given: at.sub(time, read(*given)))
        assert guest.snapshots().to_frame()["created"].isna().all()


@pytest.mark.parametrize("number", ["9" * 30, "²", "-1", "1e9", ""])
def test_sizes_times_and_modes_that_no_file_has_are_not_known(number: str) -> None:
    image = read_volume(
        f"<volume type='file'><capacity>{number}</capacity><target><path>/i/a</path><permissions><mode>{number}9</mode>"
        f"</permissions><timestamps><mtime>{number}.5</mtime></timestamps></target></volume>"
    )
    assert image is not None
    assert (image.virtual_size, image.mtime_ns) == (None, None)


@pytest.mark.parametrize("query", ["socket=/s", "SOCKET=/s", "mode=auto;socket=/s", "socket=/run/libvirt/s&Socket=/s"])
def test_a_socket_that_may_be_of_another_machine_is_seen_however_libvirt_takes_it(query: str) -> None:
    assert not files_are_here(f"qemu:///system?{query}")
    assert not files_are_here(f"qemu+unix:///system?{query}")
