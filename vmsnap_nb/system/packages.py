"""What to install where a part is missing, in the words of each family of distributions."""

from __future__ import annotations

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.words.message import Message, joined, lines, t

__all__ = ["how_to_install", "install_sentence", "missing_module", "missing_part"]

_PACKAGES = {
    "qemu-system": {
        "apt": "qemu-system-x86",
        "dnf": "qemu-kvm",
        "pacman": "qemu-system-x86",
        "zypper": "qemu-x86",
    },
    "qemu-guest-agent": {
        "apt": "qemu-guest-agent",
        "dnf": "qemu-guest-agent",
        "pacman": "qemu-guest-agent",
        "zypper": "qemu-guest-agent",
    },
    "qemu-img": {"apt": "qemu-utils", "dnf": "qemu-img", "pacman": "qemu-img", "zypper": "qemu-img"},
    "qemu-io": {"apt": "qemu-utils", "dnf": "qemu-img", "pacman": "qemu-img", "zypper": "qemu-img"},
    "virsh": {"apt": "libvirt-clients", "dnf": "libvirt-client", "pacman": "libvirt", "zypper": "libvirt-client"},
    "libvirt-qemu-driver": {
        "apt": "libvirt-daemon libvirt-daemon-system",
        "dnf": "libvirt-daemon-kvm",
        "pacman": "libvirt",
        "zypper": "libvirt-daemon-qemu",
    },
    "libvirt-python": {
        "apt": "libvirt-dev pkg-config gcc python3-dev",
        "dnf": "libvirt-devel pkgconf gcc python3-devel",
        "pacman": "libvirt pkgconf gcc",
        "zypper": "libvirt-devel pkg-config gcc python3-devel",
    },
}
_VERBS = {"apt": "apt install", "dnf": "dnf install", "pacman": "pacman -S", "zypper": "zypper install"}

_EXTRAS = {"anywidget": "panels", "ipywidgets": "panels", "traitlets": "panels"}
_SYSTEMS = {"apt": "Debian, Ubuntu", "dnf": "Fedora", "pacman": "Arch", "zypper": "openSUSE"}


def how_to_install(part: str) -> str:
    """Return the command lines that install a part, one for each package manager.

    Examples
    --------
    >>> print(how_to_install("qemu-img"))
    apt install qemu-utils
    dnf install qemu-img
    pacman -S qemu-img
    zypper install qemu-img
    """
    return "\n".join(f"{_VERBS[manager]} {names}" for manager, names in _PACKAGES[part].items())


def missing_module(name: str, error: ModuleNotFoundError) -> MissingPartError:
    """Return the error for a public name whose module needs a Python package that is missing."""
    module = error.name or ""
    if extra := _EXTRAS.get(module.partition(".")[0]):
        step = t("run in a checkout: pip install '.[{extra}]' (or: pip install {module})", extra=extra, module=module)
    else:
        step = t("run: pip install {module}", module=module)
    return MissingPartError(t("use vmsnap_nb.{name}", name=name), said=str(error), next_step=step)


def install_sentence(program: str) -> Message:
    """Return the same in one line with the names of the systems; of a program that is not known, its name."""
    packages = _PACKAGES.get(program, {})
    return joined([f"{_VERBS[m]} {names} ({_SYSTEMS[m]})" for m, names in packages.items()] or [program])


def missing_part(
    part: str, tried: Message, said: str | None = None, *, then: Message | None = None
) -> MissingPartError:
    """Return the error for a part that is missing; `then` is what to do after the installation."""
    step = t("install it with the package manager of your system:\n{commands}", commands=how_to_install(part))
    return MissingPartError(tried, said=said, next_step=step if then is None else lines([step, then]))
