"""Questions on the panels."""

from __future__ import annotations

from vmsnap_nb.course.question import Asked
from vmsnap_nb.words.message import N_

__all__ = ["PREDICTIONS", "QUIZ"]

PREDICTIONS = (
    Asked(
        name="panels/before-confirm",
        text=N_("The plan for two guests is shown, but not confirmed. How many guests does the lab have now?"),
        why=N_("A plan changes nothing before it is confirmed."),
        options=(1, 2, 3),
    ),
    Asked(
        name="panels/after-confirm",
        text=N_("And after the confirmation?"),
        why=N_("The panel runs the same plan as the code."),
        options=(1, 2, 3),
    ),
    Asked(
        name="panels/kind",
        text=N_("The guest is off. Which kind of snapshot does the panel propose?"),
        why=N_(
            "A guest that is off has no memory to save. Its disks are qcow2, so the snapshot fits into the same file."
        ),
        options={
            "internal-disk": N_("internal disk snapshot"),
            "external-disk": N_("external disk snapshot"),
            "external-checkpoint": N_("external system checkpoint"),
        },
    ),
    Asked(
        name="panels/ready",
        text=N_("This merge leaves two files invalid. Can it be confirmed immediately?"),
        why=N_("You must first tick the box below the names of the files."),
    ),
    Asked(
        name="panels/drop",
        text=N_("You drop `Overlay-1A` on a base that other branches use. What happens?"),
        why=N_("The panel makes a plan like any other, and the other branches would be corrupted."),
        options={"run": N_("it is merged"), "refuse": N_("the plan is refused")},
    ),
)
QUIZ = (
    Asked(
        name="panels/quiz/same",
        text=N_("What does a click do that code cannot?"),
        why=N_("Panels make the same plans. The log shows the code."),
        options={"safe": N_("it skips checks"), "none": N_("nothing at all")},
        answer="none",
    ),
    Asked(
        name="panels/quiz/key",
        text=N_("Which key starts a merge of the selected image?"),
        why=N_("`m` on one image, Enter on the other."),
        options={"e": N_("Enter"), "m": N_("m")},
        answer="m",
    ),
    Asked(
        name="panels/quiz/refused",
        text=N_("A refused plan has a check box next to a refusal. What does ticking it mean?"),
        why=N_("Waiving a refusal does not reduce the risk."),
        options={"waive": N_("you accept the named risk"), "fix": N_("the problem is repaired")},
        answer="waive",
    ),
    Asked(
        name="panels/quiz/no-kernel",
        text=N_("Where does a panel show only a figure?"),
        why=N_("A saved page has no kernel."),
        options={"dark": N_("in the dark theme"), "static": N_("where there is no kernel")},
        answer="static",
    ),
    Asked(
        name="panels/quiz/others",
        text=N_("Another program changes an image. What does the panel do?"),
        why=N_("A plan that no longer matches the images is refused as stale."),
        options={"blocks": N_("it prevents the change"), "reads": N_("it reads the images again and shows the change")},
        answer="reads",
    ),
)
