"""What the page itself says."""

from __future__ import annotations

from vmsnap_nb.words.message import Message, t

__all__ = ["texts"]


def texts() -> dict[str, Message]:
    """Return the texts of the page by their names in its JavaScript."""
    return {
        "images": t("Images"),
        "scene": t("Scenario"),
        "own": t("Your files"),
        "drop": t("Or drop qcow2 files here. They are read on this page; nothing is uploaded."),
        "choose": t("Choose files"),
        "hint_drag": t("Drag one image onto another, or press m on the first image and Enter on the second."),
        "findings": t("Findings"),
        "plan": t("Plan"),
        "verb": t("Operation"),
        "commit": t("Commit (data down)"),
        "pull": t("Pull (data up)"),
        "remove": t("Remove one"),
        "shorten": t("Shorten"),
        "overlay": t("New overlay"),
        "image": t("Image"),
        "base": t("Base"),
        "next_below": t("(the next below, or none)"),
        "keep": t("Images to keep"),
        "name": t("Name"),
        "make_plan": t("Show the plan"),
        "block_map": t("Block map"),
        "no_run": t(
            "This page only shows the plan. Run it in a notebook, or with these commands on the machine where the "
            "images are."
        ),
        "commands": t("Command lines"),
        "python": t("In a notebook"),
        "copy": t("Copy"),
        "copied": t("Copied"),
        "unrelated": t("neither image is based on the other"),
        "exercises": t("Exercises"),
        "exercise": t("Exercise"),
        "none": t("(choose one)"),
        "answer": t("Your answer"),
        "names": t("Names, separated by commas"),
        "check": t("Check"),
        "hint": t("Hint"),
        "working": t("Working …"),
    }
