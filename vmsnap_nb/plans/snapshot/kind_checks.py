"""Whether a kind of snapshot can be taken of a guest: by its state, its disks, its devices and its firmware."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.checks import devices, given_up
from vmsnap_nb.plans.concern import Concern, either, refuse, remark
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.snapshot.choice import SnapshotChoice
from vmsnap_nb.words.message import Message, clauses, listed, t
from vmsnap_nb.words.states import state_words

__all__ = ["check_kind"]


def check_kind(forest: Forest, owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check whether this kind goes with the guest's state and disks."""
    yield from _disks(owner, choice)
    yield from _state(owner, choice)
    if choice.kind == "external-checkpoint":
        yield from given_up.no_second_memory(owner, t("use {argument}", argument="kind='external-disk'"))
    if choice.with_memory:
        yield from devices.memory_stays(forest, owner, t("use {argument}", argument="kind='external-disk'"))
    external = [disk.target for disk in choice.disks if disk.held == "external"]
    yield from devices.special_disks(owner, external)
    for target in external:
        yield from devices.parts_of_files(
            owner, (target,), t("leave it out: {argument}", argument=f"disks={{{target!r}: 'no'}}"), forest=forest
        )
    yield from devices.tpm(owner, with_memory=choice.with_memory, reverting=False)
    yield from _firmware(owner, choice)
    yield from _inside(forest, owner, choice)
    if not choice.inside and choice.request.metadata:
        yield from _parent(forest, owner.domain.name)


