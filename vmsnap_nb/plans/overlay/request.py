"""Requests for new overlays, and for new guests on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.checks.notes import note_folders
from vmsnap_nb.plans.overlay.plan import link_folders, plan_guests, plan_overlays
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading

__all__ = ["GuestsRequest", "OverlayRequest"]


@dataclass(frozen=True, kw_only=True)
class OverlayRequest:
    """One or more new qcow2 images on one base; all paths are absolute.

    `backing_format` is needed where nothing tells the base's format: a raw image looks like any file. `size` is the
    virtual size in bytes, that of the base if None; `cluster_size` a power of two from 512 to 2 MiB, QEMU's default of
    64 KiB if None. If `relative`, the overlays refer to the base relative to their own folder; if `protect`, the base
    loses its write permission.
    """

    paths: tuple[str, ...]
    backing: str
    backing_format: str | None = None
    size: int | None = None
    cluster_size: int | None = None
    relative: bool = False
    protect: bool = False

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read beside the forest."""
        layers = forest.known_lineage(self.backing) or (self.backing,)
        names = (name for path in layers for name in forest.same_file(path) if name.startswith("/"))
        permits = tuple(dict.fromkeys((*names, *link_folders(forest, self.backing))))
        return Needs(places=self.paths, journal=note_folders(forest, (self.backing,)), permits=permits)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_overlays(reading, self)


@dataclass(frozen=True, kw_only=True)
class GuestsRequest:
    """New guests, each on a new overlay of one base.

    `disks` has for each guest's name the absolute path of its overlay, `xml` its domain XML; `uri` is where they are
    defined.
    """

    disks: Mapping[str, str]
    xml: Mapping[str, str] = field(repr=False)
    backing: str
    uri: str = ""
    protect: bool = False

    @property
    def overlays(self) -> OverlayRequest:
        """The part of it that is about images."""
        return OverlayRequest(paths=tuple(self.disks.values()), backing=self.backing, protect=self.protect)

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read beside the forest."""
        return self.overlays.needs(forest)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_guests(reading, self)
