"""What libvirt tells of images that this process may not open, or that are on another machine.

In this order, each as far as it goes: the first bytes of a volume, the volume's XML, and the definitions of guests: the
live one names the layers below a disk, and the statistics of its disks have their sizes.

Sources: https://libvirt.org/html/libvirt-libvirt-storage.html (virStorageVolDownload, virStoragePoolRefresh),
https://libvirt.org/html/libvirt-libvirt-domain.html (virConnectGetAllDomainStats), https://libvirt.org/formatdomain.html.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.files.unmounted import unmounted_above
from vmsnap_nb.system.libvirt.each import ask_each
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.heads import Heads, VolumeXml
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.storage import Pool, read_domain_chains, read_pools, read_volume
from vmsnap_nb.words.message import N_, NOTHING, Message, t

__all__ = ["Knowledge"]

_NOWHERE = N_(
    "it is on another machine and in none of its storage pools; virsh pool-define-as creates a pool for its folder"
)
_MOST_HEADS = 500
"""Volumes whose first bytes are read in one reading: each takes libvirt a process."""


def _xml(volume: Any) -> VolumeXml | None:
    """Return the XML of a volume; None if it is gone since libvirt has looked into its pool."""
    try:
        return VolumeXml(str(volume.XMLDesc()), time.monotonic())
    except library().libvirtError:
        return None


@dataclass
class Knowledge:
    """What libvirt tells at one moment; nothing is asked before it is needed.

    `xmls` are the definitions of guests, the live ones while they run. With `readonly` libvirt neither looks into its
    pools again nor reads volumes. `heads` are the headers that were read earlier over the same connection.
    If `guest` is given, libvirt's handle of one, only its statistics are asked for. `far` is whether answers take long.
    """

    connection: Any
    xmls: tuple[str, ...]
    readonly: bool = False
    heads: Heads = field(default_factory=Heads)
    guest: Any = None
    far: bool = False

    def __post_init__(self) -> None:
        self._refreshed: set[str] = set()
        self._asking = threading.RLock()
        self._pools: tuple[Pool, ...] | None = None
        self._sized: dict[str, tuple[int | None, int | None]] | None = None
        self._refreshing: dict[str, threading.Lock] = {}
        self._looked: set[str] = set()
        self._listed: dict[str, tuple[str, ...]] = {}
        self._volumes: dict[str, tuple[Any, VolumeXml]] = {}  # libvirt's handle and XML, by path

    # `cached_property` of Python 3.11 has one lock for all objects: hosts would wait for each other's answers.
    @property
    def pools(self) -> tuple[Pool, ...]:
        """The storage pools."""
        with self._asking:
            if self._pools is None:
                self._pools = read_pools(self.connection, far=self.far)
            return self._pools

    def image(self, path: str, *, whole: bool = False, early: Callable[[Image], None] = lambda _: None) -> Image | None:
        """Return what is told of an image; None if libvirt knows nothing of it.

        With `whole` the first bytes of a volume are read, so that all is known that a header says; `early` is told
        before that what libvirt has seen when it last looked into the pool.
        """
        found = self._named.get(path)
        volume = self.volume(path)
        xml = None if volume is None else self._xml_of(path, volume)
        told = None if xml is None else read_volume(xml.text)
        if xml is not None and told is not None:
            told = replace(told, path=path, known_from="volume")
            if told.device and found is not None:  # of which libvirt knows only what the definition says
                told = replace(told, format=found.format, backing=found.backing, virtual_size=found.virtual_size)
            early(told)
            found = self._with_head(told, volume, xml) if whole else told
        if found is None:
            return None
        if found.virtual_size is not None and found.file_size is not None:
            return found
        capacity, physical = self._sizes.get(path, (None, None))
        return replace(
            found,
            virtual_size=found.virtual_size if found.virtual_size is not None else capacity,
            file_size=found.file_size if found.file_size is not None else physical,
        )

    def why_unknown(self, path: str, *, here: bool) -> Message | None:
        """Return why nobody knows whether there is a file; empty if libvirt has it, None if libvirt says it is gone.

        `here` says that this process has seen no file there, though it may look.
        """
        pool = self._pool_of(path) or self._away(path)
        if here and (away := unmounted_above(path)):  # a pool can be active though its folder is empty
            return t("{folder} is listed in /etc/fstab, but nothing is mounted there", folder=away)
        if pool is None:
            return None if here else t(_NOWHERE)
        if not pool.active:
            return t("the storage pool {pool} is not active", pool=pool.name)
        self.refresh(pool)  # what is gone since libvirt has looked is a volume still
        if self._lookup(path) is None:
            if self.readonly and not here:
                return t(
                    "the storage pool {pool} was not refreshed, because the connection is read-only", pool=pool.name
                )
            return None
        if not here:
            return NOTHING
        if self.readonly:
            return t(
                "it is a volume of the storage pool {pool}, which was not refreshed, because the connection is "
                "read-only",
                pool=pool.name,
            )
        return t(
            "libvirt lists it as a volume of the storage pool {pool}, but it is not visible to this process",
            pool=pool.name,
        )

    # -- pools -----------------------------------------------------------------------------------------------

    def content(self, pool: Pool) -> tuple[frozenset[str], int]:
        """Return the paths of all volumes of a pool, looked into again if that is allowed, and its free bytes."""
        with libvirt_errors(t("list the storage pool {pool}", pool=pool.name)):
            return frozenset(self.volumes(pool)), int(pool.handle.info()[3])

    def has_folder(self, path: str) -> bool:
        """Return whether a storage pool has the folder in which a file would be, or one above it that is not active."""
        return (self._pool_of(path) or self._away(path)) is not None

    def _pool_of(self, path: str) -> Pool | None:
        folder = os.path.dirname(path)
        return next((pool for pool in self.pools if pool.folder == folder), None)

    def _away(self, path: str) -> Pool | None:
        """Return the pool that is not active, below whose folder a file would be."""
        return next((pool for pool in self.pools if not pool.active and path.startswith(f"{pool.folder}/")), None)

    def volume(self, path: str) -> Any:
        """Return libvirt's volume of a path, or None; the pool is looked into again if it does not have it."""
        if not path.startswith("/"):
            return None
        fresh = frozenset(self._refreshed)
        found = self._lookup(path)
        if found is None and (pool := self._pool_of(path)) is not None:
            self.refresh(pool)
            if pool.name in self._refreshed - fresh:  # by this thread, or by another one
                found = self._lookup(path)
        return found

    def _xml_of(self, path: str, volume: Any) -> VolumeXml | None:
        return self._volumes[path][1] if path in self._volumes else _xml(volume)

    def _lookup(self, path: str) -> Any:
        if path in self._volumes:
            return self._volumes[path][0]
        try:
            return self.connection.storageVolLookupByPath(path)
        except library().libvirtError:
            return None

    def refresh(self, pool: Pool) -> None:
        """Have libvirt look into a pool again, once."""
        if self.readonly or not pool.active:
            return
        with self._refreshing.setdefault(pool.name, threading.Lock()):
            if pool.name not in self._refreshed:
                with contextlib.suppress(library().libvirtError):  # as while a volume is being made in it
                    pool.handle.refresh()
                self._refreshed.add(pool.name)

    def volumes(self, pool: Pool) -> tuple[str, ...]:
        """Return the paths of the volumes of a pool; it is looked into again once, if that is allowed."""
        self._list([pool])
        return self._listed[pool.name]

    def list_all(self) -> None:
        """List all pools, so that each is asked once, however often its volumes are needed afterwards."""
        self._list(self.pools)
        _ = self._named, self._sizes  # read now, and not by several threads at once

    def _list(self, pools: Iterable[Pool]) -> None:
        """List the volumes of pools: all pools at the same time, and then all of their volumes."""
        pools = [pool for pool in pools if pool.name not in self._listed]
        handles = ask_each(self._handles, pools, far=self.far)
        every = [(pool, handle) for pool, found in zip(pools, handles, strict=True) for handle in found]
        xmls = ask_each(_xml, [handle for _, handle in every], far=self.far)
        listed: dict[str, list[str]] = {pool.name: [] for pool in pools}
        for (pool, handle), xml in zip(every, xmls, strict=True):
            if xml is not None:
                path = parse_xml(xml.text).findtext("target/path", "")
                self._volumes[path] = handle, xml
                listed[pool.name].append(path)
        self._listed |= {name: tuple(paths) for name, paths in listed.items()}

    def _handles(self, pool: Pool) -> list[Any]:
        """Return libvirt's handles of the volumes of a pool."""
        if not pool.active:
            return []
        self.refresh(pool)
        try:
            return list(pool.handle.listAllVolumes())
        except library().libvirtError:
            return []

    # -- the first bytes of a volume ---------------------------------------------------------------------------

    def _with_head(self, image: Image, volume: Any, xml: VolumeXml) -> Image:
        if self.readonly or image.format not in {"qcow2", "raw", None}:
            return image
        known = self.heads.known(image, xml)
        if known is not None:
            return known
        if len(self._looked) >= _MOST_HEADS:
            return image
        self._looked.add(image.path)
        try:
            return self.heads.read(image, self.connection, volume, xml)
        except VmsnapError:
            return image

    # -- guests --------------------------------------------------------------------------------------------------

    @cached_property
    def _named(self) -> dict[str, Image]:
        """The images that definitions name; a live one, which also names what is below, counts before another."""
        found: dict[str, Image] = {}
        for xml in self.xmls:
            for image in read_domain_chains(xml):
                if image.path not in found or found[image.path].problem:
                    found[image.path] = replace(image, known_from="definition")
        return found

    @property
    def _sizes(self) -> dict[str, tuple[int | None, int | None]]:
        with self._asking:
            if self._sized is None:
                self._sized = self._read_sizes()
            return self._sized

    def _read_sizes(self) -> dict[str, tuple[int | None, int | None]]:
        """Return the virtual size, and the length of the file, of each image that a running guest has, by path."""
        libvirt = library()
        wanted, flags = libvirt.VIR_DOMAIN_STATS_BLOCK, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING
        try:
            if self.guest is not None:
                every = self.connection.domainListGetStats([self.guest], wanted, flags)
            else:
                active = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
                every = self.connection.getAllDomainStats(wanted, flags | active)
        except libvirt.libvirtError:
            return {}
        found: dict[str, tuple[int | None, int | None]] = {}
        for _, stats in every:
            for number in range(stats.get("block.count", 0)):
                if path := stats.get(f"block.{number}.path"):
                    found[path] = stats.get(f"block.{number}.capacity"), stats.get(f"block.{number}.physical")
        return found
