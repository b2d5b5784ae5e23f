"""Images on the network: what their addresses, in any of their forms, have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from vmsnap_nb.model.identity import Identity

__all__ = ["address", "address_of", "options_of", "plain_address"]

_PORTS = {"nbd": 10809, "iscsi": 3260, "gluster": 24007, "ssh": 22, "http": 80, "https": 443, "ftp": 21, "ftps": 990}
"""Those that a server has if none is given (QEMU, block/*.c)."""
_TRANSPORTS = ("tcp", "unix", "rdma")


def address(protocol: str, name: str, hosts: Iterable[Mapping[str, str]], query: str = "") -> str:
    """Return the address of an image as QEMU takes it, out of what libvirt's XML says of a network disk.

    Examples
    --------
    >>> address("nbd", "disk", [{"name": "box", "port": "10809"}])
    'nbd://box:10809/disk'
    >>> address("nbd", "disk", [{"transport": "unix", "socket": "/run/nbd"}])
    'nbd+unix:///disk?socket=/run/nbd'
    """
    servers = list(hosts)
    path = quote(name.lstrip("/"), safe="/:@,+=")
    if protocol == "rbd":
        monitors = "\\;".join(_host(server).replace(":", "\\:") for server in servers)
        return f"rbd:{name}" + (f":mon_host={monitors}" if monitors else "")
    first = servers[0] if servers else {}
    if first.get("transport") == "unix":
        return f"{protocol}+unix:///{path}?socket={quote(first.get('socket', ''), safe='/')}"
    return f"{protocol}://{_host(first)}/{path}" + (f"?{query.removeprefix('?')}" if query else "")


def _host(server: Mapping[str, str]) -> str:
    name, port = server.get("name", ""), server.get("port", "")
    return (f"[{name}]" if ":" in name else name) + (f":{port}" if port else "")


def address_of(written: str) -> Identity | None:
    """Return where an image on the network lies: protocol, server, and name there; None where that is not known.

    Without a server it is not known: which one is asked then is decided elsewhere.

    Examples
    --------
    >>> address_of("nbd://BOX/disk") == address_of("nbd:box:10809:exportname=disk")
    True
    >>> address_of("nbd:///disk") is None
    True
    """
    protocol, _, rest = written.partition(":")
    try:
        if protocol == "json":
            options = options_of(rest)
            return None if options is None else _of_options(options)
        if rest.startswith("//"):
            return _of_url(written)
        if protocol == "nbd":
            return _of_nbd(rest)
        return _of_rbd(rest) if protocol == "rbd" else None
    except ValueError:
        return None


def plain_address(written: str) -> str:
    """Return an address that was written as ``json:`` in its short form, where it has one."""
    place = address_of(written) if written.startswith("json:") else None
    if place is None or place[0] != "nbd":
        return written
    server, name = str(place[1]), str(place[-1])
    if server.startswith("unix:/"):
        return address("nbd", name, [{"transport": "unix", "socket": server.removeprefix("unix:")}])
    return address("nbd", name, [{"name": server, "port": str(place[2])}])


def _known(protocol: str, host: str | None, port: object, name: str) -> Identity | None:
    """Return the place on a server that is reached by TCP."""
    if not host:
        return None
    number = _PORTS.get(protocol) if port in (None, "") else int(str(port))
    return (protocol, host.lower(), -1 if number is None else number, name)


def _at_socket(protocol: str, socket: object, name: str) -> Identity | None:
    return (protocol, f"unix:{socket}", name) if isinstance(socket, str) and socket.startswith("/") else None


def _of_url(written: str) -> Identity | None:
    url = urlsplit(written)
    protocol, _, transport = url.scheme.partition("+")
    if transport not in ("", *_TRANSPORTS):
        return None
    name, query = unquote(url.path).removeprefix("/"), parse_qs(url.query, keep_blank_values=True)
    if transport == "unix":
        return _at_socket(protocol, query.get("socket", [None])[0], name)
    more = "" if protocol == "nbd" or not url.query else f"?{url.query}"
    user = f"{url.username}@" if url.username else ""
    place = _known(protocol, url.hostname, url.port, name + more)
    return (*place[:1], user + str(place[1]), *place[2:]) if place is not None and user else place


def _of_nbd(rest: str) -> Identity | None:
    server, _, name = rest.partition(":exportname=")
    if server.startswith("unix:"):
        return _at_socket("nbd", server.removeprefix("unix:"), name)
    host, _, port = server.rpartition(":")
    return _known("nbd", host.strip("[]"), port, name)


def _of_rbd(rest: str) -> Identity | None:
    parts = [part.replace("\\", "") for part in re.split(r"(?<!\\):", rest)]
    monitors = [part.removeprefix("mon_host=") for part in parts[1:] if part.startswith("mon_host=")]
    return ("rbd", *sorted(re.split("[;,]", monitors[0].lower())), parts[0]) if monitors and parts[0] else None


# -- json: ------------------------------------------------------------------------------------------------


def _of_options(options: Mapping[str, Any]) -> Identity | None:
    prefix = ""
    while any(key.startswith(f"{prefix}file.") for key in options) and len(prefix) < 80:
        prefix += "file."
    node = {key.removeprefix(prefix): value for key, value in options.items() if key.startswith(prefix)}
    protocol = node.get("driver")
    if not isinstance(protocol, str):
        return None
    if isinstance(url := node.get("url"), str):
        return address_of(url)
    name = node.get("export", node.get("path" if protocol in ("ssh", "gluster") else "export", ""))
    server = {key.partition(".")[2]: value for key, value in node.items() if key.startswith(("server.", "server.0."))}
    server = {key.removeprefix("0."): value for key, value in server.items()}
    if not server and protocol == "nbd":  # as QEMU took it before 2.8
        server = {"host": node.get("host"), "port": node.get("port"), "path": node.get("path")}
    if protocol == "iscsi":
        host, _, port = str(node.get("portal", "")).partition(":")
        return _known("iscsi", host, port, f"{node.get('target', '')}/{node.get('lun', 0)}")
    if protocol not in ("nbd", "ssh") or not isinstance(name, str):
        return None
    if server.get("type") == "unix" or (protocol == "nbd" and server.get("path") and not server.get("host")):
        return _at_socket(protocol, server.get("path"), name)
    return _known(protocol, _text(server.get("host")), server.get("port"), name.removeprefix("/"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)


def options_of(text: str) -> dict[str, Any] | None:
    """Read QEMU's JSON, which also has strings in single quotes, and flatten it to dotted keys; None if it is none."""
    try:
        options = json.loads(_QUOTED.sub(_double_quoted, text) if "'" in text else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(options, dict):
        return None
    flat: dict[str, Any] = {}
    level: list[tuple[str, dict[str, Any]]] = [("", options)]
    for prefix, part in level:
        for key, value in part.items():
            if isinstance(value, list) and key == "server" and value and isinstance(value[0], dict):
                level.append((f"{prefix}{key}.0.", value[0]))
            elif isinstance(value, dict):
                level.append((f"{prefix}{key}.", value))
            else:
                flat[prefix + key] = value
    return flat


def _double_quoted(match: re.Match[str]) -> str:
    inner = match[1]
    if inner is None:
        return match[0]
    return '"' + inner.replace("\\'", "'").replace('"', '\\"') + '"'
