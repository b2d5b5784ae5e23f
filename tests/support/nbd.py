"""Images on the network: exported by qemu-nbd, at a socket or on the loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.images import write


@dataclass(frozen=True)
class Export:
    """An image that a server exports."""

    image: Path
    at: Path | int  # the socket, or the port of 127.0.0.1
    name: str = "disk"

    @property
    def address(self) -> str:
        """Its address, as `qemu-img` takes it."""
        if isinstance(self.at, int):
            return f"nbd://127.0.0.1:{self.at}/{self.name}"
        return f"nbd+unix:///{self.name}?socket={self.at}"

    @property
    def json(self) -> str:
        """The same in another form."""
        server = (
            {"type": "inet", "host": "127.0.0.1", "port": str(self.at)}
            if isinstance(self.at, int)
            else {"type": "unix", "path": str(self.at)}
        )
        node = {"driver": "nbd", "server": server, "export": self.name}
        return "json:" + json.dumps({"driver": "raw", "file": node})

    @property
    def xml(self) -> str:
        """The source of a disk in libvirt's XML."""
        host = (
            f"<host name='127.0.0.1' port='{self.at}'/>"
            if isinstance(self.at, int)
            else f"<host transport='unix' socket='{self.at}'/>"
        )
        return f"<source protocol='nbd' name='{self.name}'>{host}</source>"


@contextlib.contextmanager
def exported(image: Path, kind: str, name: str = "disk") -> Iterator[Export]:
    """Export a new raw image, by `kind` ``unix`` or ``tcp``."""
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    write(image, "write -q -P 200 0 16M", format="raw")
    at: Path | int = image.with_suffix(".sock")
    if kind == "tcp":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            at = free.getsockname()[1]
    where = ["-k", str(at)] if isinstance(at, Path) else ["-b", "127.0.0.1", "-p", str(at)]
    server = subprocess.Popen(["qemu-nbd", "-t", "-e", "20", *where, "-f", "raw", "-x", name, str(image)])
    try:
        export = Export(image, at, name)
        deadline = time.monotonic() + 30
        while subprocess.run(["qemu-img", "info", export.address], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield export
    finally:
        server.terminate()
        server.wait(20)
