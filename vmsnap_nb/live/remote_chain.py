"""The images of one guest on another machine, read without those of other guests: for a look at its chains.

Round trips are what takes time. So the layer below an image is asked for as soon as libvirt names it, while the first
bytes of the image are on the way; these decide what it is based on.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.live.libvirt_images import image_elsewhere
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.domains import read_disks, state_of
from vmsnap_nb.system.libvirt.knowledge import Knowledge
from vmsnap_nb.system.libvirt.storage import read_domain_chains
from vmsnap_nb.system.libvirt.volumes import with_volume_paths

__all__ = ["forest_of_one"]

Answer = TypeVar("Answer")

_THREADS = 16
"""Layers that are asked for at the same time."""


def forest_of_one(handle: GuestHandle) -> Forest:
    """Read the images of a guest, and of nothing else; who else uses them is not looked at."""
    link, domain = handle.link, handle.domain
    xml = with_volume_paths(domain.connect, handle.xml())
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="vmsnap-layer") as threads:
        state = _begun(threads, partial(state_of, domain))
        walk = _Walk(Knowledge(link.handle, (xml,), readonly=link.readonly, heads=link.heads, guest=domain), threads)
        for image in read_domain_chains(xml):
            walk.begin(image.path)
        guest = Domain(name=handle.name, uuid=handle.ref.uuid, state=state.result(), disks=read_disks(xml))
        images = walk.images([use.path for use in guest.uses])
    return Forest(images, guest.uses, (), datetime.now(UTC), alone=guest.name)


def _begun(threads: ThreadPoolExecutor, question: Callable[[], Answer]) -> Future[Answer]:
    """Return the answer to come; it is there already where this process starts no thread any more."""
    try:
        return threads.submit(question)
    except RuntimeError:
        future: Future[Answer] = Future()
        future.set_result(question())
        return future


class _Walk:
    def __init__(self, knowledge: Knowledge, threads: ThreadPoolExecutor) -> None:
        self._knowledge, self._threads = knowledge, threads
        self._asked: dict[str, Future[Image]] = {}

    def begin(self, path: str) -> Future[Image]:
        """Ask for an image, unless that was done before."""
        if path not in self._asked:
            question = partial(image_elsewhere, path, self._knowledge, whole=True, early=self._below)
            self._asked[path] = _begun(self._threads, question)
        return self._asked[path]

    def _below(self, image: Image) -> None:
        if image.backing is not None:
            self.begin(image.backing.key)

    def images(self, row: list[str]) -> dict[str, Image]:
        """Return some images, and all that they are based on."""
        found: dict[str, Image] = {}
        while row:
            path = row.pop()
            found[path] = self.begin(path).result()
            backing = found[path].backing
            if backing is not None and backing.key not in found:
                row.append(backing.key)
        return found
