"""Files of disks, read by a child process: the images are opened here, and it is given nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vmsnap_nb.errors import CommandError, ImageError, MissingPartError
from vmsnap_nb.model.files import NOW
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.disk.open import check_references, open_sources
from vmsnap_nb.system.files.writing import write_all
from vmsnap_nb.system.filesystems.messages import Answers
from vmsnap_nb.system.filesystems.served import Server
from vmsnap_nb.system.process import Limits, ProcessResult, run
from vmsnap_nb.system.sources.file import FileSource
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.language import VARIABLE, language
from vmsnap_nb.words.message import Message, t

__all__ = ["COPY", "QUESTION", "DiskState", "ask"]

QUESTION = Limits(seconds=300.0, cpu_seconds=240, memory=4 << 30, output=0, errors=64 << 10)
"""For a question whose answer is kept in memory."""
COPY = replace(QUESTION, seconds=None, cpu_seconds=3600)
"""For content that is copied into a file, of any size."""
_MISSING = ("pytsk3", "pyfsxfs")


@dataclass(frozen=True, slots=True)
class DiskState:
    """A disk as it is or was: the layers of a chain, base first; with a snapshot that is inside the last one.

    `volume` opens an image that is no file of this process: through libvirt, also on another machine.
    """

    name: str
    layers: tuple[Image, ...]
    snapshot: str | None = None
    volume: Callable[[Image], Source] | None = None

    @property
    def label(self) -> str:
        """What it is called where nothing else says which disk it is of."""
        image = self.layers[-1].name
        return image if self.name in {image, NOW} else t("{image} at {name}", image=image, name=self.name)

    @property
    def identities(self) -> tuple[str, ...]:
        """What each layer is: two that are called alike here have the same content at the same places."""
        names = [f"{image.identity or image.path}" for image in self.layers]
        return (*names[:-1], names[-1] + (f"@{self.snapshot}" if self.snapshot else ""))


def ask(
    states: Sequence[DiskState],
    tried: Message,
    request: dict[str, Any],
    *,
    sink: Callable[[bytes], object] | None = None,
    limits: Limits = QUESTION,
) -> Answers:
    """Ask about the files of one or two states of a disk; content of a file is given to `sink`, piece by piece."""
    answers = Answers(sink)
    with contextlib.ExitStack() as stack:
        descriptors: list[int] = []
        servers: list[Server] = []
        for state in states:
            check_references(state.layers, tried)
        disks = [_opened(state, stack, descriptors, servers) for state in states]
        whole = {
            **request,
            "names": [state.label for state in states],
            "identities": [state.identities for state in states],
            "disks": disks,
            "parent": os.getpid(),
        }
        paper = os.memfd_create("request")
        stack.callback(os.close, paper)
        write_all(paper, json.dumps(whole).encode(), 0)
        argv = (sys.executable, "-P", "-m", "vmsnap_nb.system.filesystems.child", str(paper))
        try:
            done = run(
                argv,
                tried=tried,
                limits=limits,
                check=False,
                environment={"OPENBLAS_NUM_THREADS": "1", "TZ": "UTC", "MALLOC_ARENA_MAX": "1", VARIABLE: language()},
                take=answers.feed,
                descriptors=(*descriptors, paper),
            )
        except (ValueError, TypeError, RecursionError) as error:
            raise _broken(tried, t("its response is invalid: {error}", error=str(error))) from error
        except CommandError as error:
            raise _broken(
                tried, t("it took longer than {seconds} s and was stopped", seconds=limits.seconds)
            ) from error
    failed = next((server.error for server in servers if server.error is not None), None)
    if failed is not None:
        raise failed
    _check(answers, done, tried)
    return answers


def _opened(
    state: DiskState, stack: contextlib.ExitStack, descriptors: list[int], servers: list[Server]
) -> list[dict[str, Any]]:
    layers = []
    for number, image in enumerate(state.layers):
        far = state.volume is not None and image.known_from != "file"
        given = state.volume(image) if far and state.volume is not None else None
        source, data = open_sources(image, given)
        fds = []
        for part in (source, data):
            if part is not None:
                stack.callback(part.close)
            fds.append(part.fileno() if isinstance(part, FileSource) else None)
        if far:
            server = Server(source)
            servers.append(server)
            stack.callback(server.close)
            fds[0] = server.fd
        descriptors += [fd for fd in fds if fd is not None]
        last = number == len(state.layers) - 1
        described = {"name": image.path, "format": image.format, "fd": fds[0], "data": fds[1]}
        size = source.size if far else None
        layers.append({**described, "snapshot": state.snapshot if last else None, "size": size, "last": last})
    return layers


def _check(answers: Answers, done: ProcessResult, tried: Message) -> None:
    if answers.error is not None:
        kind, what, why, said, step = answers.error
        raise kind(what or tried, why=why or None, said=said or None, next_step=step or None)
    if done.exit_status == 0 and answers.ended:
        return
    words = done.stderr.strip()
    if any(f"No module named '{name}'" in words for name in _MISSING):
        how = t("install it: {commands}", commands="pip install pytsk3 libfsxfs-python")
        raise MissingPartError(tried, said=words.splitlines()[-1], next_step=how)
    why = t("it ended with exit status {status}", status=done.exit_status)
    if done.exit_status < 0:
        why = t("it was terminated by signal {signal}", signal=-done.exit_status)
    raise _broken(tried, why, said=words.splitlines()[-1] if words else None)


def _broken(tried: Message, why: Message, *, said: str | None = None) -> ImageError:
    return ImageError(
        tried,
        why=t("the process that reads the file systems did not complete: {why}", why=why),
        said=said,
        next_step=t("the file system may be damaged: check it in the guest, or in a copy of the image"),
    )
