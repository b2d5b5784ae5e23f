"""Where an exercise is set up: its folder, its guests, and what is written down of its start."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vmsnap_nb.errors import LabError
from vmsnap_nb.lab.domain_xml import GuestSpec, domain_xml
from vmsnap_nb.lab.exercises.exercise import Start
from vmsnap_nb.lab.scenarios import Layer, make_layers
from vmsnap_nb.live.folders import LiveForest
from vmsnap_nb.live.plan import World
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.system import process
from vmsnap_nb.system import qcow2_format as f
from vmsnap_nb.system.content import content_digest
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.os_errors import from_os_error
from vmsnap_nb.system.qcow2_mark import write_header

if TYPE_CHECKING:
    from vmsnap_nb.lab.lab import Lab
    from vmsnap_nb.live.guest import Guest

__all__ = ["Stage", "layers_on"]

_START = ".start.json"


class Stage:
    """One exercise's place in a lab.

    Parameters
    ----------
    lab : Lab
        The lab.
    name : str
        The exercise's name.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.folder = lab.root / "exercises" / name
        self._content: dict[str, str] = {}

    # -- what is read ---------------------------------------------------------------------------------------

    def forest(self) -> LiveForest:
        """Read its images and whoever uses them; plans of this forest run in the lab."""
        world = self.lab.world(self.folder)
        inside = f"{self.folder}/"

        def read() -> Forest:
            forest = world.read()
            return forest.tree(*(path for path in forest.images if path.startswith(inside)))

        return LiveForest.of(World(read, world.actions, world.readonly))

    def runs(self) -> dict[str, int]:
        """Give libvirt's number of each guest that runs; it changes when the guest is started again."""
        with libvirt_errors("list the guests that run"):
            running = (guest._domain for guest in self.lab.guests() if guest.running)
            return {str(domain.name()): int(domain.ID()) for domain in running}

    @property
    def is_set(self) -> bool:
        """Whether it is set up."""
        return (self.folder / _START).exists()

    def start(self) -> Start:
        """Read what was written down when it was set up.

        Raises
        ------
        LabError
            That file is gone or cannot be read.
        """
        try:
            return Start(**json.loads((self.folder / _START).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise LabError(
                f"read how the exercise {self.name} began",
                said=str(error),
                next_step=f"begin again: lab.reset_exercise({self.name!r})",
            ) from error

    # -- what is made ---------------------------------------------------------------------------------------

    def images(self, *layers: tuple[str, str], mebibytes: int = 16) -> None:
        """Make images with data of their own in each: names, each with that of its backing file or an empty one."""
        files = [Layer(f"{name}.qcow2", base and f"{base}.qcow2") for name, base in layers]
        try:
            make_layers(files, self.folder, size=mebibytes << 20)
        except OSError as error:
            raise from_os_error(error, f"make the images of the exercise {self.name}") from error

    def path(self, name: str) -> str:
        """Give the path of an image."""
        return str(self.folder / f"{name}.qcow2")

    def run(self, *argv: str) -> None:
        """Run a program, as somebody would by hand, with paths that are absolute or have no folder."""
        process.run(argv, tried=f"set up the exercise {self.name}")

    def write(self, name: str, mebibytes: int, at: int) -> None:
        """Write some data into an image: so many MiB, from that MiB on."""
        self.run("qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", f"write -q -P 7 {at}M {mebibytes}M", self.path(name))

    def repoint(self, name: str, base: str) -> None:
        """Have the header of an image name another backing file, relative to its folder, without a look at it."""
        self.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", f"{base}.qcow2", self.path(name))

    def forget_backing_format(self, name: str) -> None:
        """Cut off what the header of an image says of its backing file's format, as old versions of QEMU left it."""
        path = self.path(name)
        with open(path, "rb") as file:
            head = file.read(1 << 16)
        place = head.index(f.EXTENSION.pack(f.BACKING_FORMAT, len("qcow2")))
        write_header(path, head[:place] + f.EXTENSION.pack(f.END, 0) + head[place + 8 :], f"set up {self.name}")

    def move(self, name: str, target: str) -> None:
        """Move an image without telling its overlays."""
        Path(self.path(target)).parent.mkdir(exist_ok=True)
        os.rename(self.path(name), self.path(target))

    def define(self, name: str, *images: str, boots: bool = False) -> Guest:
        """Define a guest whose disks are these images; with the lab's kernel it boots, without it only runs.

        Raises
        ------
        LabError
            There is a guest of that name.
        """
        if name in (guest.name for guest in self.lab.guests()):
            raise LabError(
                f"make the guest {name} of the exercise {self.name}",
                said="there is a guest of that name",
                next_step="rename or undefine it, or use another lab: Lab(root=…)",
            )
        identity = uuid.uuid4()
        kernel, initrd = map(str, self.lab._boot_files()) if boots else (None, None)
        disk, *more = map(self.path, images)
        spec = GuestSpec(
            name,
            str(identity),
            disk,
            str(self.lab.root),
            memory=256 if boots else 32,
            cpus=1,
            kernel=kernel,
            initrd=initrd,
            kvm=self.lab.acceleration.kind == "kvm",
            console_log=str(self.lab.root / "console" / f"{identity}.log"),
            as_root=self.lab.driver == "session" and os.geteuid() == 0,
            port=self.lab._socket(f"{identity.hex[:12]}.c"),
            agent=self.lab._socket(f"{identity.hex[:12]}.a"),
            more=tuple(more),
        )
        with libvirt_errors(f"define the guest {name}"):
            self.lab.connection.defineXML(domain_xml(spec))
        return self.lab.guest(name)

    def note(self, *names: str) -> None:
        """Write down, for the end, what these images read now."""
        self._content |= {name: content_digest(self.path(name), "qcow2") for name in names}

    def call(self, path: str) -> str:
        """Give the name of an image."""
        return path.removeprefix(f"{self.folder}/").removesuffix(".qcow2")

    def finish(self) -> None:
        """Write down how the exercise begins: from now on it is set up."""
        images = [image for image in self.forest() if image.status != "missing"]
        start = Start(
            self._content,
            sizes={self.call(image.path): image.file_size or 0 for image in images},
            formats={self.call(image.path): image.format or "" for image in images},
            runs=self.runs(),
        )
        try:
            (self.folder / _START).write_text(json.dumps(asdict(start), indent=1))
        except OSError as error:
            raise from_os_error(error, f"set up the exercise {self.name}") from error


def layers_on(base: str, *names: str) -> Iterable[tuple[str, str]]:
    """Give a row of images for `Stage.images`, the first on `base`."""
    return zip(names, (base, *names), strict=False)
