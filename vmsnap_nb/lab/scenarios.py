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

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.plans.overlay import backing_reference
from vmsnap_nb.plans.steps import create_overlay_argv
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["PATTERN_SIZE", "SCENARIOS", "Layer", "build_scenario", "find_scenario", "make_layers", "pattern_of"]

_DISK = 64 << 20
PATTERN_SIZE = 64 << 10
"""Bytes that each layer has at offset 0 and at its own offset."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One image of a scenario.

    Attributes
    ----------
    file : str
        Its path in the scenario's folder.
    backing : str
        The path of its backing file there, or empty for a base.
    """

    file: str
    backing: str = ""

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
    """Give the layers of a scenario.

    Raises
    ------
    NotFoundError
        There is none of that name; the error lists those that there are.
    """
    try:
        return SCENARIOS[name]
    except KeyError as error:
        raise NotFoundError(
            f"build the scenario {name!r}", said="there is none of that name", next_step=", ".join(SCENARIOS)
        ) from error


def pattern_of(number: int) -> int:
    """Give the byte with which the layer of this number (0 for the first) is marked."""
    return 0x11 + number


def build_scenario(name: str, folder: Path) -> None:
    """Make the images of a scenario, all or none, as `make_layers` does.

    Parameters
    ----------
    name : str
        One of `SCENARIOS`.
    folder : pathlib.Path
        Must not be there yet.

    Raises
    ------
    NotFoundError
        No such scenario.
    VmsnapError
        An image cannot be made.
    """
    layers = find_scenario(name)
    partial = folder.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        try:
            make_layers(layers, partial)
            os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise from_os_error(error, f"build the scenario {name} in {folder}") from error


def make_layers(layers: Iterable[Layer], folder: Path, *, size: int = _DISK) -> None:
    """Make images, each after its backing file.

    Layer number n has `PATTERN_SIZE` bytes of its `pattern_of` at offset 0 and at offset (n + 1) MiB.

    Parameters
    ----------
    layers : iterable of Layer
        The images.
    folder : pathlib.Path
        Where; it is made if it is not there.
    size : int
        Bytes of the disk.

    Raises
    ------
    OSError, VmsnapError
        An image cannot be made.
    """
    for number, layer in enumerate(layers):
        _make(layer, number, folder, size)


def _make(layer: Layer, number: int, folder: Path, size: int) -> None:
    path = folder / layer.file
    path.parent.mkdir(parents=True, exist_ok=True)
    tried = f"make {layer.file}"
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
