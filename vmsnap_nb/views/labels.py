"""What columns, states and kinds of snapshots are called where people read them."""

from __future__ import annotations

from collections.abc import Mapping

from vmsnap_nb.model.files import NOW
from vmsnap_nb.views.shown_text import shown
from vmsnap_nb.words.message import N_, t
from vmsnap_nb.words.states import state_words

__all__ = ["head_text", "kind_text", "moment_text", "state_text", "term_text"]

_HEADS: Mapping[str, str] = {
    "action": N_("action"),
    "active": N_("active"),
    "allocated": N_("allocated"),
    "backing": N_("backing"),
    "backing_format": N_("backing format"),
    "backing_path": N_("backing path"),
    "bitmaps": N_("bitmaps"),
    "bus": N_("bus"),
    "bytes": N_("bytes"),
    "capacity": N_("capacity"),
    "change": N_("change"),
    "children": N_("children"),
    "chosen": N_("chosen"),
    "command": N_("command"),
    "concern": N_("concern"),
    "created": N_("created"),
    "current": N_("current"),
    "depth": N_("depth"),
    "description": N_("description"),
    "device": N_("device"),
    "disk": N_("disk"),
    "disks": N_("disks"),
    "doubt": N_("doubt"),
    "evidence": N_("evidence"),
    "exclusive": N_("exclusive"),
    "files": N_("files"),
    "finding": N_("finding"),
    "foreseen": N_("predicted"),
    "format": N_("format"),
    "freed": N_("freed"),
    "freed_if_deleted": N_("freed if deleted"),
    "guest": N_("guest"),
    "help": N_("help"),
    "hidden": N_("hidden"),
    "host": N_("host"),
    "id": N_("ID"),
    "image": N_("image"),
    "inode": N_("inode"),
    "internal": N_("internal"),
    "kind": N_("kind"),
    "last_written": N_("last written"),
    "layer": N_("layer"),
    "length": N_("length"),
    "level": N_("level"),
    "links": N_("links"),
    "memory_file": N_("memory file"),
    "memory_files": N_("memory files"),
    "mode": N_("mode"),
    "mtime": N_("changed at"),
    "mtime_after": N_("changed at, after"),
    "mtime_before": N_("changed at, before"),
    "name": N_("name"),
    "needed_by": N_("needed by"),
    "owner": N_("owner"),
    "parent": N_("parent"),
    "path": N_("path"),
    "persistent": N_("persistent"),
    "place": N_("place"),
    "read-only": N_("read-only"),
    "reclaim": N_("reclaim"),
    "refused": N_("refused"),
    "remedy": N_("remedy"),
    "seconds": N_("seconds"),
    "severity": N_("severity"),
    "size": N_("size"),
    "size_after": N_("size after"),
    "size_before": N_("size before"),
    "snapshot": N_("snapshot"),
    "snapshots": N_("snapshots"),
    "source": N_("source"),
    "sources": N_("sources"),
    "start": N_("start"),
    "state": N_("state"),
    "status": N_("status"),
    "step": N_("step"),
    "target": N_("target"),
    "used_by": N_("used by"),
    "virtual_size": N_("virtual size"),
    "vm_state_size": N_("VM state size"),
    "volume": N_("volume"),
    "way": N_("way"),
    "what": N_("what"),
    "where": N_("where"),
}
"""The heads of columns as people read them; the frames have the names."""

_KINDS: Mapping[str, str] = {
    "internal-disk": N_("internal disk"),
    "internal-checkpoint": N_("internal checkpoint"),
    "external-disk": N_("external disk"),
    "external-checkpoint": N_("external checkpoint"),
    "vm-state": N_("VM state"),
    "mixed": N_("mixed"),
}


def head_text(column: str) -> str:
    """Return the head of a column in the current language."""
    return t(_HEADS[column]) if column in _HEADS else column.replace("_", " ")


def state_text(state: str) -> str:
    """Return the name of a state of a guest, a snapshot or a step in the current language."""
    return shown(state_words(state))


def kind_text(kind: str) -> str:
    """Return the name of a kind of snapshot in the current language."""
    return t(_KINDS[kind]) if kind in _KINDS else shown(kind)


def term_text(kind: str, term: str) -> str:
    """Return the words for what a column of a table's `kind` holds: a term, or any other text as it is."""
    words = {"state": state_text, "snapshot-kind": kind_text}.get(kind)
    return term if words is None else words(term)


def moment_text(name: str) -> str:
    """Return the name of a state of a disk: that of a snapshot or layer, or the word for the current one."""
    return t("now") if name == NOW else shown(name)
