"""Remedies whose commands QEMU's locks keep from running: they name the guests that must be off first."""

from __future__ import annotations

import shlex

import pytest
from support.forests import forest, image

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import State, Use
from vmsnap_nb.plans.checks.locked import with_guests_off
from vmsnap_nb.plans.concern import either, refuse
from vmsnap_nb.words.message import t

TEXT = "do this first: {command}"


def world(state: State) -> Forest:
    images = image("base.qcow2"), image("top.qcow2", "base.qcow2"), image("other.qcow2", "base.qcow2")
    return forest(*images, uses=(Use("demo", "vda", "/i/top.qcow2", state),))


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("qemu-img", "amend", "-f", "qcow2", "-o", "compat=1.1", "/i/base.qcow2"), True),
        (("qemu-img", "rebase", "-u", "-F", "raw", "-b", "/x", "/i/top.qcow2"), True),
        (("qemu-img", "bitmap", "--remove", "--", "/i/other.qcow2", "b"), False),
        (("qemu-img", "convert", "-O", "qcow2", "/i/top.qcow2", "NEW.qcow2"), True),
        (("qemu-img", "convert", "-O", "qcow2", "/i/base.qcow2", "NEW.qcow2"), False),
        (("qemu-img", "convert", "--image-opts", "driver=raw,file.filename=/i/top.qcow2", "NEW.qcow2"), True),
        (("qemu-img", "snapshot", "-U", "-l", "/i/top.qcow2"), False),
        (("virsh", "edit", "/i/top.qcow2"), False),
    ],
)
def test_a_command_that_needs_a_guest_off_says_so(command: tuple[str, ...], *, named: bool) -> None:
    line = shlex.join(command)
    for remedy in (t(TEXT, command=line), either(t("shut {guest} down", guest="x"), t(TEXT, command=line))):
        concern = refuse("not-supported", t("the plan"), remedy)
        [off] = with_guests_off(world("shut off"), (concern,))
        assert off == concern
        [running] = with_guests_off(world("running"), (concern,))
        assert ("shut down demo" in running.remedy) == named
        assert line in running.remedy
    assert running.remedy.startswith("shut x down. Or ")
