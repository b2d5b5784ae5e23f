"""Questions on backing files and overlays."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="backing-files/offset-0",
        text=N_("Every layer of this chain has data at the start of the disk. Which layer does the guest read there?"),
        why=N_(
            "Reading starts at the active layer. The first layer that has the block wins and hides the layers below it."
        ),
        options=("RootBase", "Overlay-1", "Overlay-1A", "Overlay-1B"),
    ),
    Asked(
        name="backing-files/depend",
        text=N_("One byte of `RootBase` changes. How many images may read different data afterwards?"),
        why=N_("All images above it, not only its direct overlays: each reads through the layers below it."),
        options=(0, 1, 3, 8),
    ),
    Asked(
        name="backing-files/update",
        text=N_("An administrator writes an update into the base under existing overlays. What do the overlays read?"),
        why=N_(
            "Where an overlay has its own data, the old data remains; everywhere else, the update appears. No file "
            "system was ever in that state. A template is updated by creating a new one for new guests."
        ),
        options={
            "old": N_("the old data everywhere"),
            "new": N_("the update everywhere"),
            "mixture": N_("a mixture of both"),
        },
    ),
    Asked(
        name="backing-files/without-format",
        text=N_("You run `qemu-img create -f qcow2 -b FedoraBase.img new.qcow2`, without `-F`. What happens?"),
        why=N_(
            "`qemu-img` shows the format that it detects, but creates no image. The guest controls the "
            "content of a raw image. If the format were guessed, a guest could write a qcow2 header and "
            "have the host open any file. QEMU 6.1 and newer require `-F`."
        ),
        options={"guess": N_("it creates the overlay, with the format that it detects"), "refuse": N_("it refuses")},
    ),
    Asked(
        name="backing-files/info",
        text=N_("A guest is running. Does `qemu-img info` read its image?"),
        why=N_("QEMU holds a lock. `-U` reads without it, and the result may already be stale."),
    ),
    Asked(
        name="backing-files/bob-starts",
        text=N_("`alice` is running and writes to `Overlay-1`. The image of `bob` is based on it. Does `bob` start?"),
        why=N_(
            "An overlay on an overlay works. What does not work is a backing file that changes: "
            "`alice` writes to it, so QEMU's lock keeps `bob` from starting."
        ),
    ),
    Asked(
        name="backing-files/bob-sees",
        text=N_("`alice` is shut off, and `bob` is running. Does `bob` see the file that `alice` wrote?"),
        why=N_("This time the file is below: it is in `Overlay-1`, and `bob` reads through it."),
    ),
)
QUIZ = (
    Asked(
        name="backing-files/quiz/order",
        text=N_("In which order are the layers searched for a block?"),
        why=N_("The first layer that has the block ends the search."),
        options={
            "top": N_("from the active layer down to the base"),
            "base": N_("from the base up to the active layer"),
        },
        answer="top",
    ),
    Asked(
        name="backing-files/quiz/rule",
        text=N_("Which image of a chain may a guest write to?"),
        why=N_("An image with overlays must not change."),
        options={
            "active": N_("only the image without overlays"),
            "any": N_("any of them"),
            "base": N_("only the base"),
        },
        answer="active",
    ),
    Asked(
        name="backing-files/quiz/leaves",
        text=N_("Which files can be deleted without affecting another image?"),
        why=N_("Other images need everything below them, however small it is. The deleted file's own data is lost."),
        options={
            "small": N_("images of less than 1 MiB"),
            "roots": N_("images without a backing file"),
            "leaves": N_("images without overlays"),
        },
        answer="leaves",
    ),
    Asked(
        name="backing-files/quiz/words",
        text=N_("The backing file of `Overlay-1A` is `Overlay-1`. What is `Overlay-1`?"),
        why=N_("*Backing file* names a relation between two images. The base is the end of the chain."),
        options={"base": N_("the base of the chain"), "relation": N_("a backing file, and perhaps an overlay itself")},
        answer="relation",
    ),
    Asked(
        name="backing-files/quiz/lock",
        text=N_('`Failed to get shared "write" lock` appears when a guest starts. What is the cause?'),
        why=N_("Shut that guest down, or create an external snapshot of it."),
        options={
            "used": N_("a lower layer is being written to"),
            "broken": N_("the image is corrupted"),
            "rights": N_("a permission is missing"),
        },
        answer="used",
    ),
)
