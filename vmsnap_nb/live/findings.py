"""What is wrong or at risk on a host, or in folders: read, and found by the checks of plans."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.libvirt_images import absent
from vmsnap_nb.live.reading import denied_by_apparmor
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.findings import Findings, find_all, findings_needs

__all__ = ["host_findings"]


def host_findings(link: Connection, folders: Iterable[str | os.PathLike[str]]) -> Findings:
    """Return what is found of all guests of a host, and of the images of its pools and of some folders."""
    with link.one_pass():
        return _host_findings(link, folders)


def _host_findings(link: Connection, folders: Iterable[str | os.PathLike[str]]) -> Findings:
    roll, place = link.roll(), link.place(*folders)
    reading = place.survey()
    reading = place.look(reading, findings_needs(reading.forest))
    forest, here = reading.forest, link.files_are_here
    gone, unknown = absent(link.knowledge(), forest.records, here=here)
    reading = replace(reading, gone=gone, unknown=unknown)
    guests = []
    for domain, xml in roll.guests:
        guest = GuestFacts(domain=domain, uri=link.uri, xml=xml)
        denied, why = denied_by_apparmor(link.handle, guest, forest) if here else (frozenset[str](), "")
        guests.append(replace(guest, denied=denied, denied_unknown=why))
    lists = [list_snapshots(domain, forest, gone=gone, unknown=unknown) for domain, _ in roll.guests]
    return find_all(reading, guests, lists, name="host.survey()", uri=link.uri, machine=place.far_machine())
