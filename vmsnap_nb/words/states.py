"""The states of guests, of snapshots, of steps and of images, in words."""

from __future__ import annotations

from collections.abc import Mapping

from vmsnap_nb.words.message import N_, t

__all__ = ["state_words"]

_STATES: Mapping[str, str] = {
    "running": N_("running"),
    "idle": N_("idle"),
    "paused": N_("paused"),
    "in shutdown": N_("in shutdown"),
    "shut off": N_("shut off"),
    "saved": N_("saved"),
    "crashed": N_("crashed"),
    "pmsuspended": N_("suspended"),
    "no state": N_("no state"),
    # Those of snapshots for which libvirt has words of its own.
    "shutoff": N_("shut off"),
    "disk-snapshot": N_("running, without memory"),
    # Those of steps.
    "done": N_("done"),
    "failed": N_("failed"),
    "undone": N_("undone"),
    "not run": N_("not run"),
    # Those of images.
    "ok": N_("ok"),
    "missing": N_("missing"),
    "unreadable": N_("unreadable"),
    "not-a-file": N_("not a file"),
    "corrupt": N_("corrupt"),
    "unsupported": N_("unsupported"),
    "unknown": N_("of unknown format"),
    "outside": N_("outside the folders that were read"),
    "remote": N_("remote"),
    "loop": N_("in a loop"),
    "invalid": N_("invalid"),
    "in-use": N_("in use"),
    "dirty": N_("not closed properly"),
}


def state_words(state: str) -> str:
    """Return the words for a state in the current language; one that is unknown as it is."""
    return t(_STATES[state]) if state in _STATES else state
