"""The tests before and after the course: different questions about the same eight things."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["AFTER", "BEFORE"]

BEFORE = (
    Asked(
        name="before/layers",
        text=N_("A disk is an overlay on a base. The guest changes one file. Which image changes?"),
        why=N_("An overlay receives all writes. The base is only read."),
        options={"base": N_("the base"), "overlay": N_("the overlay"), "both": N_("both")},
        answer="overlay",
    ),
    Asked(
        name="before/rule",
        text=N_(
            "Ten guests have overlays on one template. You install an update in the template itself. What "
            "is the result?"
        ),
        why=N_(
            "An overlay holds only what differs from its base. If the base changes, guests read a mixture of old and "
            "new data."
        ),
        options={
            "update": N_("all ten guests are updated"),
            "nothing": N_("nothing: overlays have their own copies"),
            "corrupt": N_("the disks of all ten guests may be corrupted"),
        },
        answer="corrupt",
    ),
    Asked(
        name="before/name",
        text=N_("libvirt created `vm.monday` for the external snapshot `monday`. Where is Monday's state?"),
        why=N_("The old file stays as it is and holds the state. The new file receives all later writes."),
        options={"below": N_("in the file that the guest used before"), "itself": N_("in `vm.monday`")},
        answer="below",
    ),
    Asked(
        name="before/delete",
        text=N_("You delete a snapshot. What happens to the current data of the guest?"),
        why=N_("Deleting removes a restore point. Reverting is another operation."),
        options={
            "older": N_("it returns to the snapshot"),
            "lost": N_("it is lost"),
            "same": N_("it stays as it is"),
        },
        answer="same",
    ),
    Asked(
        name="before/merge",
        text=N_("An overlay was committed into its base. What is the status of the overlay file now?"),
        why=N_("Its base has changed, so the file must no longer be used. It can be removed."),
        options={
            "invalid": N_("it is invalid and can be removed"),
            "backup": N_("it is a backup of the state before"),
            "needed": N_("the guest still needs it"),
        },
        answer="invalid",
    ),
    Asked(
        name="before/backup",
        text=N_("You copy only the newest overlay to another disk. Is this a backup?"),
        why=N_("Without the images below it, an overlay cannot be read."),
        answer=False,
    ),
    Asked(
        name="before/start",
        text=N_('A guest does not start: `Failed to get shared "write" lock`. What is the cause?'),
        why=N_("An image that is written to cannot be a backing file of another running guest."),
        options={
            "permission": N_("QEMU may not read the file"),
            "writer": N_("another guest writes to an image of its chain"),
            "format": N_("the image has the wrong format"),
        },
        answer="writer",
    ),
    Asked(
        name="before/space",
        text=N_("A guest deletes a 10 GiB file. How much smaller is its image immediately afterwards?"),
        why=N_("The image keeps its clusters until the guest discards them, or the image is copied."),
        options={"all": N_("10 GiB"), "nothing": N_("not at all")},
        answer="nothing",
    ),
)
AFTER = (
    Asked(
        name="after/layers",
        text=N_(
            "The chain is `base <- a <- b <- c`. A block was written only while `a` was active. Which image holds it?"
        ),
        why=N_("A block is read from the first layer that holds it, from the top down."),
        options={"c": "`c`", "a": "`a`", "base": "`base`"},
        answer="a",
    ),
    Asked(
        name="after/rule",
        text=N_("Which images of a chain may be written to?"),
        why=N_("An image that has overlays must not change."),
        options={"all": N_("all of them"), "active": N_("only the active layer"), "base": N_("only the base")},
        answer="active",
    ),
    Asked(
        name="after/name",
        text=N_(
            "The chain `disk <- disk.s1 <- disk.s2` was created by the snapshots `s1` and `s2`. Which file holds `s2`?"
        ),
        why=N_("The state at `s2` is in the file below the overlay with that name."),
        options={"s1": "`disk.s1`", "s2": "`disk.s2`", "disk": "`disk`"},
        answer="s1",
    ),
    Asked(
        name="after/delete",
        text=N_("Which operation discards what has been written since a snapshot?"),
        why=N_("Deleting an external snapshot merges two images and loses no current data."),
        options={
            "delete": N_("deleting the snapshot"),
            "revert": N_("reverting to it without keeping the current state"),
            "commit": N_("committing the overlay"),
        },
        answer="revert",
    ),
    Asked(
        name="after/merge",
        text=N_(
            "Two overlays share a base. You want to make one of them independent of any backing file. What is safe?"
        ),
        why=N_("A pull writes only to the upper image. A commit would change the base of the other overlay."),
        options={
            "commit": N_("a commit into the base"),
            "pull": N_("a pull of everything into the overlay"),
            "rebase": N_("`rebase -u` with an empty backing file"),
        },
        answer="pull",
    ),
    Asked(
        name="after/backup",
        text=N_("How do you copy the disk of a running guest?"),
        why=N_(
            "After the snapshot, the lower files no longer change. `cp` would read the active image while it changes."
        ),
        options={
            "cp": N_("`cp` of its image"),
            "snapshot": N_("create an external snapshot, then copy everything below the new overlay"),
            "overlay": N_("copy the new overlay of an external snapshot"),
        },
        answer="snapshot",
    ),
    Asked(
        name="after/start",
        text=N_("Two guests must run, one on an overlay of the other's disk. What do you do?"),
        why=N_("After the snapshot, both guests only read the shared image, and each writes to its own file."),
        options={
            "snapshot": N_("an external snapshot of the guest that writes to the shared image"),
            "force": N_("start the second guest with image locking disabled"),
            "internal": N_("an internal snapshot of the first guest"),
        },
        answer="snapshot",
    ),
    Asked(
        name="after/space",
        text=N_("You delete all internal snapshots of an image. How do you give the space back to the host?"),
        why=N_("Clusters become free inside the file. Only a new copy of the file is smaller."),
        options={
            "copy": N_("copy it with `qemu-img convert`"),
            "nothing": N_("nothing more is needed"),
        },
        answer="copy",
    ),
)
