"""The same by mouse and keyboard: choose, see the plan, confirm, follow, read the report."""

from __future__ import annotations

from collections.abc import Callable

from vmsnap_nb.errors import LabBusyError
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.number import invalid
from vmsnap_nb.panels.block_map import BlockMapPanel
from vmsnap_nb.panels.busy import Busy
from vmsnap_nb.panels.chain_view import ChainView
from vmsnap_nb.panels.lab import LabPanel
from vmsnap_nb.panels.merge import MergePanel
from vmsnap_nb.panels.overlay import OverlayPanel
from vmsnap_nb.panels.panel import Panel
from vmsnap_nb.panels.snapshot import SnapshotPanel
from vmsnap_nb.panels.source import Subject
from vmsnap_nb.words.message import t

__all__ = ["BlockMapPanel", "ChainView", "LabPanel", "MergePanel", "OverlayPanel", "SnapshotPanel", "page", "panel"]


def panel(subject: Subject) -> Panel:
    """Return the panel for a lab, host, guest or forest.

    Parameters
    ----------
    subject : Lab, Host, Guest or LiveForest
        The panel of a guest shows its snapshots. The panel of a lab or host shows all guests, and the panel of a forest
        plans merges.

    Returns
    -------
    Panel
        The panel, which is displayed in a notebook.
    """
    if not isinstance(subject, Subject):
        raise invalid(subject, "subject", t("the argument must be a lab, a host, a guest or a forest"))
    if isinstance(subject, Guest):
        return SnapshotPanel(subject)
    return MergePanel(subject) if isinstance(subject, LiveForest) else LabPanel(subject)


def page(opened: Callable[[], Subject], shown: Panel | Busy | None = None) -> Panel | Busy:
    """Return the panel for a standalone page; if another process has the lab open, a page that says so.

    `shown` is what the last page was given: a panel is given again.
    """
    if isinstance(shown, Panel):
        return shown
    try:
        return panel(opened())
    except LabBusyError as error:
        return Busy(error)
