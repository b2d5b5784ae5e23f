"""Two ways to say the same of an image: in the words of `qemu-img info --output=json`, and as it was read here."""

from __future__ import annotations

import json
import posixpath
from typing import Any

from vmsnap_nb.model.image import Image


def in_our_words(answer: dict[str, Any]) -> dict[str, Any]:
    """Say what qemu-img said in the names of `Image`."""
    special = answer.get("format-specific", {}).get("data", {}) if answer["format"] == "qcow2" else {}
    other = "luks" if answer["format"] == "luks" else None
    return {
        "path": answer["filename"],
        "format": answer["format"],
        "virtual_size": answer["virtual-size"],
        "allocated": answer["actual-size"],
        "cluster_size": answer.get("cluster-size"),
        "backing": answer.get("backing-filename"),
        "backing_format": answer.get("backing-filename-format"),
        "backing_path": local(answer.get("full-backing-filename")),
        "snapshots": [
            (s["id"], s["name"], s["vm-state-size"], s["date-sec"], s["date-nsec"] // 1000, clock(s))
            for s in answer.get("snapshots", [])
        ],
        "bitmaps": [(b["name"], b["granularity"], tuple(b["flags"])) for b in special.get("bitmaps", [])],
        "dirty": answer.get("dirty-flag", False),
        "encryption": special.get("encrypt", {}).get("format", other),
        "compat": special.get("compat"),
        "compression": special.get("compression-type"),
        "refcount_bits": special.get("refcount-bits"),
        "lazy_refcounts": special.get("lazy-refcounts", False),
        "extended_l2": special.get("extended-l2", False),
        "corrupt": special.get("corrupt", False),
        "data_file": special.get("data-file"),
        "data_file_raw": special.get("data-file-raw", False),
    }


def clock(snapshot: dict[str, int]) -> int:
    return snapshot["vm-clock-sec"] * 10**9 + snapshot["vm-clock-nsec"]


def local(name: str | None) -> str | None:
    """Return the plain path of what qemu-img calls the full name of a backing file."""
    if name is None:
        return None
    if name.startswith("json:"):
        return str(json.loads(name[5:])["file"]["filename"])
    return posixpath.normpath(name.removeprefix("file:"))


def in_the_same_words(image: Image) -> dict[str, Any]:
    backing = image.backing
    return {
        "path": image.path,
        "format": image.format,
        "virtual_size": image.virtual_size,
        "allocated": image.allocated,
        "cluster_size": image.cluster_size,
        "backing": backing and backing.written,
        "backing_format": backing and backing.format,
        "backing_path": backing and backing.path,
        "snapshots": [
            (s.id, s.name, s.vm_state_size, int(s.created.timestamp()), s.created.microsecond, s.vm_clock)
            for s in image.snapshots
            if s.created is not None
        ],
        "bitmaps": [(b.name, b.granularity, b.flags) for b in image.bitmaps],
        "dirty": image.dirty,
        "encryption": image.encryption,
        "compat": image.compat,
        "compression": image.compression,
        "refcount_bits": image.refcount_bits,
        "lazy_refcounts": image.lazy_refcounts,
        "extended_l2": image.extended_l2,
        "corrupt": image.corrupt,
        "data_file": image.data_file and image.data_file.written,
        "data_file_raw": image.data_file_raw,
    }
