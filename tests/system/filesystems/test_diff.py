"""What changed between two states of a disk: of layers, and of snapshots inside an image."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from support.commands import qemu_img, run
from support.filesystems import as_base, change, debugfs, ext4, overlay, tool, xfs
from support.images import MIB

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.live.chain import LiveChain
from vmsnap_nb.model.files import FileChanges

pytestmark = pytest.mark.system


def rows(changes: FileChanges) -> list[tuple[str, str]]:
    return [(one.path, one.change) for one in changes]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> LiveChain:
    """A base, two overlays, and a snapshot inside the last one, each with changes of its own."""
    folder = tmp_path_factory.mktemp("chain")
    tree, images = folder / "tree", folder / "images"
    for name in ("etc", "home/old/deep"):
        (tree / name).mkdir(parents=True)
    images.mkdir()
    chance = random.Random(3)
    for name, size in (("motd", 20), ("hosts", 9000), ("shadow", 30), ("same", 500_000)):
        (tree / "etc" / name).write_bytes(chance.randbytes(size))
    (tree / "home" / "old" / "deep" / "file").write_bytes(chance.randbytes(9000))
    (folder / "new").write_bytes(chance.randbytes(9000))
    base = as_base(ext4(folder / "disk.img", tree), images / "Base.qcow2")
    one = overlay(base, images / "One.qcow2")
    new = folder / "new"
    change(one, lambda raw: debugfs(raw, "rm /etc/motd", f"write {new} /etc/motd", "sif /etc/shadow mode 0100600"))
    two = overlay(one, images / "Two.qcow2")
    change(two, lambda raw: debugfs(raw, "rm /etc/hosts", f"write {new} /etc/added", "mkdir /srv"))
    qemu_img("snapshot", "-c", "inside", two)
    change(two, lambda raw: debugfs(raw, "ln /home/old /home/new", "unlink /home/old", f"write {new} /srv/x"))
    return vs.chain(two)


def test_what_a_layer_changed(chain: LiveChain) -> None:
    found = chain.changes("One")
    assert rows(found) == [("/etc/motd", "changed"), ("/etc/shadow", "metadata")]
    frame = found.to_frame()
    assert frame.index.name == "path"
    assert list(frame.columns) == [
        "change",
        "kind",
        "size_before",
        "size_after",
        "mtime_before",
        "mtime_after",
        "mode",
        "owner",
        "layer",
    ]
    assert frame.loc["/etc/motd", ["size_before", "size_after", "layer"]].tolist() == [20, 9000, "One"]
    assert frame.loc["/etc/shadow", "mode"] == "-rw-------"
    with pytest.raises(InvalidRequestError, match="the image is the base"):
        chain.changes(0)


def test_layers_and_snapshots_inside_one_are_compared(chain: LiveChain) -> None:
    assert rows(chain.diff("Base", "inside")) == [
        ("/etc/added", "added"),
        ("/etc/hosts", "removed"),
        ("/etc/motd", "changed"),
        ("/etc/shadow", "metadata"),
        ("/srv", "added"),
    ]
    assert {one.layer for one in chain.diff("One", "inside")} == {"Two"}
    # Of several layers the data tells which; what a removal is in is not known.
    layers = {one.path: one.layer for one in chain.diff("Base", "inside")}
    assert (layers["/etc/added"], layers["/etc/hosts"]) == ("Two", "")


def test_the_layers_of_both_states_are_known(chain: LiveChain) -> None:
    def layers(changes: FileChanges) -> list[tuple[str, str]]:
        return [(layer.name, " ".join(layer.states)) for layer in changes.layers]

    both = "before after"
    assert layers(chain.changes("Two")) == [("Base", both), ("One", both), ("Two", "after")]
    assert layers(chain.diff("inside")) == [("Base", both), ("One", both), ("Two", both)]
    assert layers(chain.diff("Two", "One")) == [("Base", both), ("One", both), ("Two", "before")]
    top = chain.changes("Two").layers[-1]
    assert (top.path, top.allocated) == (chain["Two"].path, chain["Two"].allocated)


def test_a_folder_that_was_renamed_is_one_row(chain: LiveChain) -> None:
    found = chain.diff("inside")
    assert rows(found) == [("/home/new", "renamed"), ("/srv/x", "added")]
    assert found[0].before is not None
    assert found[0].before.path == "/home/old"
    assert "/home/old" in found.to_text()
    assert rows(chain.diff("inside", path="/srv")) == [("/srv/x", "added")]
    assert rows(chain.diff("inside", "inside")) == []
    with pytest.raises(NotFoundError):
        chain.diff("inside", path="/nowhere")
    with pytest.raises(NotFoundError, match="available: Base, One, Two, inside"):
        chain.diff("never")


def test_going_back_is_the_reverse(chain: LiveChain) -> None:
    reverse = {"added": "removed", "removed": "added", "changed": "changed", "metadata": "metadata"}
    forth, back = rows(chain.diff("Base", "inside")), rows(chain.diff("inside", "Base"))
    assert [(path, reverse[kind]) for path, kind in forth] == back


def test_where_each_part_of_a_file_lies(chain: LiveChain) -> None:
    one = vs.chain(chain["One"]).where("/etc/motd")
    assert {(part.image, part.kind) for part in one} == {("One", "data")}
    parts = chain.where("/etc/same")
    assert parts[0].start == 0
    assert sum(part.length for part in parts) == 500_000
    assert "Base" in {part.image for part in parts}
    frame = parts.to_frame()
    assert (frame.index.name, list(frame.columns)) == ("start", ["length", "layer", "image", "kind", "place"])


def test_content_that_changed_without_a_trace_in_the_inode(tmp_path: Path) -> None:
    """As by a write through a mapping that was not timed yet: only the clusters tell."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("secret", "near"):
        (tree / name).write_bytes(random.Random(4).randbytes(200_000))
    base = as_base(ext4(tmp_path / "disk.img", tree), tmp_path / "Base.qcow2")
    top = overlay(base, tmp_path / "Top.qcow2")
    place = vs.chain(base).where("/secret")[0].place
    assert place is not None
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 7 {place + 4096} 512", str(top))
    assert rows(vs.chain(top).changes("Top")) == [("/secret", "changed")]
    run("qemu-io", "-f", "qcow2", "-c", f"discard {place + 4096} 512", str(top))


