"""On a machine without libvirt, QEMU and dot: images are read and shown, and what is missing is a named error.

Used by `scripts/fresh-machine`; fails by an assertion.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vmsnap_nb as vs
from vmsnap_nb.errors import MissingPartError

MIB = 1 << 20


def write_overlay(path: Path, backing: str, backing_format: str) -> None:
    """Write an empty qcow2 image (version 3, clusters of 64 KiB) that stands on another: the header is all it needs."""
    cluster, name, extension = 1 << 16, backing.encode(), backing_format.encode()
    header_length = 104
    extensions = struct.pack(">II", 0xE2792ACA, len(extension)) + extension.ljust(
        -len(extension) % 8 + len(extension), b"\0"
    )
    extensions += struct.pack(">II", 0, 0)
    name_at = header_length + len(extensions)
    # fmt: off
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, name_at, len(name), 16, 16 * MIB, 0, 1, 3 * cluster, cluster, 1, 0, 0,
        0, 0, 0, 4, header_length,
    )
    # fmt: on
    # One block of reference counts (16 bits each): the header, the table, the block and the L1 table are in use.
    table = struct.pack(">Q", 2 * cluster).ljust(cluster, b"\0")
    block = struct.pack(">4H", 1, 1, 1, 1).ljust(cluster, b"\0")
    path.write_bytes((header + extensions + name).ljust(cluster, b"\0") + table + block + bytes(cluster))


def missing_part(action: Callable[[], Any], *words: str) -> None:
    """The action must end in the named error, which names the part and what to install."""
    try:
        action()
    except MissingPartError as error:
        print(error, end="\n\n")
        text = str(error)
        assert error.next_step, "no next step"
        assert any(word in text for word in words), f"{text!r} names none of {words}"
    else:
        raise AssertionError("it should have been a MissingPartError")


def main() -> None:
    """Check it."""
    for program in ("virsh", "qemu-img", "qemu-system-x86_64", "dot"):
        assert shutil.which(program) is None, f"{program} is here: this machine is not bare"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        (folder / "base.img").write_bytes(bytes(16 * MIB))
        write_overlay(folder / "one.qcow2", "base.img", "raw")
        write_overlay(folder / "two.qcow2", "one.qcow2", "qcow2")

        forest = vs.scan(folder)
        frame = forest.to_frame()
        print(frame, end="\n\n")
        assert len(frame) == 3, len(frame)
        assert list(frame["status"]) == ["ok"] * 3, list(frame["status"])

        chain = vs.chain(folder / "two.qcow2")
        print(chain.to_text(), end="\n\n")
        assert list(chain.to_frame()["image"]) == ["base", "one", "two"]
        bundle = chain._repr_mimebundle_()
        assert "| two " in bundle["text/plain"]
        assert "<svg" in bundle["text/html"], "a picture should need no other program"

        plan = vs.create_overlay(folder / "three.qcow2", folder / "two.qcow2")
        print(plan.to_text(), end="\n\n")
        missing_part(plan.run, "qemu-utils", "qemu-img")
        assert sorted(p.name for p in folder.iterdir()) == ["base.img", "one.qcow2", "two.qcow2"]
        missing_part(lambda: vs.Lab(folder / "lab"), "qemu-system", "libvirt")
        missing_part(lambda: vs.connect("qemu:///session"), "libvirt")
        missing_part(lambda: vs.panel(forest), "widgets", "anywidget")
    print("scan and chain work, and what is missing is named")


if __name__ == "__main__":
    main()
