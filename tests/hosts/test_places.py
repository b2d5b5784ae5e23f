"""The same verbs as root, as a plain user, over TCP and over ssh: what works from where, and who does it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from support import places
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img
from support.remote_shell import ssh_uri

import vmsnap_nb as vs
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts

NEEDS_FILES = {"pull", "shorten", "commit", "delete an external snapshot"}
"""What is done by qemu-img or by this package if the guest is off, and so only where the files can be written to."""

NOT_SEEN = {"clean up after a merge", "complete an interrupted operation"}
"""What begins with marks in images, and with entries beside them, which only who may open these sees."""

Try = Callable[[Mapping[str, list[str]]], dict[str, dict[str, Any]]]


@contextlib.contextmanager
def guest_of_two_layers(host: SystemLibvirt) -> Iterator[Any]:
    """A running guest demo, whose images only QEMU's user may read."""
    with host.entered():
        qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "16M")
        qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
        for name in ("base.qcow2", "top.qcow2"):
            os.chmod(IMAGES / name, 0o600)
    connection = library().open(host.uri)
    pool(connection, "images", IMAGES)
    demo = define(connection, "demo", file_disk(IMAGES / "top.qcow2"), running=True)
    demo.resume()
    yield demo
    connection.close()


def source_of(demo: Any) -> str:
    source = ET.fromstring(demo.XMLDesc()).find("devices/disk/source")
    assert source is not None
    return source.get("file", "")


def interrupt(host: SystemLibvirt) -> None:
    """Begin a commit on the host itself, as root, and have its process killed as soon as the data are copied."""
    code = """
        from support.faulty import faulty, killed
        with vs.connect("qemu:///system") as host:
            guest = host.guest("demo")
            guest.snapshot(kind="external-disk", metadata=False).run(progress=False)
            faulty(guest.commit(), "CommitLayers", killed).run(progress=False)
    """
    done = host.python(code, user="root", groups=())
    assert done.returncode == -signal.SIGKILL, done.stderr


def check(place: str, host: SystemLibvirt, attempt: Try) -> None:
    """Try all verbs, check how each has ended, and keep that for the page."""
    with guest_of_two_layers(host) as demo:
        results = {"running": attempt(places.RUNNING), "off": attempt(places.SAVED)}
        demo.destroy()
        results["off"] |= attempt(places.OFF)
        attempt(places.BEFORE_DRIFT)
        with host.entered():
            qemu_img("snapshot", "-d", "gone", source_of(demo))
            qemu_img("create", "-q", "-f", "qcow2", "forgotten.qcow2", "1M")
            os.chmod(IMAGES / "forgotten.qcow2", 0o600)
        results["off"] |= attempt(places.DRIFT) | attempt(places.LEFT)
        interrupt(host)
        results["off"] |= attempt(places.INTERRUPTED)
    for state, verbs in results.items():
        for verb, one in verbs.items():
            if place != "local root" and verb in NOT_SEEN:
                assert one.get("told", "").startswith("finds nothing"), (state, verb, one)
            elif state == "off" and verb in NEEDS_FILES and place != "local root":
                assert one["refused"], (state, verb, one)
            else:
                assert (one["refused"], one.get("good")) == ([], True), (state, verb, one)
                assert place == "local root" or one["performers"] == ["libvirt"], (state, verb, one)
    places.save(place, results)


def from_here(uri: str) -> Try:
    def attempt(verbs: Mapping[str, list[str]]) -> dict[str, dict[str, Any]]:
        with vs.connect(uri) as host:
            return places.tried(host, verbs)

    return attempt


def test_local_root(system: SystemLibvirt) -> None:
    check("local root", system, from_here("qemu:///system"))


def test_local_plain_user(system: SystemLibvirt) -> None:
    code = """
        import json
        from support.places import tried
        with vs.connect("qemu:///system") as host:
            print(json.dumps(tried(host, json.loads(sys.argv[1]))))
    """

    def attempt(verbs: Mapping[str, list[str]]) -> dict[str, dict[str, Any]]:
        done = system.python(code, json.dumps(verbs), timeout=120)
        assert done.returncode == 0, done.stderr
        found: dict[str, dict[str, Any]] = json.loads(done.stdout)
        return found

    check("local plain user", system, attempt)


def test_tcp(other: SystemLibvirt) -> None:
    check("TCP", other, from_here(other.uri))


def test_ssh(other: SystemLibvirt) -> None:
    with ssh_uri(other) as uri:
        check("ssh", other, from_here(uri))


def test_tls(other: SystemLibvirt) -> None:
    with guest_of_two_layers(other):
        results = from_here(other.tls_uri)({verb: places.RUNNING[verb] for verb in ("commit", "pull")})
    assert [one["good"] for one in results.values()] == [True, True]
