"""Lines for a shell that do by hand what steps do."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from html import escape
from itertools import count

from vmsnap_nb.model.reference import Reference
from vmsnap_nb.words.message import Message, t

__all__ = [
    "as_libvirt_writes",
    "create_overlay_argv",
    "domain_argument",
    "edited",
    "other_image",
    "rebase_argv",
    "repair_advice",
    "repair_argv",
    "repair_commands",
    "substitute",
    "upgrade_argv",
    "virsh_argv",
    "with_input",
]

_ALSO_AN_ID = re.compile(r"\d+|[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


# -- qemu-img ---------------------------------------------------------------------------------------------


def create_overlay_argv(
    path: str, backing: Reference, *, size: int | None = None, cluster_size: int | None = None
) -> tuple[str, ...]:
    """Return the `qemu-img create` command of an overlay, with the backing format, or ``FORMAT`` in its place."""
    options = () if cluster_size is None else ("-o", f"cluster_size={cluster_size}")
    argv = ("qemu-img", "create", "-q", "-f", "qcow2", *options)
    argv += ("-F", backing.format or "FORMAT", "-b", backing.written, "--", path)
    return argv if size is None else (*argv, str(size))


def rebase_argv(path: str, backing: Reference | None, *options: str, format: str = "qcow2") -> tuple[str, ...]:
    """Return the `qemu-img rebase` command of an overlay, with the format of the backing file if there is one."""
    onto = ("-b", "") if backing is None else ("-F", backing.format or "raw", "-b", backing.written)
    return ("qemu-img", "rebase", "-q", *options, "-f", format, *onto, "--", path)


def upgrade_argv(path: str) -> tuple[str, ...]:
    """Return the `qemu-img amend` command that makes an image version 3, without opening what it is based on."""
    # Without a driver QEMU sees itself whether it is a file or a device.
    alone = {"driver": "qcow2", "backing": None, "file": {"filename": path}}
    return ("qemu-img", "amend", "-q", "-o", "compat=1.1", "--", "json:" + json.dumps(alone))


# -- virsh ------------------------------------------------------------------------------------------------


def domain_argument(name: str, uuid: str) -> str:
    """Return what names a guest to virsh, which takes a number, or what looks like a UUID, for another guest's."""
    return uuid if _ALSO_AN_ID.fullmatch(name) else name


def virsh_argv(uri: str, *words: str) -> tuple[str, ...]:
    """Return a command line of virsh for a connection; without a URI for its default one."""
    return ("virsh", *(("-c", uri) if uri else ()), *words)


def with_input(argv: Sequence[str], xml: str) -> str:
    """Return a line that gives XML to a command, up to a word that is no line of it."""
    text = xml.rstrip()
    lines = set(re.split(r"[\r\n]", text))
    end = next(word for number in count() if (word := f"XML{number or ''}") not in lines)
    return f"{shlex.join(argv)} <<'{end}'\n{text}\n{end}"


def edited(
    read: Sequence[str], script: Iterable[str], write: Sequence[str], *, around: tuple[str, str] = ("", "")
) -> str:
    """Return a line that reads XML, puts something before and after it, lets sed change it, and writes it.

    It is read to its end before it is written: an embedded libvirt serves one process at a time.
    """
    words = [word for line in script for word in ("-e", line)]
    sed = shlex.join(["sed", *words]) + " | " if words else ""
    before, after = (f" {shlex.quote(text)}" * bool(text) for text in around)
    return f"xml=$({shlex.join(read)}) && printf '%s\\n'{before} \"$xml\"{after} | {sed}{shlex.join(write)}"


# -- sed --------------------------------------------------------------------------------------------------


def other_image(path: str, now: str, format: str, devices: Collection[str] = ()) -> tuple[str, ...]:
    """Return a script for sed that lets a disk in libvirt's XML have another image, of that format.

    `devices` are those of the two that are block devices.
    """
    old, new = (
        f"<source {'dev' if image in devices else 'file'}='{as_libvirt_writes(image)}'" for image in (path, now)
    )
    kinds = ["block" if image in devices else "file" for image in (path, now)]
    kind = () if kinds[0] == kinds[1] else (substitute(*(f"<disk type='{kind}'" for kind in kinds)),)
    # A disk is one text. What its image is based on lies between its own element and the target.
    whole = ("/<disk [^>]*[^/>]>/{", ":a", "/<.disk>/!{", "N", "ba", "}")
    sign = _sign(old)
    change = (
        f"\\{sign}{_pattern(old)}{sign}{{",
        substitute(old, new),
        *kind,
        f"s|\\(<driver [^>]*type=\\)'[^']*'|\\1'{format}'|",
        "s|<backingStore.*<target|<target|",
        "}",
    )
    return (*whole, *change, "}")


def substitute(old: str, new: str) -> str:
    """Return the command of sed that writes one text in place of another."""
    sign = _sign(old, new)
    inserted = re.sub(r"[\\&\n]", r"\\\g<0>", new)
    return f"s{sign}{_pattern(old)}{sign}{inserted}{sign}"


def _sign(*texts: str) -> str:
    """Return a delimiter for a pattern of sed: a sign that is not in it, since not every sed can escape it."""
    return next((sign for sign in "|#~!@%,;:" if not any(sign in text for text in texts)), "\x01")


def _pattern(text: str) -> str:
    """Return a text so written that sed finds just that."""
    return re.sub(r"[][\\.*^$]", r"\\\g<0>", text).replace("\n", "\\n")


def as_libvirt_writes(text: str) -> str:
    """Return a text as libvirt writes it into an attribute or an element."""
    return escape(text).replace("&#x27;", "&apos;")


def repair_advice(path: str) -> Message:
    """Return how an image is repaired that a merge has damaged: on a copy, since a repair may lose what is damaged."""
    return t(
        "do not write to it. Keep the merged images: they are unchanged. Repair a copy: {commands}. Compare the copy "
        "with the merged images (qemu-img compare), then replace the damaged image with the copy",
        commands=repair_commands(path),
    )


def repair_argv(path: str) -> tuple[str, ...]:
    """Return the command by which QEMU repairs a qcow2 image by itself: no backing file is opened."""
    image = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": path}}
    return ("qemu-img", "check", "-q", "-r", "all", "json:" + json.dumps(image))


def repair_commands(path: str) -> str:
    """Return the commands that repair a copy of an image."""
    copy = f"{path}.copy"
    cp = shlex.join(("cp", "--sparse=always", "--", path, copy))
    repair = shlex.join(("qemu-img", "check", "-r", "all", "-f", "qcow2", copy))
    return f"{cp} && {repair}"
