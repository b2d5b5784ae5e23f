"""Start JupyterLab as Binder does, and look where a visitor arrives who names no notebook; fails by an assertion."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

TOKEN = "t" * 32
NOTEBOOK = "notebooks/00-quickstart.ipynb"


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def arrival(url: str, seconds: float = 120) -> str:
    """Return the address to which a visitor of this one is led, once somebody answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url) as page:
                return str(page.url)
        except urllib.error.URLError as error:
            assert time.monotonic() < deadline, error
            time.sleep(0.2)


def main() -> None:
    """Check it."""
    port = free_port()
    options = ["--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    argv = [sys.executable, "-m", "jupyterlab", *options, f"--IdentityProvider.token={TOKEN}"]
    with subprocess.Popen(argv) as server:
        try:
            url = f"http://127.0.0.1:{port}/"
            arrived = arrival(f"{url}?token={TOKEN}")
            assert f"/lab/tree/{NOTEBOOK}" in arrived, arrived
            with urllib.request.urlopen(f"{url}api/contents/{NOTEBOOK}?content=0&token={TOKEN}") as found:
                assert json.load(found)["type"] == "notebook"
            print("a visitor arrives at", arrived)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
