"""Checks of what security drivers of libvirt (AppArmor, SELinux, DAC) keep QEMU from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmsnap_nb.model.aliases import is_among
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.concern import Concern, either, refuse, warn
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.words.message import joined, listed, t

__all__ = ["denied_writes", "not_relabelled"]

_LIFTED = (12, 1, 0)
"""Since this version a block job may write to layers that AppArmor's rules for the start of a guest deny."""


def denied_writes(owner: GuestFacts, forest: Forest, written: Iterable[str]) -> Iterator[Concern]:
    """Check that QEMU may write to layers below the image that a running guest writes to."""
    guest, version = owner.domain.name, ".".join(map(str, owner.libvirt_version))
    if owner.libvirt_version >= _LIFTED:
        return
    written = tuple(dict.fromkeys(written))
    remedy = either(
        t("pull instead: a pull writes only to the active layer of {guest}", guest=guest),
        t("shut {guest} down, then merge: AppArmor does not confine qemu-img", guest=guest),
    )
    denied = tuple(path for path in written if is_among(forest, path, owner.denied))
    if denied:
        yield refuse(
            "no-permission",
            t(
                "AppArmor does not let the QEMU process of {guest} write to {images}. When {guest} was started, "
                "libvirt {version} added the rule {rule}. Only libvirt 12.1 and later lift it for a block job",
                guest=guest,
                images=listed(denied),
                version=version,
                rule=f'deny "{denied[0]}" w',
            ),
            remedy,
            images=denied,
            holders=(guest,),
            waivable=True,
        )
    elif owner.denied_unknown and written:
        yield refuse(
            "no-permission",
            t(
                "the AppArmor rules of {guest} cannot be read ({why}). With libvirt before 12.1, AppArmor may "
                "prevent the QEMU process of {guest} from writing to {images}",
                guest=guest,
                images=listed(written),
                why=owner.denied_unknown,
            ),
            either(
                remedy,
                t(
                    "waive this if you know that QEMU may write to these images. If it may not, libvirt refuses and "
                    "nothing is changed"
                ),
            ),
            images=written,
            holders=(guest,),
            waivable=True,
        )


def not_relabelled(owner: GuestFacts, paths: tuple[str, ...]) -> Iterator[Concern]:
    """Check whether libvirt lets QEMU have files that it did not have before."""
    if owner.running and owner.not_relabelled and paths:
        guest, every = owner.domain.name, t("all security drivers")
        yield warn(
            "no-permission",
            t(
                "libvirt does not label files for {guest} ({drivers}: relabel='no' in its XML), so QEMU may lack "
                "permission to write to {images}",
                guest=guest,
                drivers=joined(one or every for one in owner.not_relabelled),
                images=listed(paths),
            ),
            t("give these files the same owner and label as the guest's disks, or change <seclabel>"),
            images=paths,
            holders=(guest,),
        )
