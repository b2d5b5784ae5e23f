"""The images that the page offers: their names, and what there is to see."""

from __future__ import annotations

from dataclasses import dataclass

from vmsnap_nb.words.message import N_

__all__ = ["SCENES", "Scene"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One folder of images; its texts are templates."""

    name: str  # of its folder
    title: str
    about: str


SCENES = (
    Scene(
        name="merge",
        title=N_("Figures 3 to 6: a chain to merge"),
        about=N_("Commit `Snap-3` into `Snap-1`, or pull everything into `Snap-4`, and compare what is copied."),
    ),
    Scene(
        name="figure-1",
        title=N_("Figure 1: a linear chain"),
        about=N_("Each image is based on the one to its left. Only the rightmost one may be written to."),
    ),
    Scene(
        name="figure-2",
        title=N_("Figure 2: a shared base"),
        about=N_("Three branches share a base. Commit `Overlay-1` into `RootBase`, and see why the plan is refused."),
    ),
    Scene(
        name="template",
        title=N_("Two guests from one template"),
        about=N_("The base is raw, so its overlays must record that format. Plan a third guest based on it."),
    ),
    Scene(
        name="broken",
        title=N_("Broken chains"),
        about=N_(
            "One image is missing, one backing format is not recorded, and two images name each other as backing files."
        ),
    ),
)
"""In the order in which they are offered."""
