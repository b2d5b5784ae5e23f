"""Certificates for TLS on the loopback, for as long as a test runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["make_certificates"]

_EXTENSIONS = {
    "ca": ("basicConstraints=critical,CA:TRUE",),
    "server": ("basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1"),
    "client": ("basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"),
}


def make_certificates(folder: Path) -> None:
    """Make an authority, and certificates of a server and of a client, under libvirt's names."""
    folder.mkdir()
    for name, extensions in _EXTENSIONS.items():
        signed = () if name == "ca" else ("-CA", folder / "cacert.pem", "-CAkey", folder / "cakey.pem")
        words = (
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
            *("-subj", f"/CN=vmsnap_nb {name}", "-days", "2"),
            *(*(word for one in extensions for word in ("-addext", one)), *signed),
            *("-keyout", folder / f"{name}key.pem", "-out", folder / f"{name}cert.pem"),
        )
        subprocess.run([*map(str, words)], check=True, capture_output=True)
