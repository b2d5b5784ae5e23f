"""Whether an image's own tables are in order: QEMU's check, which reads them all and no data."""

from __future__ import annotations

import json
from typing import Any, Literal

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.system import process
from vmsnap_nb.system.process import Limits
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.words.message import NOTHING, Message, counted, t

__all__ = ["check", "damage"]

_SECONDS = 600.0
_MOST_SAID = 1 << 20
"""Bytes of its output and of its messages: it says something of each wrong entry."""
_RESULTS: dict[int, Literal["ok", "errors", "corrupt", "leaks"]] = {0: "ok", 1: "errors", 2: "corrupt", 3: "leaks"}
"""By what `qemu-img check` returns; leaks are clusters in use by nothing, which do no harm."""
_NO_CHECKS = 63


def check(path: str, format: str, *, seconds: float = _SECONDS) -> ImageCheck:
    """Let QEMU check an image by itself: no backing file is opened, which its header could name anywhere."""
    tried = t("check {image}", image=path)
    image: dict[str, Any] = {"driver": format, "file": {"driver": "file", "filename": path}}
    if format == "qcow2":
        image["backing"] = None
    argv = ("qemu-img", "check", "--output=json", "json:" + json.dumps(image))
    limits = Limits(seconds=seconds, output=_MOST_SAID, errors=_MOST_SAID)
    done = process.run(argv, tried=tried, limits=limits, check=False)
    if done.exit_status == _NO_CHECKS:
        return ImageCheck(path, format, "no checks")
    found = _numbers(done.stdout)
    if done.exit_status not in _RESULTS or (done.exit_status == 1 and not found):
        raise qemu_img.error_of(done, tried)
    if not found:
        raise qemu_img.unreadable(tried, t("the output of qemu-img check is not the expected JSON"))
    return ImageCheck(
        path,
        format,
        _RESULTS[done.exit_status],
        check_errors=found.get("check-errors", 0),
        corruptions=found.get("corruptions", 0),
        leaks=found.get("leaks", 0),
        allocated_clusters=found.get("allocated-clusters"),
        total_clusters=found.get("total-clusters"),
        fragmented_clusters=found.get("fragmented-clusters"),
        compressed_clusters=found.get("compressed-clusters"),
        image_end=found.get("image-end-offset"),
    )


def _numbers(answer: bytes) -> dict[str, int]:
    """Return the numbers of an answer by name; none where it is no such answer."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or "check-errors" not in found:
        return {}
    # In a damaged image QEMU counts only what it could reach: numbers that are not there count as none.
    return {name: number for name, number in found.items() if isinstance(number, int)}


def damage(path: str) -> Message | None:
    """Return what is damaged in a qcow2 image, or an empty text; None if that is not known, as of one in use."""
    try:
        found = check(path, "qcow2")
    except VmsnapError:
        return None
    if found.result == "errors":
        return None
    if found.result != "corrupt":
        return NOTHING
    if not found.corruptions:
        return t("some of its clusters are damaged or not marked as in use")
    return counted(
        "{count} of its clusters is damaged or not marked as in use",
        "{count} of its clusters are damaged or not marked as in use",
        found.corruptions,
    )
