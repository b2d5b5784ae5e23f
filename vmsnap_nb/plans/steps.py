"""The single actions that plans are made of; each knows its files and its command line, none does anything."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from vmsnap_nb.model.reference import Reference

__all__ = ["CreateOverlay", "DefineDomain", "Protect", "Step", "create_overlay_argv"]


@dataclass(frozen=True, slots=True)
class Step:
    """One action. What a kind of step leaves out here does not happen in it."""

    @property
    def action(self) -> str:
        """The kind, in two or three words."""
        raise NotImplementedError

    @property
    def image(self) -> str:
        """Path of the image that it is about."""
        raise NotImplementedError

    @property
    def what(self) -> str:
        """One sentence for the table."""
        raise NotImplementedError

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        """The same by hand, as argument vectors."""
        return ()

    @property
    def commands(self) -> tuple[str, ...]:
        """The same by hand, as lines for a shell."""
        return tuple(shlex.join(argv) for argv in self.argvs)

    @property
    def creates(self) -> tuple[str, ...]:
        """Files that will be new."""
        return ()

    @property
    def writes(self) -> tuple[str, ...]:
        """Existing images whose content will change."""
        return ()

    @property
    def unlinks(self) -> tuple[str, ...]:
        """Files that will be removed."""
        return ()

    @property
    def invalidates(self) -> tuple[str, ...]:
        """Images that stay on disk and must not be used any more."""
        return ()

    @property
    def size(self) -> int | None:
        """Bytes to copy; 0 where nothing is copied, None where it is not known."""
        return 0


def create_overlay_argv(
    path: str, backing: Reference, *, size: int | None = None, cluster_size: int | None = None
) -> tuple[str, ...]:
    """Give the `qemu-img create` command of an overlay, always with the backing format, or ``FORMAT`` in its place."""
    options = () if cluster_size is None else ("-o", f"cluster_size={cluster_size}")
    argv = ("qemu-img", "create", "-q", "-f", "qcow2", *options)
    argv += ("-F", backing.format or "FORMAT", "-b", backing.written, "--", path)
    return argv if size is None else (*argv, str(size))


@dataclass(frozen=True, slots=True)
class CreateOverlay(Step):
    """Make a new qcow2 image that stands on another."""

    path: str
    backing: Reference
    virtual_size: int | None = None
    cluster_size: int | None = None

    @property
    def action(self) -> str:
        return "create overlay"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return f"new qcow2 image on {self.backing.written} ({self.backing.format or 'format not known'})"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (create_overlay_argv(self.path, self.backing, size=self.virtual_size, cluster_size=self.cluster_size),)

    @property
    def creates(self) -> tuple[str, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Protect(Step):
    """Take the write permission of an image away, so that nobody changes what overlays stand on."""

    path: str

    @property
    def action(self) -> str:
        return "protect"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return "take its write permission"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("chmod", "a-w", "--", self.path),)


@dataclass(frozen=True, slots=True)
class DefineDomain(Step):
    """Make a guest known to libvirt, with an image as its disk."""

    name: str
    path: str
    xml: str
    uri: str = ""

    @property
    def action(self) -> str:
        return "define guest"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return f"guest {self.name}, its disk vda on this image"

    @property
    def commands(self) -> tuple[str, ...]:
        connect = f"-c {shlex.quote(self.uri)} " if self.uri else ""
        return (f"virsh {connect}define /dev/stdin <<'XML'\n{self.xml.rstrip()}\nXML",)
