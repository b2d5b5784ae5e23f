"""Loads libvirt's Python library once, keeps it quiet, and runs its event loop in a thread.

The event loop must be registered before the first connection is opened, and something must run it: without it an
embedded driver does not open, streams give no data, and broken connections go unnoticed
(https://libvirt.org/html/libvirt-libvirt-event.html).
"""

from __future__ import annotations

import os
import threading
from typing import Any

from vmsnap_nb.system.packages import missing_part
from vmsnap_nb.words.message import t

__all__ = ["library"]

_lock = threading.Lock()
_loaded: Any = None
_LOG = "LIBVIRT_LOG_OUTPUTS"


def library() -> Any:
    """Return the module `libvirt`, with its event loop running."""
    global _loaded  # noqa: PLW0603 - one library and one event loop for the whole process
    with _lock:
        if _loaded is None:
            _loaded = _load()
        return _loaded


def _load() -> Any:
    # An embedded driver writes its log to the process's standard error, so into the notebook's server; what goes wrong
    # reaches us as exceptions anyway. Who wants the log sets the variable.
    unset = _LOG not in os.environ
    if unset:
        os.environ[_LOG] = "4:file:/dev/null"
    try:
        import libvirt
    except ImportError as error:
        raise missing_part(
            "libvirt-python",
            t("load libvirt's Python library"),
            str(error),
            then=t("then run in a checkout: pip install '.[libvirt]' (or: pip install libvirt-python)"),
        ) from error
    finally:
        if unset:
            os.environ.pop(_LOG, None)
    libvirt.registerErrorHandler(_ignore, None)
    try:
        libvirt.virEventRegisterDefaultImpl()
    except libvirt.libvirtError:
        # Somebody else in this process has registered an implementation, and then runs it.
        return libvirt
    threading.Thread(target=_run, args=(libvirt,), name="libvirt event loop", daemon=True).start()
    return libvirt


def _run(libvirt: Any) -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _ignore(context: object, error: object) -> None:
    """Take the place of libvirt's own handler, which prints every error to standard error."""
