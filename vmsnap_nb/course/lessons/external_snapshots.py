"""Questions on external snapshots and saved state."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="external-snapshots/copied",
        text=N_("How much data is copied when the external snapshot is created?"),
        why=N_("The old file stays where it is, and a new, empty overlay is created."),
        options={"none": N_("none"), "written": N_("what the guest has written so far"), "disk": N_("the whole disk")},
    ),
    Asked(
        name="external-snapshots/name",
        text=N_("The new file is named `demo.clean`. What does it hold?"),
        why=N_("libvirt names the new overlay after the snapshot. The state of the snapshot is in the file below it."),
        options={"before": N_("the state at the snapshot `clean`"), "after": N_("what is written after it")},
    ),
    Asked(
        name="external-snapshots/revert-files",
        text=N_("You revert to `clean` and discard the experiment. How many files does the chain have afterwards?"),
        why=N_(
            "Reverting never writes to the snapshot's file. A new, empty overlay is created on it, "
            "and what the old overlay holds is discarded."
        ),
        options=(1, 2, 3, 4),
    ),
    Asked(
        name="external-snapshots/upgrade",
        text=N_("You revert to `ready` with the default options. Is the upgrade lost?"),
        why=N_(
            "`keep_current` is the default here: the current state becomes a snapshot first. "
            "libvirt's own revert discards it."
        ),
    ),
    Asked(
        name="external-snapshots/delete-present",
        text=N_("You delete the snapshot `ready`. What does the guest read afterwards?"),
        why=N_("Deleting an external snapshot merges two files into one. Current data stays."),
        options={"same": N_("the same as before"), "old": N_("the state at the snapshot")},
    ),
    Asked(
        name="external-snapshots/backup",
        text=N_(
            "You copy the active overlay to another disk and lose the host. Can you read the guest's "
            "files from the copy?"
        ),
        why=N_(
            "A snapshot is not a backup: the overlay holds only differences. Copy the whole chain, or "
            "export it with `qemu-img convert`."
        ),
    ),
    Asked(
        name="external-snapshots/cp-running",
        text=N_(
            "The guest has just written a file. You copy its running image with `cp`. Is the file complete in the copy?"
        ),
        why=N_(
            "Some data is still in the guest's memory, and the image changes while it is copied. Create an "
            "external snapshot first, and copy the file that no longer changes."
        ),
    ),
    Asked(
        name="external-snapshots/saved-state",
        text=N_("You save the guest. What is its state afterwards?"),
        why=N_("The memory is in a file, and the guest is off. At the next start, it resumes from that file."),
        options={"saved": N_("off, with its memory in a file"), "running": N_("running"), "paused": N_("paused")},
    ),
)
QUIZ = (
    Asked(
        name="external-snapshots/quiz/holds",
        text=N_("`demo.monday.qcow2` was created by the external snapshot `monday`. Which file holds Monday's state?"),
        why=N_("The file that is named after the snapshot holds what came after it."),
        options={"below": N_("its backing file"), "itself": N_("`demo.monday.qcow2`")},
        answer="below",
    ),
    Asked(
        name="external-snapshots/quiz/delete",
        text=N_("What does deleting an external snapshot do to the images?"),
        why=N_("The data of both layers is still needed."),
        options={
            "merge": N_("it merges two of them"),
            "revert": N_("it restores the older state"),
            "nothing": N_("nothing"),
        },
        answer="merge",
    ),
    Asked(
        name="external-snapshots/quiz/quiesce",
        text=N_("What does `quiesce=True` add to a disk snapshot of a running guest?"),
        why=N_(
            "The guest agent freezes the file systems. Without it, the snapshot looks like the disk "
            "after a power failure."
        ),
        options={
            "stop": N_("the guest is shut off"),
            "memory": N_("its memory"),
            "fs": N_("the guest flushes its file systems to disk first"),
        },
        answer="fs",
    ),
    Asked(
        name="external-snapshots/quiz/disks",
        text=N_("A guest has two disks with one database. How do you create the snapshot?"),
        why=N_(
            "libvirt creates the overlays of all disks at the same moment. Two separate snapshots would "
            "capture two different moments."
        ),
        options={"together": N_("both disks in one snapshot"), "each": N_("one after the other")},
        answer="together",
    ),
    Asked(
        name="external-snapshots/quiz/migrate",
        text=N_("Which part of an external checkpoint must be kept to continue the running programs?"),
        why=N_("Memory and disk must be from the same moment."),
        options={"disk": N_("only the disk files"), "memory": N_("the memory file, with the disk files")},
        answer="memory",
    ),
)