def test_clusters_that_were_written_again_with_the_same_are_no_change(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(200_000))
    os.utime(tree / "file", (0, 0))
    base = as_base(ext4(tmp_path / "disk.img", tree), tmp_path / "Base.qcow2")
    top = overlay(base, tmp_path / "Top.qcow2")
    content = tmp_path / "content"
    content.write_bytes((tmp_path / "disk.img").read_bytes()[: 8 * MIB])
    run("qemu-io", "-f", "qcow2", "-c", f"write -s {content} 0 {8 * MIB}", str(top))
    assert rows(vs.chain(top).changes("Top")) == []


def test_xfs_is_compared_as_well(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(random.Random(5).randbytes(300_000))
    tree = f"etc d--755 0 0\nmotd ---644 0 0 {tmp_path}/content\nother ---644 0 0 {tmp_path}/content\n$\n"
    base = as_base(xfs(tmp_path / "disk.img", tree), tmp_path / "Base.qcow2")
    top = overlay(base, tmp_path / "Top.qcow2")
    chain = vs.chain(base)
    number, place = chain.files("/etc")["/etc/other"].inode, chain.where("/etc/motd")[0].place

    def edit(raw: Path) -> None:
        tool("xfs_db", "-x", "-c", f"inode {number}", "-c", "write core.mode 0100600", raw)

    change(top, edit)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 7 {place} 512", str(top))
    found = vs.chain(top).changes("Top")
    assert rows(found) == [("/etc/motd", "changed"), ("/etc/other", "metadata")]
    assert "-rw-r--r-- → -rw-------" in found.to_text()


def test_random_changes_are_found(tmp_path: Path) -> None:
    """Of random files, each is reported as what was done to it, and no other one."""
    chance = random.Random(6)
    tree, done = tmp_path / "tree", {}
    tree.mkdir()
    for number in range(60):
        (tree / f"f{number}").write_bytes(chance.randbytes(chance.choice((10, 5000, 70_000))))
    new = tmp_path / "new"
    new.write_bytes(chance.randbytes(20_000))
    commands = []
    for number in chance.sample(range(60), 30):
        name, what = f"/f{number}", chance.choice(("removed", "changed", "metadata", "renamed"))
        if what == "removed":
            commands.append(f"rm {name}")
        elif what == "changed":
            commands += [f"rm {name}", f"write {new} {name}"]
        elif what == "metadata":
            commands.append(f"sif {name} mode 0100600")
        else:
            commands += [f"ln {name} {name}-new", f"unlink {name}"]
            name += "-new"
        done[name] = what
    base = as_base(ext4(tmp_path / "disk.img", tree), tmp_path / "Base.qcow2")
    top = overlay(base, tmp_path / "Top.qcow2")
    change(top, lambda raw: debugfs(raw, *commands))
    assert dict(rows(vs.chain(top).changes("Top"))) == done
