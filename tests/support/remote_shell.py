"""ssh to a host of `support.hosts`: a private server on the loopback, with keys and files of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hosts import SystemLibvirt, free_port

__all__ = ["ssh_uri"]

_HOME = Path("/var/lib/libvirt/far")
"""Of the account ``far``, which is root's, on that host alone (`support.host_keeper`)."""


@contextlib.contextmanager
def ssh_uri(host: SystemLibvirt) -> Iterator[str]:
    """Run an ssh server on a host, and give the URI of its libvirt; no ~/.ssh is read or written."""
    folder = host.folder / "ssh"
    folder.mkdir()
    port = free_port()
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    told = _run("dropbearkey", "-t", "ed25519", "-f", folder / "host_key")
    public = next(line for line in told.splitlines() if line.startswith("ssh-ed25519"))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    with host.entered():
        keys = _HOME / ".ssh" / "authorized_keys"
        keys.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        keys.write_text((folder / "key.pub").read_text())
    client = folder / "client"
    client.write_text(f'#!/bin/sh\nexec ssh -F {shlex.quote(str(folder / "config"))} "$@"\n')
    client.chmod(0o755)
    (folder / "config").write_text(
        f"IdentityFile {folder}/key\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {folder}/known_hosts\n"
        "GlobalKnownHostsFile none\nStrictHostKeyChecking yes\nBatchMode yes\n"
    )
    words = (
        *("nsenter", f"--mount=/proc/{host.keeper.pid}/ns/mnt", "--"),
        *("dropbear", "-F", "-E", "-s", "-j", "-k", "-m", "-P", folder / "pid"),
        *("-r", folder / "host_key", "-p", f"127.0.0.1:{port}"),
    )
    with (folder / "log").open("w") as log:
        path = os.environ["PATH"] + ":/usr/sbin"
        server = subprocess.Popen([*map(str, words)], stderr=log, env={**os.environ, "PATH": path})
    try:
        _wait_for(port, server, folder / "log")
        yield f"qemu+ssh://far@127.0.0.1:{port}/system?command={client}"
    finally:
        server.terminate()
        server.wait(10)


def _run(*words: object) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail(f"the ssh server did not start: {log.read_text()}")
