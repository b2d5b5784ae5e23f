"""Questions on merging."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="merging/commit-kib",
        text=N_(
            "Each layer has 64 KiB of its own, and 64 KiB at the start of the disk. How many KiB does "
            "the commit of `Snap-3` into `Snap-1` copy?"
        ),
        why=N_(
            "The commit copies each layer's own block and the block at the start of `Snap-3`, which hides the same "
            "block in `Snap-2`. `Snap-4` hides that block as well, but `Snap-1` must be complete without it. Only "
            "data that one merged layer hides in another is not copied."
        ),
        options=(64, 128, 192, 256),
    ),
    Asked(
        name="merging/invalid",
        text=N_("Which files are invalid after this commit?"),
        why=N_("They hold differences from the old content of `Snap-1`, which no longer exists."),
        options={
            "merged": N_("`Snap-2` and `Snap-3`"),
            "target": N_("`Snap-1`"),
            "top": N_("`Snap-4`"),
            "none": N_("none"),
        },
    ),
    Asked(
        name="merging/pull-invalid",
        text=N_("The same layers are pulled up into `Snap-4`. How many files are invalid afterwards?"),
        why=N_("A pull writes only to the upper file. The lower files keep their content."),
        options=(0, 1, 3),
    ),
    Asked(
        name="merging/says",
        text=N_(
            "You run `qemu-img commit` on `Overlay-1` although two other branches use its base. All "
            "guests are off. What does it do?"
        ),
        why=N_("`qemu-img` does not know about the siblings: a base does not record its overlays."),
        options={"done": N_("it succeeds"), "refuse": N_("it refuses")},
    ),
    Asked(
        name="merging/sibling",
        text=N_("Does `Overlay-2A`, in another branch, still read the same data?"),
        why=N_("Its base has changed. No message reports this."),
    ),
    Asked(
        name="merging/sibling-open",
        text=N_("The same commit while a sibling is open in QEMU: what happens?"),
        why=N_(
            "QEMU locks the base while an overlay of it is open. Only siblings whose guests are off are unprotected."
        ),
        options={"done": N_("it succeeds"), "refuse": N_("it refuses")},
    ),
    Asked(
        name="merging/direction",
        text=N_("A 4 MiB base has 64 MiB of data above it. Which direction copies less?"),
        why=N_("A commit moves the upper data, and a pull moves the lower data. The result has the same content."),
        options={"commit": N_("commit, down"), "pull": N_("pull, up")},
    ),
    Asked(
        name="merging/rewritten",
        text=N_(
            "Each of eight overlays rewrote the same 4 MiB. How many MiB are copied if only the base and "
            "the last overlay remain?"
        ),
        why=N_("The last overlay hides everything below it, so nothing has to be copied."),
        options=(0, 4, 28, 32),
    ),
)
QUIZ = (
    Asked(
        name="merging/quiz/writes-to",
        text=N_("Which file does a commit write to?"),
        why=N_("Other overlays of that file are therefore affected."),
        options={"upper": N_("the upper one"), "lower": N_("the lower one")},
        answer="lower",
    ),
    Asked(
        name="merging/quiz/shared",
        text=N_("A base has two branches. You want to shorten the first one. Which merge is safe?"),
        why=N_("A pull does not touch the base."),
        options={"pull": N_("a pull within the first branch"), "commit": N_("a commit into the base")},
        answer="pull",
    ),
    Asked(
        name="merging/quiz/cost",
        text=N_("What determines how many bytes a merge copies?"),
        why=N_("The block map shows it before anything moves."),
        options={
            "count": N_("the number of layers"),
            "size": N_("the sizes of the files"),
            "map": N_("how much data must move, not counting hidden data"),
        },
        answer="map",
    ),
    Asked(
        name="merging/quiz/pivot",
        text=N_("The layer that a running guest writes to is committed. What does the pivot do?"),
        why=N_("Until the pivot, both files are kept equal; afterwards the overlay is no longer used."),
        options={
            "reboot": N_("the guest reboots"),
            "switch": N_("the guest switches to the lower file"),
            "copy": N_("a copy of the disk is created"),
        },
        answer="switch",
    ),
    Asked(
        name="merging/quiz/dash-d",
        text=N_("What does `qemu-img commit` without `-d` do to the overlay?"),
        why=N_(
            "With `-d` the data stays in it. Either way, images above the overlay still read the right data, but "
            "other overlays of the base do not."
        ),
        options={
            "removes": N_("it removes it"),
            "keeps": N_("it keeps the data in it"),
            "empties": N_("it empties it"),
        },
        answer="empties",
    ),
)
