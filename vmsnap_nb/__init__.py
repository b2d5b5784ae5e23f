"""See, do and understand virtual machine snapshots in a notebook.

    import vmsnap_nb as vs

The names below are the whole public interface of this level; each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmsnap_nb.lab.lab import Lab
    from vmsnap_nb.live.folders import chain, create_overlay, scan
    from vmsnap_nb.live.host import Host, connect
    from vmsnap_nb.panels import panel

__version__ = "0.1.0"

_HOMES = {
    "Host": "live.host",
    "Lab": "lab.lab",
    "chain": "live.folders",
    "connect": "live.host",
    "create_overlay": "live.folders",
    "panel": "panels",
    "scan": "live.folders",
}

__all__ = ["Host", "Lab", "__version__", "chain", "connect", "create_overlay", "panel", "scan"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = importlib.import_module(f"vmsnap_nb.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        from vmsnap_nb.errors import MissingPartError

        raise MissingPartError(
            f"use vmsnap_nb.{name}",
            said=str(error),
            next_step=f"pip install {error.name}; the extra [lab] of this package has all that notebooks need",
        ) from error
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Add the ``%%guest`` cell magic: ``%load_ext vmsnap_nb``."""
    from vmsnap_nb.lab.magic import register

    register(shell)
