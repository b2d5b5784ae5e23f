"""Overlays remember the image below them: this follows where a plan writes to it, and they read the same as before."""

from __future__ import annotations

import contextlib

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.base_mismatch import is_older, is_other
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.system.base_record import write_base_record
from vmsnap_nb.system.files.identity import same_file
from vmsnap_nb.words.message import t

__all__ = ["renew_base_records"]


def renew_base_records(plan: Plan) -> None:
    """Let the overlays of what a plan has written remember it as it is now.

    Overlays that may not have belonged to it before keep what they remember. So do all if a refusal was waived: then
    they may read other content than before.
    """
    if plan.refused:
        return
    for path in plan.writes:
        for child in plan.before.known_children(path) if path in plan.before.images else ():
            image, then = plan.before[child], plan.after.images.get(child)
            if image.backing is None or image.identity is None or then is None or then.backing != image.backing:
                continue
            if is_other(image, plan.before[path]) or is_older(image, plan.before[path]):
                continue
            # Only a warning depends on it: a plan that has done its work does not fail here.
            with contextlib.suppress(VmsnapError, OSError):
                _renew(image, image.backing)


def _renew(image: Image, backing: Reference) -> None:
    with same_file(image.path, image.identity, t("read the images again")) as file, file.opened() as overlay:
        write_base_record(overlay, backing)
