"""Questions on offline repair."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="offline-repair/qemu-reads",
        text=N_("The backing format is missing. Does `qemu-img` still read the right content?"),
        why=N_(
            "It detects the format of the backing file. libvirt does not, because a guest could have written data "
            "that looks like another format."
        ),
    ),
    Asked(
        name="offline-repair/on-missing",
        text=N_("A base is missing. Does the toolkit create a new overlay above it?"),
        why=N_("Every plan that needs a missing image is refused."),
    ),
    Asked(
        name="offline-repair/wrong-starts",
        text=N_("`rebase -u` names an empty image as the base. Does the guest start?"),
        why=N_("`rebase -u` checks nothing, and starting the guest only opens the files."),
    ),
    Asked(
        name="offline-repair/wrong-check",
        text=N_("Does `qemu-img check` find the wrong base?"),
        why=N_("It checks the structure of one file. Only a comparison with the correct content reveals the fault."),
    ),
    Asked(
        name="offline-repair/loop-refused",
        text=N_("You rebase `Overlay-1` onto `Overlay-1B`, which is above it. Does `qemu-img rebase -u` refuse?"),
        why=N_("It writes a name into a header and opens no other file."),
    ),
    Asked(
        name="offline-repair/skipped",
        text=N_("The missing layer is bypassed with `rebase -u`. What data does the chain read?"),
        why=N_("Where only the missing layer had data, the guest reads the layer below it."),
        options={"same": N_("the same data"), "other": N_("different data, without an error"), "error": N_("an error")},
    ),
    Asked(
        name="offline-repair/pulled",
        text=N_(
            "A layer is deleted while the guest is running, and everything is pulled into the active image. Does that "
            "image contain the right data after the guest is off?"
        ),
        why=N_(
            "QEMU still has the deleted file open, and can read it until QEMU exits. A deleted file is freed only "
            "when nothing has it open."
        ),
    ),
    Asked(
        name="offline-repair/records",
        text=N_("The overlay of `monday` was merged with `qemu-img`. Does libvirt still list the snapshot?"),
        why=N_("libvirt keeps its own records, and does not read image headers to update them."),
    ),
)
QUIZ = (
    Asked(
        name="offline-repair/quiz/u",
        text=N_("What does `qemu-img rebase -u` change?"),
        why=N_("It compares nothing and copies nothing."),
        options={"name": N_("the name of the backing file in the header"), "data": N_("data"), "both": N_("both")},
        answer="name",
    ),
    Asked(
        name="offline-repair/quiz/open",
        text=N_("A guest starts. What does that prove?"),
        why=N_("Compare the content."),
        options={"right": N_("its content is right"), "opened": N_("its images could be opened")},
        answer="opened",
    ),
    Asked(
        name="offline-repair/quiz/relative",
        text=N_("A header names `RootBase.qcow2`. In which folder is that file?"),
        why=N_("Relative names are resolved from the overlay's folder."),
        options={"cwd": N_("the current folder"), "overlay": N_("the folder of the overlay")},
        answer="overlay",
    ),
    Asked(
        name="offline-repair/quiz/running",
        text=N_("A lower layer of a running guest was deleted. What do you do first?"),
        why=N_("QEMU has the deleted file open and can still read it."),
        options={"pull": N_("pull everything into the active layer while it runs"), "off": N_("shut it off")},
        answer="pull",
    ),
    Asked(
        name="offline-repair/quiz/reconcile",
        text=N_("What does `reconcile` change?"),
        why=N_("No image is written to."),
        options={"records": N_("libvirt's records"), "images": N_("the content of images")},
        answer="records",
    ),
)
