"""The placeholder in a forest for an image that could not be read, or must not be."""

from __future__ import annotations

from vmsnap_nb.model.address import address_of
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import NO_FILE, Image, Status
from vmsnap_nb.system.files.identity import place_of
from vmsnap_nb.words.message import Message, t

__all__ = ["nowhere", "outside", "remote", "too_much", "unreachable", "unread_folder", "volume"]


def remote(path: str) -> Image:
    """Return the image at a network address."""
    problem = t("it is at a network address, and such addresses are never opened")
    return Image(path, status="remote", problem=problem, identity=address_of(path))


def volume(path: str) -> Image:
    """Return the image that is a volume, as POOL/VOLUME, of which libvirt does not report the file."""
    problem = t("it is a volume of a storage pool, and libvirt does not report its file: the pool may not be active")
    return Image(path, status="remote", problem=problem)


def nowhere(path: str) -> Image:
    """Return the image to which a reference leads that QEMU alone could follow, if anybody."""
    return Image(
        path,
        status="unknown",
        problem=t(
            "QEMU cannot read this reference, or resolves it against its current folder. Write the absolute path "
            "into the overlay (qemu-img rebase -u)"
        ),
    )


def outside(path: str, identity: Identity | None) -> Image:
    """Return the image at a place that was not to be read."""
    return Image(
        path,
        status="outside",
        problem=t(
            "it is outside the folders that were read, so it was not opened. Also pass its folder, or use follow=True"
        ),
        identity=identity,
    )


def unreachable(path: str, error: OSError | ValueError) -> Image:
    """Return the image at a path that the system does not follow."""
    status: Status = "missing" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
    said = error.strerror if isinstance(error, OSError) else str(error)
    problem = t(NO_FILE) if status == "missing" else t("it cannot be inspected: {error}", error=said)
    return Image(path, status=status, problem=problem, identity=place_of(path))


def unread_folder(folder: str, error: OSError) -> Image:
    """Return what stands for a folder that cannot be listed."""
    if isinstance(error, FileNotFoundError):
        return Image(folder, status="missing", problem=t("there is no such folder"))
    problem = t("cannot list this folder, so its images are unknown: {error}", error=error.strerror)
    return Image(folder, status="unreadable", problem=problem)


def too_much(depth: int, deepest: int, most: int) -> Message:
    """Return the problem of a folder that is too deep, or with which there would be too many names."""
    if depth > deepest:
        return t(
            "this folder was not read, because it is more than {most} levels deep; read it separately", most=deepest
        )
    return t("this folder was not read, because there are more than {most} names; read it separately", most=most)