def _disks(owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check that there are disks, and all of one kind."""
    guest, wanted = owner.domain.name, "internal" if choice.inside else "external"
    held = {disk.held for disk in choice.disks} - {"no"}
    if not held:
        reasons = [t("{disk}: {why}", disk=out.target, why=out.why) for out in choice.left_out]
        yield refuse(
            "not-supported",
            t(
                "the snapshot would include none of the disks of {guest} ({reasons})",
                guest=guest,
                reasons=clauses(reasons),
            )
            if reasons
            else t("the snapshot would include no disk: {guest} has none", guest=guest),
            t("use {argument}, or name the disks", argument="kind='external-disk'")
            if choice.inside
            else t("name the disks and their overlays"),
        )
    elif held - {wanted}:
        mixed = listed(d.target for d in choice.disks if d.held not in ("no", wanted))
        if choice.inside:
            what = t(
                "a snapshot must be internal or external for all its disks, but {disks} would be external", disks=mixed
            )
        else:
            what = t(
                "a snapshot must be internal or external for all its disks, but {disks} would be internal", disks=mixed
            )
        yield refuse(
            "mixed-kinds",
            what,
            t("choose one kind for all disks, or take two snapshots, each of which leaves out some disks ('no')"),
            holders=(guest,),
        )


def _inside(forest: Forest, owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check that an internal snapshot includes all disks, and that these can hold it."""
    left_out = [out for out in choice.left_out if out.writable]
    if choice.inside and left_out and any(disk.held != "no" for disk in choice.disks):
        reasons = [t("{disk}: {why}", disk=out.target, why=out.why) for out in left_out]
        yield refuse(
            "not-supported",
            t(
                "an internal snapshot must include all disks, but {disks} would be left out ({reasons})",
                disks=listed(out.target for out in left_out),
                reasons=left_out[0].why if len(left_out) == 1 else clauses(reasons),
            ),
            t(
                "use {argument}, which supports disks of any format and can leave disks out",
                argument="kind='external-disk'",
            ),
            holders=(owner.domain.name,),
        )
    if choice.kind == "internal-disk":
        held = [disk.target for disk in choice.disks if disk.held == "internal"]
        yield from devices.floppies(owner, held)
        yield from devices.network_disks(owner, held)
    for disk in choice.disks:
        image = forest.images.get(disk.source or "")
        if disk.held == "internal" and image is not None and image.format not in (None, "qcow2"):
            yield refuse(
                "not-supported",
                t(
                    "disk {disk} is {format}, and only qcow2 can hold an internal snapshot",
                    disk=disk.target,
                    format=image.format,
                ),
                t("use {argument}, or leave the disk out", argument="kind='external-disk'"),
                images=(image.path,),
            )


def _state(owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check whether this kind is taken of a guest in that state."""
    domain = owner.domain
    if choice.kind == "internal-disk" and owner.running:
        yield refuse(
            "not-supported",
            t(
                "{guest} is {state}, and libvirt cannot take an internal disk snapshot of a running guest",
                guest=domain.name,
                state=state_words(domain.state),
            ),
            t(
                "use {checkpoint} (with memory) or {external}, or shut {guest} down first",
                checkpoint="kind='internal-checkpoint'",
                external="kind='external-disk'",
                guest=domain.name,
            ),
            holders=(domain.name,),
        )
    if choice.with_memory and not owner.running:
        other = choice.kind.replace("checkpoint", "disk")
        yield refuse(
            "not-supported",
            t("{guest} is {state}, so it has no memory to save", guest=domain.name, state=state_words(domain.state)),
            t("use {argument}, or start {guest} first", argument=f"kind={other!r}", guest=domain.name),
            holders=(domain.name,),
        )


def _firmware(owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check what becomes of the variables of UEFI firmware."""
    if not owner.pflash:
        return
    guest, running = owner.domain.name, owner.running
    if why := _no_firmware_inside(owner) if choice.inside else None:
        external = t("use {argument}", argument="kind='external-disk'")
        both = either(external, t("use {argument}", argument="kind='external-checkpoint'"))
        yield refuse("not-supported", why, both if running else external, holders=(guest,))
    elif choice.kind == "external-disk" or (choice.inside and not owner.holds_nvram):
        if owner.nvram:
            what = t(
                "the snapshot does not include the UEFI variables of {guest} in {file}: a revert will not change them",
                guest=guest,
                file=owner.nvram,
            )
        else:
            what = t(
                "the snapshot does not include the UEFI variables of {guest}: a revert will not change them",
                guest=guest,
            )
        yield remark(
            "not-supported",
            what,
            t("if you need these variables, also copy that file"),
            images=(owner.nvram,) if owner.nvram else (),
            holders=(guest,),
        )


def _no_firmware_inside(owner: GuestFacts) -> Message | None:
    """Return why libvirt takes no internal snapshot of a guest with UEFI firmware, if there is a reason."""
    guest, running = owner.domain.name, owner.running
    version = ".".join(map(str, owner.libvirt_version))
    if not owner.takes_inside(running=running):
        if running:
            return t(
                "{guest} has UEFI firmware, and libvirt {version} cannot take an internal snapshot of it while it "
                "runs (10.10 and later can)",
                guest=guest,
                version=version,
            )
        return t(
            "{guest} has UEFI firmware, and libvirt {version} cannot take an internal snapshot of it (9.3 and later "
            "can)",
            guest=guest,
            version=version,
        )
    if running and not owner.holds_nvram:
        return t(
            "{guest} has UEFI firmware, and libvirt can take an internal snapshot of it while it runs only if {file} "
            "is qcow2",
            guest=guest,
            file=owner.nvram,
        )
    return None


def _parent(forest: Forest, guest: str) -> Iterator[Concern]:
    """Check whether an external snapshot would have an internal one as its parent."""
    current = next((record for record in forest.records if record.guest == guest and record.current), None)
    if current is not None and current.kind.startswith("internal"):
        yield remark(
            "mixed-kinds",
            t(
                "the parent will be the internal snapshot {name}, and libvirt cannot delete an external snapshot "
                "with an internal parent",
                name=current.name,
            ),
            t("no action is needed: delete_snapshot() performs the deletion in separate steps"),
            holders=(guest,),
        )
