"""Questions on the kinds of snapshots and internal ones."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="snapshots/one-file",
        text=N_("After these two snapshots, which guest has more than one image file?"),
        why=N_("An internal snapshot is a table and clusters in the same file. An external one adds an overlay."),
        options={
            "inside": N_("`inside`, with the internal snapshot"),
            "outside": N_("`outside`, with the external snapshot"),
            "both": N_("both"),
        },
    ),
    Asked(
        name="snapshots/while-running",
        text=N_("The guest is running. Can you create an internal snapshot of its disk alone?"),
        why=N_(
            "While a guest runs, QEMU saves an internal snapshot together with the memory. A snapshot of the disk "
            "alone requires that the guest is off."
        ),
    ),
    Asked(
        name="snapshots/vm-size",
        text=N_("`qemu-img snapshot -l` has a column VM SIZE. What does it show for this snapshot?"),
        why=N_("VM SIZE is the size of the saved memory and device state, not of the disk's data."),
        options={
            "zero": N_("0: it has no memory"),
            "disk": N_("the size of the disk"),
            "ram": N_("the size of the memory"),
        },
    ),
    Asked(
        name="snapshots/checkpoint-grows",
        text=N_("How much does the file grow when the memory is saved, too?"),
        why=N_("All used pages of the guest's memory are written into the qcow2 file."),
        options={
            "none": N_("less than 1 MiB"),
            "memory": N_("by between 1 MiB and the size of the memory"),
            "double": N_("it doubles the size of the disk"),
        },
    ),
    Asked(
        name="snapshots/counter",
        text=N_("You revert to the checkpoint. What does the counter in the guest's memory do?"),
        why=N_(
            "A system checkpoint restores memory and disk from the same moment. The process continues and "
            "does not notice."
        ),
        options={
            "none": N_("it is gone: the guest boots"),
            "back": N_("it continues from its value at the checkpoint"),
            "later": N_("it continues from its latest value"),
        },
    ),
    Asked(
        name="snapshots/present",
        text=N_("You delete the snapshot `monday`. Does the diary lose its line?"),
        why=N_("Deleting a snapshot removes a restore point. It is not a revert, and loses no current data."),
    ),
    Asked(
        name="snapshots/shrinks",
        text=N_("Both internal snapshots are deleted. Does the file become smaller?"),
        why=N_(
            "The clusters become free inside the file and can be reused. Copy the image with `qemu-img "
            "convert` to make the file smaller."
        ),
    ),
)
QUIZ = (
    Asked(
        name="snapshots/quiz/five",
        text=N_("Which kind of snapshot keeps the memory and leaves the disk as it is?"),
        why=N_("Saved VM state matches only the disk as it was at that moment."),
        options={
            "external": N_("external disk snapshot"),
            "internal": N_("internal disk snapshot"),
            "saved": N_("saved VM state"),
        },
        answer="saved",
    ),
    Asked(
        name="snapshots/quiz/where",
        text=N_("Where is the data of an internal snapshot?"),
        why=N_("If that file is lost, all its internal snapshots are lost."),
        options={
            "new": N_("in a file named after it"),
            "same": N_("in the same qcow2 file"),
            "record": N_("in libvirt's record"),
        },
        answer="same",
    ),
    Asked(
        name="snapshots/quiz/raw",
        text=N_("A disk is raw. Which kind of snapshot is possible?"),
        why=N_("Only a qcow2 file can contain a snapshot. An external one needs only a new overlay."),
        options={"both": N_("both"), "internal": N_("an internal one"), "external": N_("an external one")},
        answer="external",
    ),
    Asked(
        name="snapshots/quiz/export",
        text=N_("Can the state of an internal snapshot be copied to a separate file?"),
        why=N_("`qemu-img convert -l NAME` exports it, while the guest is off."),
        options={True: N_("yes, with `qemu-img convert -l`"), False: N_("no")},
        answer=True,
    ),
    Asked(
        name="snapshots/quiz/no-memory",
        text=N_("You revert to a snapshot without memory and start the guest. What does it do?"),
        why=N_("Without the memory, the disk is in the same state as after a power failure at that moment."),
        options={
            "boots": N_("it boots from the disk as it was then"),
            "continues": N_("it continues where it left off"),
        },
        answer="boots",
    ),
)
