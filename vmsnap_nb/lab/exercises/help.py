"""What helps with each exercise: an idea, a verb, a first line; and after success a reason and another solution."""

from __future__ import annotations

from dataclasses import dataclass

from vmsnap_nb.words.message import N_

__all__ = ["HELP", "Help"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """The help with one exercise; `idea` and `why` are templates, the others are code."""

    idea: str
    verb: str
    first: str
    why: str
    other: str  # another solution; its `{folder}` is the exercise's


HELP: dict[str, Help] = {
    "faded-overlay": Help(
        idea=N_(
            "Each of the three cases needs the same three things: a backing file, a backing format and write "
            "protection."
        ),
        verb="qemu-img create -f qcow2 -F … -b …, chmod a-w",
        first="qemu-img create -f qcow2 -F qcow2 -b Base-2.qcow2 {folder}/Top-2.qcow2",
        why=N_("Each header names its base and the base's format, and no base can be changed by mistake."),
        other='for n in (2, 3): images.overlay(f"Top-{n}", backing=f"Base-{n}", protect=True).run()',
    ),
    "first-overlay": Help(
        idea=N_("An overlay is a new qcow2 image whose header names its backing file and that file's format."),
        verb="forest.overlay(…), qemu-img create -b … -F …",
        first='images.overlay("Overlay-1.qcow2", backing="RootBase")',
        why=N_("The header now names the backing file and its format, so neither QEMU nor libvirt has to guess."),
        other="qemu-img create -f qcow2 -F qcow2 -b RootBase.qcow2 {folder}/Overlay-1.qcow2",
    ),
    "thin-guests": Help(
        idea=N_("Three overlays can have the same backing file; they do not see each other."),
        verb="forest.overlay([…], backing=…, protect=True)",
        first='images.overlay(["web.qcow2", "mail.qcow2", "data.qcow2"], backing="Template")',
        why=N_(
            "All three read the template, and each writes to its own file. Without write permission, the template "
            "cannot be changed by mistake."
        ),
        other=(
            "cd {folder}; for n in web mail data; do qemu-img create -f qcow2 -F qcow2 -b Template.qcow"
            "2 $n.qcow2; done; chmod a-w Template.qcow2"
        ),
    ),
    "who-stands-on": Help(
        idea=N_(
            "An image does not record its overlays. Read all headers, and ask for each image "
            "whether another one names it."
        ),
        verb="forest.children(image)",
        first="for image in images: print(image.name, images.children(image))",
        why=N_("Only overlays refer to other images. An image without overlays must stay writable for its guest."),
        other=(
            "cd {folder}; for f in *.qcow2; do qemu-img info $f | grep 'backing file:'; done; chmod a-w"
            " disk-a.qcow2 disk-c.qcow2 disk-d.qcow2"
        ),
    ),
    "missing-format": Help(
        idea=N_("Only one header lacks the format; the content is correct. So nothing needs to be copied."),
        verb="qemu-img rebase -u -F",
        first='images.to_frame()[["backing", "backing_format"]]',
        why=N_(
            "`rebase -u` writes the header only. That is correct here, because the backing file is the same and its "
            "format is known."
        ),
        other="qemu-img rebase -u -f qcow2 -F qcow2 -b RootBase.qcow2 {folder}/Overlay-1.qcow2",
    ),
    "template-update": Help(
        idea=N_("A template with overlays must not change. New guests need a new file that holds the whole content."),
        verb="qemu-img convert, chmod a-w",
        first="qemu-img convert -O qcow2 {folder}/Update.qcow2 {folder}/Template-2.qcow2",
        why=N_(
            "`convert` reads Update through its chain and writes everything into one file. The "
            "old guests keep the old template."
        ),
        other=(
            "cd {folder}; cp Update.qcow2 Template-2.qcow2; qemu-img rebase -f qcow2 -b '' Template-2.qcow2; "
            "chmod a-w Template-2.qcow2"
        ),
    ),
    "permissions": Help(
        idea=N_("QEMU must be able to read every layer below the layer that it writes to."),
        verb="chmod",
        first="chmod a=r {folder}/Base.qcow2",
        why=N_("Backing files are only read, so all users need read permission and no user needs write permission."),
        other="chmod 444 {folder}/Base.qcow2 {folder}/Middle.qcow2",
    ),
    "read-needed": Help(
        idea=N_("An overlay needs its backing file, which in turn needs its own, down to the base."),
        verb="forest.chain(image)",
        first='images.chain("disk-f")',
        why=N_("A backup of the overlay alone holds only differences."),
        other="qemu-img info --backing-chain {folder}/disk-f.qcow2 | grep '^image'",
    ),
    "look-inside": Help(
        idea=N_("The toolkit reads file systems in images, through the whole chain."),
        verb="chain.read(path)",
        first='images.chain("Top").read("/etc/alpine-release")',
        why=N_("Nothing was booted or mounted, and nothing was written."),
        other=(
            "qemu-img convert -O raw {folder}/Top.qcow2 {folder}/disk.raw; "
            "debugfs -R 'cat /etc/alpine-release' {folder}/disk.raw"
        ),
    ),
    "read-monday": Help(
        idea=N_("After an external snapshot the guest writes to a new file. Which file did it write to before?"),
        verb="guest.snapshots(), guest.chain()",
        first='lab.guest("diary").chain()',
        why=N_(
            "A file that is named after a snapshot holds what came after it. The state of "
            "`monday` is in the file below."
        ),
        other="virsh snapshot-dumpxml diary monday | grep -A3 '<disk'",
    ),
    "order-first-guest": Help(
        idea=N_("A definition may name a disk that does not exist yet, but the guest cannot start without it."),
        verb="qemu-img create -F, virsh define, virsh start",
        first='lab.answer("order-first-guest", "e …")',
        why=N_(
            "`virsh create` would start a guest that libvirt forgets when the guest stops. Without `-F`, `qemu-img` "
            "refuses to create the overlay."
        ),
        other='lab.answer("order-first-guest", "e c d a")',
    ),
    "order-live-backup": Help(
        idea=N_("After an external snapshot the lower file no longer changes, so it can be copied."),
        verb="virsh snapshot-create-as, qemu-img convert, virsh blockcommit",
        first='lab.answer("order-live-backup", "g …")',
        why=N_(
            "The copy holds the state at the time of the snapshot. The commit merges all later writes into "
            "disk.qcow2, so the overlay and the record are no longer needed."
        ),
        other='lab.answer("order-live-backup", "g d a c f")',
    ),
    "order-middle-layer": Help(
        idea=N_("A copy is useful only before the merge. A file can be removed once no header names it."),
        verb="cp, qemu-img commit -d, qemu-img rebase -u, rm",
        first='lab.answer("order-middle-layer", "e …")',
        why=N_("The header of Snap-3 names Snap-2 until it is changed, so that file is removed last."),
        other="cd {folder}; qemu-img rebase -f qcow2 -F qcow2 -b Snap-1.qcow2 Snap-3.qcow2; rm Snap-2.qcow2",
    ),
    "one-disk": Help(
        idea=N_("A snapshot of a guest can include only some of its disks."),
        verb="guest.snapshot(name, disks=[…])",
        first='lab.guest("accounts").snapshot("before-update", kind="external-disk", disks=["vda"])',
        why=N_("Only `vda` has a new overlay. A revert will leave `vdb` as it is."),
        other=(
            "virsh snapshot-create-as accounts before-update --disk-only --diskspec vda,snapshot=extern"
            "al --diskspec vdb,snapshot=no"
        ),
    ),
    "inside-and-outside": Help(
        idea=N_("After an external snapshot the old file is no longer written to. So the order matters."),
        verb="guest.snapshot(name, kind=…)",
        first='lab.guest("ledger").snapshot("inside", kind="internal-disk").run()',
        why=N_("The internal snapshot had to come first, while `Ledger` was still the active layer."),
        other=("virsh snapshot-create-as ledger inside; virsh snapshot-create-as ledger outside --disk-only"),
    ),
    "stale-records": Help(
        idea=N_("The images are correct, but libvirt's records are not. Change only the records."),
        verb="guest.reconcile()",
        first='lab.guest("archive").reconcile()',
        why=N_(
            "Records of snapshots that no longer exist are removed, and the unknown internal snapshot gets a record. "
            "No image was written to."
        ),
        other=("virsh snapshot-delete archive NAME --metadata; virsh snapshot-create archive FILE.xml --redefine"),
    ),
    "wrote-to-base": Help(
        idea=N_(
            "The guest needs its own overlay on the base. An external snapshot of a guest that is off creates one."
        ),
        verb='guest.snapshot(kind="external-disk"), chmod a-w',
        first='lab.guest("tester").snapshot("apart", kind="external-disk").run()',
        why=N_(
            "`tester` now writes to its overlay. The other guests were not affected, because `Golden` did not change."
        ),
        other=(
            "qemu-img create -f qcow2 -F qcow2 -b Golden.qcow2 {folder}/tester.qcow2; virsh edit tester"
            "; chmod a-w {folder}/Golden.qcow2"
        ),
    ),
    "second-guest": Help(
        idea=N_("Neither guest may write to `Overlay-1`. What can give the running guest a new file to write to?"),
        verb='guest.snapshot(kind="external-disk")',
        first='lab.guest("writer").snapshot("so-far", kind="external-disk").run()',
        why=N_("After the snapshot both read `Overlay-1`, and neither writes to it."),
        other="virsh snapshot-create-as writer so-far --disk-only; virsh start reader",
    ),
    "revert-internal": Help(
        idea=N_("The state is in the same file. Reverting replaces the current content of the disk."),
        verb="guest.revert(name, keep_current=False)",
        first='lab.guest("notes").revert("good", keep_current=False)',
        why=N_("The clusters of the snapshot became the current ones; the snapshot itself is still there."),
        other="virsh snapshot-revert notes good",
    ),
    "revert-external": Help(
        idea=N_("The state is in a file that must not change. Where can the guest write instead?"),
        verb="guest.revert(name)",
        first='lab.guest("shop2").revert("clean")',
        why=N_("The guest writes to a new overlay on Shop. The old overlay still exists, as a separate snapshot."),
        other="qemu-img create -f qcow2 -F qcow2 -b Shop.qcow2 {folder}/New.qcow2; virsh edit shop2",
    ),
    "delete-external": Help(
        idea=N_("Deleting an external snapshot merges two images. The guest must keep writing to the same file."),
        verb="guest.delete_snapshot(name)",
        first='lab.guest("mail2").delete_snapshot("old")',
        why=N_("Two neighbouring layers became one. What the guest reads did not change."),
        other=(
            "qemu-img rebase -f qcow2 -b '' {folder}/Mail-old.qcow2; rm {folder}/Mail.qcow2; "
            "virsh snapshot-delete mail2 old --metadata"
        ),
    ),
    "export-internal": Help(
        idea=N_("One tool can read the state of an internal snapshot and write it to another file."),
        verb="qemu-img convert -l",
        first="qemu-img convert -l monday -O qcow2 {folder}/Archive-1.qcow2 {folder}/monday.qcow2",
        why=N_("An internal snapshot can be exported while nothing writes to the file."),
        other=(
            "cp {folder}/Archive-1.qcow2 {folder}/monday.qcow2; qemu-img snapshot -a monday {folder}/mo"
            "nday.qcow2; qemu-img snapshot -d monday {folder}/monday.qcow2"
        ),
    ),
    "checkpoint": Help(
        idea=N_("The snapshot needs memory and disk from the same moment, and must leave the old disk file unchanged."),
        verb='guest.snapshot(name, kind="external-checkpoint")',
        first='lab.guest("solver").snapshot("ready", kind="external-checkpoint")',
        why=N_("The memory is in a separate file, and the guest writes to an overlay."),
        other="virsh snapshot-create-as solver ready --memspec file=/PATH/solver.mem --live",
    ),
    "saved-state": Help(
        idea=N_("The memory must be written to a file before the guest is off."),
        verb="guest.save()",
        first='lab.guest("sleeper").save()',
        why=N_("The next start restores the memory. Until then the disk must not change."),
        other="virsh managedsave sleeper",
    ),
    "one-moment": Help(
        idea=N_("One snapshot can include all disks."),
        verb='guest.snapshot(name, kind="external-disk")',
        first='lab.guest("database").snapshot("moment", kind="external-disk")',
        why=N_(
            "libvirt paused the guest while it switched both disks. Two separate snapshots would capture "
            "two different moments."
        ),
        other="virsh snapshot-create-as database moment --disk-only --atomic",
    ),
    "quiesced": Help(
        idea=N_("Without quiescing, a snapshot of a running guest looks like its disk after a power failure."),
        verb="guest.wait_ready(), guest.snapshot(…, quiesce=True)",
        first='lab.guest("bank").wait_ready()',
        why=N_(
            "The agent froze the file system for the snapshot. Freezing wrote everything to the disk and emptied the "
            "journal."
        ),
        other="virsh snapshot-create-as bank safe --disk-only --quiesce",
    ),
    "faded-merge": Help(
        idea=N_("First move the data, then change the backing file of the top, and finally remove the file."),
        verb="qemu-img commit -d, qemu-img rebase -u, rm",
        first="qemu-img commit -q -d {folder}/B-1.qcow2",
        why=N_(
            "After the commit, the base has the data of the middle layer, so the top can be based directly on the base."
        ),
        other='for n in "BC": images.remove(f"{n}-1").run()',
    ),
    "middle-layer": Help(
        idea=N_("A layer can be removed in two directions. One of them writes to a file that `Other` needs."),
        verb="forest.remove(image)",
        first='images.remove("Snap-2").alternatives_frame()',
        why=N_("`Snap-2` was pulled up into `Snap-3`. `Snap-1` was not written to, so `Other` still reads the same."),
        other="qemu-img rebase -f qcow2 -F qcow2 -b Snap-1.qcow2 {folder}/Snap-3.qcow2",
    ),
    "short-chain": Help(
        idea=N_("Two layers are large. Choose the merges so that their data is not copied."),
        verb="forest.shorten(image, keep=…)",
        first='images.shorten("Day-6", keep=4).alternatives_frame()',
        why=N_("The planner merges small layers into large ones, in either direction."),
        other='images.pull("Day-4", "Day-1").run(); images.refresh().pull("Day-6", "Day-4").run()',
    ),
    "while-it-runs": Help(
        idea=N_("The active layer can absorb the layers below it while the guest runs."),
        verb="guest.pull(base=…)",
        first='lab.guest("counter").pull(base="Counter-0")',
        why=N_(
            "QEMU copied what the guest reads from the middle layers into the active layer, and then dropped them "
            "from the chain."
        ),
        other="virsh blockpull counter vda --base PATH/Counter-0.qcow2 --wait",
    ),
    "standalone": Help(
        idea=N_("What web reads from Template must be copied up into web."),
        verb="forest.pull(image)",
        first='images.pull("web")',
        why=N_("A pull writes only to web. Template and mail did not change."),
        other="qemu-img rebase -f qcow2 -b '' {folder}/web.qcow2",
    ),
    "pivot": Help(
        idea=N_(
            "The active layer can be merged down while the guest runs; at the end, the guest must switch to the "
            "other file."
        ),
        verb="guest.commit()",
        first='lab.guest("service").commit()',
        why=N_("QEMU copied the layer down, kept both files equal, and switched the guest to the lower one."),
        other="virsh blockcommit service vda --active --shallow --pivot --wait",
    ),
    "shrink": Help(
        idea=N_("Deleting internal snapshots frees clusters inside the file. Only a copy has no free clusters."),
        verb="qemu-img snapshot -d, qemu-img convert",
        first="qemu-img snapshot -d one {folder}/Big.qcow2",
        why=N_("The new file has only clusters that are in use. The guest must be off while the image is copied."),
        other=(
            "qemu-img convert -O qcow2 {folder}/Big.qcow2 {folder}/Small.qcow2; mv {folder}/Small.qcow2"
            " {folder}/Big.qcow2"
        ),
    ),
    "wrong-format": Help(
        idea=N_("The reference is correct; only the recorded format is wrong."),
        verb="qemu-img rebase -u -F",
        first="qemu-img info {folder}/RootBase.qcow2",
        why=N_(
            "With the format raw, the guest would read the bytes of the qcow2 file itself. With the "
            "correct format, it reads the disk inside that file."
        ),
        other="qemu-img rebase -u -f qcow2 -F qcow2 -b RootBase.qcow2 {folder}/Overlay-1.qcow2",
    ),
    "moved-base": Help(
        idea=N_(
            "The content is correct; only the paths in two headers are out of date. Each path is relative to the "
            "overlay's folder."
        ),
        verb="qemu-img rebase -u -b",
        first="images.missing",
        why=N_(
            "Both headers name the new path. `rebase -u` compares nothing, so make sure first that it is the same file."
        ),
        other=(
            "cd {folder}; for n in 1 2; do qemu-img rebase -u -f qcow2 -F qcow2 -b templates/RootBase.qcow2 "
            "Overlay-$n.qcow2; done"
        ),
    ),
    "loop": Help(
        idea=N_("One header names an image that is above it. The task says which image it must name."),
        verb="qemu-img rebase -u",
        first="images.loops",
        why=N_("No data was lost: the mistake changed one name in one header."),
        other="qemu-img rebase -u -f qcow2 -F qcow2 -b RootBase.qcow2 {folder}/Overlay-1.qcow2",
    ),
    "orphan": Help(
        idea=N_(
            "An overlay reads the correct data only if it is based on an exact copy of its base. A checksum "
            "identifies that copy."
        ),
        verb="sha256sum, qemu-img rebase -u",
        first="cat {folder}/SHA256SUMS; sha256sum {folder}/copies/*",
        why=N_("All three copies would have opened without an error. Only one gives the right data."),
        other="qemu-img rebase -u -f qcow2 -F qcow2 -b copies/copy-2.qcow2 {folder}/Orphan.qcow2",
    ),
    "broken-host": Help(
        idea=N_(
            "Look before you act: `images` shows all chains, and `images.findings()` shows most of the problems. "
            "First repair what cannot be opened; shorten and remove last."
        ),
        verb="images.findings(), qemu-img rebase -u, images.shorten, guest.reconcile, chmod a-w",
        first="images.findings()",
        why=N_(
            "Each ticket changed only what was necessary: some headers, one merge, one permission, one record, two "
            "files. Everything else has the same content as before."
        ),
        other="cd {folder}; qemu-img rebase -u -f qcow2 -F qcow2 -b mail-0.qcow2 mail-1.qcow2; …",
    ),
}
