"""Where an exercise is set up: its images, its guests, and what is written down of its start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from vmsnap_nb.errors import LabError
from vmsnap_nb.lab.breaking import forget_backing_format
from vmsnap_nb.lab.domain_xml import domain_xml
from vmsnap_nb.lab.exercises.exercise import Start, answer_digest
from vmsnap_nb.lab.exercises.place import START, ExercisePlace
from vmsnap_nb.lab.scenarios import Layer, make_layers
from vmsnap_nb.system import process
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.qemu.content import content_digest
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    from vmsnap_nb.lab.exercises.exercise_lab import ExerciseLab
    from vmsnap_nb.lab.machine import Machine
    from vmsnap_nb.live.guest import Guest

__all__ = ["Stage", "layers_on"]

_DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""


class Stage(ExercisePlace):
    """The same place while the exercise is set up."""

    def __init__(self, lab: ExerciseLab, name: str, machine: Machine) -> None:
        super().__init__(lab, name)
        self._machine = machine
        self._content: dict[str, str] = {}
        self._formats: dict[str, str] = {}
        self._answer = ""

    def images(self, *layers: tuple[str, str], mebibytes: int = 16) -> None:
        """Make images with data of their own in each: names, each with that of its backing file or an empty one."""
        files = [Layer(f"{name}.qcow2", base and f"{base}.qcow2") for name, base in layers]
        try:
            make_layers(files, self.folder, size=mebibytes << 20)
        except OSError as error:
            raise from_os_error(error, t("create the images of the exercise {exercise}", exercise=self.name)) from error

    def run(self, *argv: str) -> None:
        """Run a program, as a user would by hand, with paths that are absolute or have no folder."""
        process.run(argv, tried=t("set up the exercise {exercise}", exercise=self.name))

    def write(self, name: str, mebibytes: int, at: int) -> None:
        """Write some data into an image: so many MiB, from that MiB on."""
        self.run("qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", f"write -q -P 7 {at}M {mebibytes}M", self.path(name))

    def repoint(self, name: str, base: str) -> None:
        """Have the header of an image name another backing file, relative to its folder, without a look at it."""
        self.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", f"{base}.qcow2", self.path(name))

    def forget_backing_format(self, name: str) -> None:
        """Remove the backing format from the header of an image, as old versions of QEMU left it."""
        forget_backing_format(self.path(name), t("set up the exercise {exercise}", exercise=self.name))

    def move(self, name: str, target: str) -> None:
        """Move an image, and leave its overlays as they are."""
        Path(self.path(target)).parent.mkdir(exist_ok=True)
        os.rename(self.path(name), self.path(target))

    def define(self, name: str, *images: str, boots: bool = False) -> Guest:
        """Define a guest whose disks are these images; with the lab's kernel it boots, without it only runs."""
        if name in (guest.name for guest in self.lab.guests()):
            raise LabError(
                t("create the guest {guest} of the exercise {exercise}", guest=name, exercise=self.name),
                why=t("a guest named {guest} already exists", guest=name),
                next_step=t("rename or undefine it, or use another lab: Lab(root=…)"),
            )
        spec = self._machine.domain(name, *map(self.path, images), memory=256 if boots else 32, cpus=1, by_kernel=boots)
        with libvirt_errors(t("define the guest {guest}", guest=name)):
            self.lab.connection.defineXML(domain_xml(spec))
        return self.lab.guest(name)

    def describe(self, name: str, image: str) -> None:
        """Write the file `name`.xml, from which `virsh` defines a guest with that image as its disk."""
        disk = escape(self.path(image))
        (self.folder / f"{name}.xml").write_text(_DOMAIN.format(name=name, disk=disk), encoding="utf-8")

    def note(self, *names: str) -> None:
        """Write down, for the end, what these images read now."""
        for name in names:
            self.note_as(name, name)

    def note_as(self, name: str, image: str) -> None:
        """Write down for an image that is not there yet, or will read other data, what another reads now."""
        self._content[name] = content_digest(self.path(image), "qcow2")
        self._formats[name] = "qcow2"

    def expect(self, *answer: str) -> None:
        """Write down the answer that is expected: words in any order."""
        self._answer = answer_digest(" ".join(answer))

    def finish(self) -> None:
        """Write down how the exercise begins: from now on it is set up."""
        images = [image for image in self.forest() if image.status != "missing"]
        start = Start(
            self._content,
            sizes={self.call(image.path): image.file_size or 0 for image in images},
            formats={self.call(image.path): image.format or "" for image in images} | self._formats,
            runs=self.runs(),
            answer=self._answer,
        )
        try:
            write_whole(self.folder / START, json.dumps(asdict(start), indent=1).encode())
        except OSError as error:
            raise from_os_error(error, t("set up the exercise {exercise}", exercise=self.name)) from error


def layers_on(base: str, *names: str) -> Iterable[tuple[str, str]]:
    """Return a row of images for `Stage.images`, the first on `base`."""
    return zip(names, (base, *names), strict=False)
