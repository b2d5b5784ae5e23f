"""`connect`: to one libvirt, or to several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import overload

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.fleet.fleet import Fleet
from vmsnap_nb.fleet.slots import names_of
from vmsnap_nb.live.host import Host
from vmsnap_nb.model.arguments import checked
from vmsnap_nb.words.message import t

__all__ = ["connect"]

PathLike = str | os.PathLike[str]


@overload
def connect(uri: str, *, readonly: bool = False) -> Host: ...
@overload
def connect(
    uri: Mapping[str, str] | list[str] | tuple[str, ...],
    *,
    readonly: bool = False,
    shared: Iterable[PathLike] = (),
    executor: Executor | Mapping[str, Executor] | None = None,
) -> Fleet: ...
@checked
def connect(
    uri: str | Mapping[str, str] | list[str] | tuple[str, ...],
    *,
    readonly: bool = False,
    shared: Iterable[PathLike] = (),
    executor: Executor | Mapping[str, Executor] | None = None,
) -> Host | Fleet:
    """Connect to libvirt on one host or on several hosts.

    Parameters
    ----------
    uri : str, mapping of str to str, or list of str
        The URI of the host, such as ``qemu:///system``, ``qemu:///session`` or ``qemu+ssh://box/system``; see
        https://libvirt.org/uri.html. If you pass several URIs, as a list or as a mapping of names of your choice to
        URIs, a `Fleet` is returned. The connection to each host is opened when it is first needed.
    readonly : bool
        Whether the connection is read-only: libvirt refuses every change, and plans do not run.
    shared : iterable of path
        For several hosts: folders that all hosts share under the same path, such as an NFS mount.
    executor : concurrent.futures.Executor, or mapping of str to Executor, optional
        For several hosts: the executor that reads the hosts, or one executor for each host; see `Fleet`.

    Returns
    -------
    Host or Fleet

    Raises
    ------
    VmsnapError
        A required part is missing, libvirt does not respond, or permission is denied. The class of the error depends on
        the cause. If one of several hosts does not respond, no error is raised. The host's row in each table gives the
        reason.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> vs.connect("test:///default", readonly=True).guest("test").state
    'running'
    >>> vs.connect({"a": "test:///default", "b": "test:///default"}).guests().to_frame()[["guest", "state"]]
         guest    state
    host
    a     test  running
    b     test  running
    """
    if not isinstance(uri, str):
        return Fleet(names_of(uri), readonly=readonly, shared=shared, executor=executor)
    if tuple(shared) or executor is not None:
        raise InvalidRequestError(
            t("connect to {uri}, with shared= or executor=", uri=uri),
            why=t("these options require several hosts"),
            next_step=t("omit them, or pass several URIs"),
        )
    return Host(uri, readonly=readonly)
