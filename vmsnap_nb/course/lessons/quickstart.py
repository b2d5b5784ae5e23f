"""Questions on the quickstart."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="quickstart/new-overlay",
        text=N_("How much space does the new overlay take before the guest has started?"),
        why=N_(
            "A new overlay has only a header and empty tables. The virtual size is what the guest "
            "sees, not what the file takes."
        ),
        options={
            "disk": N_("1 GiB, like the disk"),
            "base": N_("as much as the base"),
            "little": N_("less than 1 MiB"),
        },
    ),
    Asked(
        name="quickstart/who-grows",
        text=N_("The guest writes 8 MiB of random data. Which file grows?"),
        why=N_("All writes go to the active layer, even where the base already has data. This is copy-on-write."),
        options={"base": N_("the base"), "overlay": N_("the overlay"), "both": N_("both")},
    ),
    Asked(
        name="quickstart/delete-inside",
        text=N_("The guest deletes these 8 MiB again. Does the overlay become smaller?"),
        why=N_(
            "Deleting a file changes the file system's tables. The clusters stay allocated in the image, "
            "unless the guest discards them (`fstrim`) and the disk passes the discards on."
        ),
    ),
    Asked(
        name="quickstart/second-sees",
        text=N_("A second guest starts from the same base. Does it see the file that the first guest wrote?"),
        why=N_(
            "Overlays of one base are separate. What the first guest wrote is in its own overlay, and "
            "the base has not changed."
        ),
    ),
    Asked(
        name="quickstart/on-running",
        text=N_("You plan an overlay on the image that a running guest writes to. What does the plan say?"),
        why=N_(
            "Such a file can be created, so the plan warns instead of refusing. Two guests cannot use "
            "it at the same time: a backing file must not change."
        ),
        options={"ok": N_("nothing: it is allowed"), "warn": N_("a warning"), "refuse": N_("it is refused")},
    ),
)
QUIZ = (
    Asked(
        name="quickstart/quiz/writes",
        text=N_("A guest runs on an overlay. Where do its writes go?"),
        why=N_("Only the active layer is written to."),
        options={
            "base": N_("into the base"),
            "overlay": N_("into the overlay"),
            "memory": N_("into memory, until it is shut off"),
        },
        answer="overlay",
    ),
    Asked(
        name="quickstart/quiz/base-lost",
        text=N_("The base is deleted. Which of its ten overlays can still be read completely?"),
        why=N_("An overlay holds only differences. Everything else was in the base."),
        options={"all": N_("all"), "new": N_("the overlays created last"), "none": N_("none")},
        answer="none",
    ),
    Asked(
        name="quickstart/quiz/three-guests",
        text=N_("A base takes 60 MiB. About how much space do the base and three new overlays take together?"),
        why=N_("A new overlay takes about 200 KiB."),
        options={60: N_("60 MiB"), 240: N_("240 MiB"), 3000: N_("3 GiB")},
        answer=60,
    ),
    Asked(
        name="quickstart/quiz/plan",
        text=N_("You have created a plan and looked at it. What has changed on the disk?"),
        why=N_("Only `run()` changes anything."),
        options={"files": N_("the new files exist, but are empty"), "nothing": N_("nothing")},
        answer="nothing",
    ),
    Asked(
        name="quickstart/quiz/sees",
        text=N_(
            "`qemu-img info` reports: virtual size 1 GiB, disk size 200 KiB. How large is the disk that the guest sees?"
        ),
        why=N_("The virtual size is the guest's view. The disk size is what the file takes on the host."),
        options={"virtual": N_("1 GiB"), "file": N_("200 KiB")},
        answer="virtual",
    ),
)
