"""Questions on a real host."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="real-host/start-without-format",
        text=N_("The image of `intranet` records no backing format. Does its guest start with this libvirt?"),
        why=N_(
            "libvirt 9.0 starts it, because its base itself has no backing file. libvirt refuses only if a backing "
            "file without a recorded format is itself an overlay. Record the format in either case."
        ),
    ),
    Asked(
        name="real-host/overcommit",
        text=N_("If all guests fill their disks, is there enough space?"),
        why=N_(
            "Each image that is written to can still grow by its virtual size minus its allocated size. "
            "Compare the sum with the free space."
        ),
    ),
    Asked(
        name="real-host/unused",
        text=N_(
            "Some images are not used by any guest. How many of them could be deleted individually without "
            "affecting another image?"
        ),
        why=N_("An image that no guest of this host uses may still be needed by overlays, other hosts or backups."),
        options=(0, 1, 2, 3, 4),
    ),
    Asked(
        name="real-host/pull-frees",
        text=N_(
            "Ten nightly layers of `db` are pulled into the active one. Is there more free space "
            "immediately afterwards?"
        ),
        why=N_("The old files still exist and are still valid; the space is freed only when they are removed."),
    ),
    Asked(
        name="real-host/exposed",
        text=N_("Which base would corrupt the most images if it were written to?"),
        why=N_("Count all images above it, not only its direct overlays."),
        options=("debian-10", "debian-11", "debian-12"),
    ),
    Asked(
        name="real-host/readonly",
        text=N_("The images are your own files, but libvirt was asked for a read-only connection. Can `plan` be run?"),
        why=N_(
            "A plan that was made on a read-only connection changes neither images nor libvirt's records. Use such "
            "a connection for every survey."
        ),
    ),
)
QUIZ = (
    Asked(
        name="real-host/quiz/unused-means",
        text=N_("`used_by` is empty. What do you do?"),
        why=N_("It may be a backup, or belong to another host."),
        options={"ask": N_("ask its owner"), "delete": N_("delete it")},
        answer="ask",
    ),
    Asked(
        name="real-host/quiz/full",
        text=N_("The file system is full. Which guests stop?"),
        why=N_("QEMU pauses a guest when a write fails."),
        options={
            "last": N_("the guest that wrote last"),
            "all": N_("all"),
            "writers": N_("the guests that write next"),
        },
        answer="writers",
    ),
    Asked(
        name="real-host/quiz/hidden",
        text=N_("What is hidden data?"),
        why=N_("A snapshot may need it."),
        options={"deleted": N_("files that the guest has deleted"), "covered": N_("data that an upper layer covers")},
        answer="covered",
    ),
    Asked(
        name="real-host/quiz/deep",
        text=N_("Why is a chain of 30 images a risk?"),
        why=N_("libvirt allows 200 layers, but some versions start guests only with up to about 25 layers."),
        options={
            "limit": N_("QEMU refuses more than 16"),
            "more": N_("each file is needed, and a read may search all of them"),
        },
        answer="more",
    ),
    Asked(
        name="real-host/quiz/first",
        text=N_("What should be backed up first?"),
        why=N_("If a base is lost, everything above it is lost."),
        options={"large": N_("the largest files"), "bases": N_("the images with the most dependent overlays")},
        answer="bases",
    ),
)
