"""What helps with the exercises without the package."""

from __future__ import annotations

from vmsnap_nb.lab.exercises.help import HELP as WITH_PACKAGE
from vmsnap_nb.lab.exercises.help import Help
from vmsnap_nb.words.message import N_

__all__ = ["HELP"]

HELP: dict[str, Help] = WITH_PACKAGE | {
    "hand-thin-guests": Help(
        idea=N_("Each overlay needs one command, and protecting the template needs one more."),
        verb="qemu-img create -b … -F …, chmod a-w",
        first="qemu-img create -f qcow2 -F qcow2 -b Template.qcow2 web.qcow2",
        why=N_("Each header names the template and its format. The three overlays take less than 1 MiB together."),
        other=(
            "cd {folder}; for n in web mail data; do qemu-img create -f qcow2 -F qcow2 -b Template.qcow2 $n.qcow2; "
            "done; chmod a-w Template.qcow2"
        ),
    ),
    "hand-missing-format": Help(
        idea=N_("`qemu-img info` prints a line `backing file format` only if the header records it."),
        verb="qemu-img info --backing-chain, qemu-img rebase -u -F",
        first="qemu-img info --backing-chain Overlay-2.qcow2",
        why=N_("Only one header has changed. `qemu-img info` of the base shows the format."),
        other="qemu-img rebase -u -f qcow2 -F qcow2 -b {folder}/RootBase.qcow2 {folder}/Overlay-1.qcow2",
    ),
    "hand-export-internal": Help(
        idea=N_("`qemu-img convert` reads the current state unless an option names a snapshot."),
        verb="qemu-img snapshot -l, qemu-img convert -l",
        first="qemu-img snapshot -l Archive-1.qcow2",
        why=N_("The copy is an image without a backing file, with the disk as it was at that moment."),
        other="qemu-img convert -l snapshot.name=monday -O qcow2 {folder}/Archive-1.qcow2 {folder}/monday.qcow2",
    ),
    "hand-snapshot": Help(
        idea=N_("The name of the new overlay can be chosen. The current file becomes its backing file."),
        verb="virsh snapshot-create-as --disk-only --diskspec …",
        first="virsh define postman.xml; virsh start postman",
        why=N_("Mail.qcow2 holds the state of the snapshot, and the guest writes to Mail-new.qcow2."),
        other=(
            "qemu-img create -f qcow2 -F qcow2 -b {folder}/Mail.qcow2 {folder}/Mail-new.qcow2; virsh "
            "snapshot-create-as postman before --disk-only --reuse-external --diskspec vda,file={folder}/Mail-new.qcow2"
        ),
    ),
    "hand-middle-layer": Help(
        idea=N_("Snap-2 can go down or up. Which of the two directions writes to an image that Other needs?"),
        verb="qemu-img rebase -b …",
        first="qemu-img info --backing-chain Other.qcow2",
        why=N_("The data of Snap-2 was copied up into Snap-3. A commit would write to Snap-1, which Other needs."),
        other="cd {folder}; qemu-img commit -d Snap-3.qcow2; mv Snap-2.qcow2 Snap-3.qcow2",
    ),
    "hand-shrink": Help(
        idea=N_("The clusters of deleted snapshots stay in the file. A copy contains only clusters that are in use."),
        verb="qemu-img snapshot -d, qemu-img convert, mv",
        first="qemu-img snapshot -l Big.qcow2",
        why=N_("`qemu-img convert` copied the current state only, so the snapshots and their clusters are gone."),
        other="cd {folder}; qemu-img convert -O qcow2 Big.qcow2 Small.qcow2; mv Small.qcow2 Big.qcow2",
    ),
    "hand-pivot": Help(
        idea=N_("One job merges all layers above the base. At its end the guest must switch to the base."),
        verb="virsh blockcommit --active --pivot --wait",
        first="virsh define till.xml; virsh start till",
        why=N_("The job copied both layers into Till, and the pivot changed the guest's disk, also in its definition."),
        other="virsh blockcommit till vda --base {folder}/Till.qcow2 --active --pivot --wait",
    ),
    "hand-loop": Help(
        idea=N_("`qemu-img info` of one file reads only its header, even in a loop. Which file was written last?"),
        verb="ls -t, qemu-img info, qemu-img rebase -u",
        first="ls -t *.qcow2; qemu-img info Overlay-1.qcow2",
        why=N_("One header named an image above it. The other headers, and all data, were correct."),
        other="cd {folder}; qemu-img rebase -u -f qcow2 -F qcow2 -b $PWD/RootBase.qcow2 Overlay-1.qcow2",
    ),
}
"""By name, of all exercises."""
