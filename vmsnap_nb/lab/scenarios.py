"""The starting states of the tutorial's figures, as real images: their names, their edges, and one builder.

Every layer has data of its own: at its own place, and at one place where it hides what the layers below it have.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vmsnap_nb.errors import LabError, NotFoundError
from vmsnap_nb.lab.folder import LabFolder
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.names import there_are
from vmsnap_nb.plans.by_hand import create_overlay_argv
from vmsnap_nb.plans.overlay.reference import backing_reference
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.words.message import Message, joined, t

__all__ = [
    "PATTERN_SIZE",
    "SCENARIOS",
    "Layer",
    "build_scenario",
    "find_scenario",
    "keep_scenario",
    "make_layers",
    "pattern_of",
    "remove_scenario",
]

_DISK = 64 << 20
PATTERN_SIZE = 64 << 10
"""Bytes that each layer has at offset 0 and at its own offset."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One image of a scenario."""

    file: str  # its path in the scenario's folder
    backing: str = ""  # the path of its backing file there, or empty for a base

    @property
    def format(self) -> str:
        """``qcow2``, or ``raw`` for a file that is called ``.img``."""
        return "raw" if self.file.endswith(".img") else "qcow2"


def _row(base: str, *names: str) -> tuple[Layer, ...]:
    files = [base, *(f"{name}.qcow2" for name in names)]
    return tuple(Layer(file, backing) for backing, file in pairwise(files))


SCENARIOS: Mapping[str, tuple[Layer, ...]] = {
    "figure-1": (Layer("RootBase.qcow2"), *_row("RootBase.qcow2", "Overlay-1", "Overlay-1A", "Overlay-1B")),
    "figure-2": (
        Layer("RootBase.qcow2"),
        *_row("RootBase.qcow2", "Overlay-1", "Overlay-1A", "Overlay-1B", "Overlay-1C"),
        *_row("RootBase.qcow2", "Overlay-2", "Overlay-2A"),
        *_row("RootBase.qcow2", "Overlay-3", "Overlay-3A"),
    ),
    # The handout calls a layer of either guest Fed-w-updates, so each has a folder of its own.
    "template": (
        Layer("FedoraBase.img"),
        *_row("FedoraBase.img", "Fedora-guest-1", "guest-1/Fed-w-updates", "guest-1/Fedora-guest-with-updates-1A"),
        *_row("FedoraBase.img", "Fedora-guest-2", "guest-2/Fed-w-updates", "guest-2/Fedora-guest-with-updates-2A"),
    ),
    "merge": (Layer("RootBase.qcow2"), *_row("RootBase.qcow2", "Snap-1", "Snap-2", "Snap-3", "Snap-4")),
}
"""By name: the images, each after its backing file."""


def find_scenario(name: str) -> tuple[Layer, ...]:
    """Return the layers of a scenario; the error lists those that there are."""
    try:
        return SCENARIOS[name]
    except KeyError as error:
        raise NotFoundError(
            t("build the scenario {scenario!r}", scenario=name),
            why=t("no scenario has that name"),
            next_step=there_are(name, SCENARIOS),
        ) from error


def pattern_of(number: int) -> int:
    """Return the byte with which the layer of this number (0 for the first) is marked."""
    return 0x11 + number


def build_scenario(name: str, folder: Path) -> None:
    """Make the images of a scenario, all or none, in a folder that must not be there yet."""
    layers = find_scenario(name)
    partial = folder.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        try:
            make_layers(layers, partial)
            os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise from_os_error(
            error, t("build the scenario {scenario} in {folder}", scenario=name, folder=folder)
        ) from error


def keep_scenario(folder: LabFolder, name: str) -> Path:
    """Return the folder of a scenario in a lab's; it is made when it is asked for first."""
    layers = find_scenario(name)
    path = folder.root / "scenarios" / name
    if os.path.lexists(path) and not folder.has(path):
        raise _linked(t("open the scenario {scenario}", scenario=name), path)
    if not path.exists():
        build_scenario(name, path)
        for layer in layers:
            folder.add(path / layer.file, f"scenario {name}")
    return path


def remove_scenario(folder: LabFolder, name: str, uses: Iterable[Use]) -> None:
    """Remove the images of a scenario from a lab's folder, unless a guest uses one, or other files are among them."""
    layers = find_scenario(name)
    path = folder.root / "scenarios" / name
    files = {str(path / layer.file) for layer in layers}
    found = {os.path.join(top, file) for top, _, names in os.walk(path) for file in names}
    used = [use.guest for use in uses if use.path in files]
    if not all(map(folder.has, (str(path), *found))):
        raise _linked(t("rebuild the scenario {scenario}", scenario=name), path)
    if used or found - files:
        raise LabError(
            t("rebuild the scenario {scenario}", scenario=name),
            why=t("guests use it: {guests}", guests=joined(used))
            if used
            else t("its folder has other files: {files}", files=joined(sorted(found - files))),
            next_step=t("undefine those guests first") if used else t("move those files away, or remove them"),
        )
    try:
        for file in found:
            os.unlink(file)
        for top, _, _ in os.walk(path, topdown=False):
            os.rmdir(top)
    except OSError as error:
        raise from_os_error(error, t("rebuild the scenario {scenario}", scenario=name)) from error


def _linked(tried: Message, path: Path) -> LabError:
    return LabError(
        tried,
        why=t("{path}, or a file in it, is a symbolic link that leads elsewhere", path=path),
        next_step=t("remove that link"),
    )


def make_layers(layers: Iterable[Layer], folder: Path, *, size: int = _DISK) -> None:
    """Make images in a folder, each after its backing file, for a disk of `size` bytes.

    Layer number n has `PATTERN_SIZE` bytes of its `pattern_of` at offset 0 and at offset (n + 1) MiB.
    """
    for number, layer in enumerate(layers):
        _make(layer, number, folder, size)


def _make(layer: Layer, number: int, folder: Path, size: int) -> None:
    path = folder / layer.file
    path.parent.mkdir(parents=True, exist_ok=True)
    tried = t("create {file}", file=layer.file)
    if layer.backing:
        # Relative, so that the folder can be moved as a whole.
        backing = Layer(layer.backing)
        reference = backing_reference(str(path), str(folder / layer.backing), backing.format, relative=True)
        qemu_img.run(create_overlay_argv(str(path), reference), tried=tried)
    else:
        qemu_img.run(("qemu-img", "create", "-q", "-f", layer.format, "--", str(path), str(size)), tried=tried)
    writes = []
    for offset in (0, (number + 1) << 20):
        writes += ["-c", f"write -q -P {pattern_of(number)} {offset} {PATTERN_SIZE}"]
    qemu_img.run(("qemu-io", "-f", layer.format, *writes, str(path)), tried=tried)
