"""Which storage pools of several hosts are the same storage."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.files.paths import real_path
from vmsnap_nb.system.libvirt.storage import Pool

__all__ = ["PoolKey", "pool_keys"]

_NETWORK = frozenset({"netfs", "iscsi", "iscsi-direct", "rbd", "gluster", "sheepdog", "vstorage"})


@dataclass(frozen=True, slots=True)
class PoolKey:
    """A storage pool: its folder, and what another host calls the same, its UUID or the export that it mounts."""

    folder: str | None
    keys: frozenset[str]
    network: bool = False


def pool_keys(pools: Iterable[Pool], *, here: bool) -> tuple[PoolKey, ...]:
    """Return what tells the pools of a host from those of others; of this machine, with folders without links."""
    return tuple(_key(pool.xml, pool.folder, here=here) for pool in pools)


def _key(xml: str, folder: str | None, *, here: bool) -> PoolKey:
    pool = parse_xml(xml)
    source = pool.find("source")
    export = "" if source is None else _export(source)
    kind = pool.get("type") or ""
    found = {f"uuid {pool.findtext('uuid')}", *([f"{kind} {export}"] if export else [])}
    return PoolKey(real_path(folder) if folder and here else folder, frozenset(found), kind in _NETWORK)


def _export(source: ET.Element) -> str:
    hosts = sorted(f"{host.get('name')}:{host.get('port') or ''}" for host in source.iterfind("host"))
    folder, device = source.find("dir"), source.find("device")
    path = (folder.get("path") if folder is not None else device.get("path") if device is not None else "") or ""
    return f"{','.join(hosts)} {path.rstrip('/')}" if hosts else ""
