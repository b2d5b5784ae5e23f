"""What is read of real file systems is what was written to them, on every kind of volume."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import qemu_img
from support.filesystems import (
    as_base,
    debugfs,
    empty,
    ext4,
    fat,
    lvm,
    ntfs,
    overlay,
    partitioned,
    put,
    tool,
    write_group,
    xfs,
)
from support.images import KIB, MIB
from support.nobody import NOBODY

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, InvalidRequestError, NotFoundError
from vmsnap_nb.live.chain import LiveChain
from vmsnap_nb.live.journal import begun, write_entry
from vmsnap_nb.plans.journal import MergeEntry, PullEntry

pytestmark = pytest.mark.system

NAMES = (
    "motd",
    "快照",
    "with space",
    "new\nline",
    "-dash",
    "e\u0301",
    "\udcff\udcfe",
    "a" * 200,
    ".hidden",
    "quote'\"",
)

KINDS = ((), ("-O", "inline_data"), ("-b", "1024"), ("-O", "^extents,^64bit"), ("-t", "ext2"), ("-t", "ext3"))


def raw(path: Path) -> LiveChain:
    return vs.chain(path, format="raw")


def random_tree(folder: Path, chance: random.Random, *, depth: int = 3) -> None:
    """Make files of many sizes, links and folders."""
    for name in chance.sample(NAMES, 5):
        path = folder / name
        kind = chance.choice(("file", "file", "link", "folder", "sparse", "fifo"))
        if kind == "folder" and depth:
            path.mkdir()
            random_tree(path, chance, depth=depth - 1)
        elif kind == "link":
            path.symlink_to(chance.choice(("motd", "../up", "/etc/far", "x" * 100)))
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            size = chance.choice((0, 1, 59, 61, 1000, 4096, 5000, 70_000))
            with open(path, "wb") as file:
                if kind == "sparse":
                    file.seek(chance.randrange(200_000))
                file.write(chance.randbytes(size))
            path.chmod(chance.choice((0o644, 0o600, 0o4755)))
            os.utime(path, ns=(1, chance.randrange(10**18, 2 * 10**18)))


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_a_random_tree_on_ext4_is_read_as_it_was_written(seed: int, tmp_path: Path) -> None:
    chance, tree = random.Random(seed), tmp_path / "tree"
    tree.mkdir()
    random_tree(tree, chance)
    options = chance.choice(
        ((), ("-O", "inline_data"), ("-b", "1024"), ("-O", "^extents,^64bit"), ("-t", "ext2"), ("-t", "ext3"))
    )
    chain = raw(ext4(tmp_path / "disk.img", tree, *options))
    files = chain.files(recursive=True)
    names = (os.path.join(folder, name) for folder, *some in os.walk(tree) for name in itertools.chain(*some))
    wanted = {f"/{os.path.relpath(name, tree)}" for name in names}
    found = {entry.path: entry for entry in files}
    assert set(found) - {"/lost+found"} == wanted
    assert files.notes == ()
    for path in wanted:
        real, entry = os.lstat(f"{tree}{path}"), found[path]
        assert entry.mode == stat.S_IMODE(real.st_mode)
        assert (entry.kind == "folder", entry.kind == "link", entry.kind == "pipe") == (
            stat.S_ISDIR(real.st_mode),
            stat.S_ISLNK(real.st_mode),
            stat.S_ISFIFO(real.st_mode),
        )
        if entry.kind == "link":
            assert entry.target == os.readlink(f"{tree}{path}")
        if entry.kind == "file":
            # mkfs takes whole seconds only.
            assert (entry.size, (entry.mtime_ns or 0) // 10**9) == (real.st_size, real.st_mtime_ns // 10**9)
    for path in sorted(path for path in wanted if found[path].kind == "file")[:4]:
        assert chain.read(path) == Path(f"{tree}{path}").read_bytes()


@pytest.fixture(scope="module")
def centos(tmp_path_factory: pytest.TempPathFactory) -> LiveChain:
    """A disk as an installer makes it: GPT, an EFI system partition, /boot, and XFS on LVM, with a swap volume."""
    folder = tmp_path_factory.mktemp("centos")
    (folder / "motd").write_text("welcome\n")
    (folder / "large").write_bytes(bytes(range(256)) * 40_000)
    boot = ext4(folder / "boot.img", made(folder / "boot", {"vmlinuz": b"kernel"}), "-U", UUID, size=8 * MIB)
    root = xfs(folder / "root.img", CENTOS.format(folder=folder))
    efi = fat(folder / "efi.img", {"EFI/": b"", "EFI/shim.efi": b"MZ"}, "-i", "12345678", size=4 * MIB)
    swap = empty(folder / "swap.img", 4 * MIB)
    tool("mkswap", "-q", swap)
    # The root volume was extended: it is in two pieces, and not in the order in which they lie.
    group = lvm(folder / "pv.img", {"root": (root, [(3, 70), (0, 2), (73, 8)]), "swap": (swap, [(2, 1)])})
    disk = partitioned(folder / "disk.img", "gpt", [efi, boot, group], kinds=["U", "L", "V"])
    return vs.chain(overlay(as_base(disk, folder / "disk.qcow2"), folder / "top.qcow2"))


UUID = "6c0d59a7-1f0e-4f5e-9d0c-0123456789ab"
CENTOS = """etc d--755 0 0
motd ---644 0 0 {folder}/motd
fstab ---644 0 0 {folder}/fstab
$
usr d--755 0 0
large ---600 1 2 {folder}/large
link l--777 0 0 ../etc/motd
far l--777 0 0 /boot/vmlinuz
$
boot d--755 0 0
$
"""


def test_partitions_that_a_mount_table_names_by_themselves(tmp_path: Path) -> None:
    for label in ("gpt", "dos"):
        folder = tmp_path / label
        (folder / "tree" / "etc").mkdir(parents=True)
        for name in ("usr", "home", "srv"):
            (folder / "tree" / name).mkdir()
        parts = [ext4(folder / "0.img", folder / "tree", size=4 * MIB)]
        parts += [ext4(folder / f"{n}.img", made_alone(folder / f"t{n}", n), size=4 * MIB) for n in (1, 2)]
        disk = partitioned(folder / "disk.img", label, parts)
        uuids = {}
        for number in (1, 2, 3):
            if label == "gpt":
                tool("sfdisk", "-q", "--part-label", disk, number, f"part {number}")
            uuids[number] = tool("blkid", "-p", "-O", 0, "-o", "value", "-s", "PTUUID", disk).decode().strip()
            if label == "gpt":
                uuids[number] = tool("sfdisk", "--part-uuid", disk, number).decode().strip()
            else:
                uuids[number] += f"-0{number}"
        third = "PARTLABEL=part\\0403" if label == "gpt" else f"PARTUUID={uuids[3]}"
        table = f"PARTUUID={uuids[2].upper()} /home ext4\n{third} /srv ext4\n"
        (folder / "fstab").write_text(table)
        debugfs(parts[0], f"write {folder / 'fstab'} /etc/fstab")
        put(disk, parts[0], MIB)
        chain = raw(disk)
        assert (chain.read("/home/file"), chain.read("/srv/file")) == (b"1", b"2"), label


def made(folder: Path, files: dict[str, bytes]) -> Path:
    """Make a folder with files, and a mount table beside it."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    table = (
        f"/dev/mapper/cs-root / xfs defaults 0 0\nUUID={UUID} /boot ext4 defaults 1 2\nUUID=1234-5678 /boot/efi vfat\n"
    )
    folder.with_name("fstab").write_text(table)
    return folder


def test_xfs_on_lvm_with_what_its_mount_table_names(centos: LiveChain) -> None:
    files = centos.files(recursive=True)
    assert [entry.path for entry in files] == [
        "/boot",
        "/boot/lost+found",
        "/boot/vmlinuz",
        "/etc",
        "/etc/fstab",
        "/etc/motd",
        "/usr",
        "/usr/far",
        "/usr/large",
        "/usr/link",
    ]
    assert {entry.volume for entry in files} == {"cs/root", "p2"}
    assert (files["/usr/large"].owner, files["/usr/large"].permissions) == ("1:2", "-rw-------")
    assert [text.partition(",")[0] for text in files.volumes] == ["p1: FAT", "p2: ext", "cs/root: XFS", "cs/swap: swap"]
    assert files.notes == ()
    assert centos.read("/usr/large") == bytes(range(256)) * 40_000
    assert centos.read("/usr/link") == b"welcome\n"
    assert centos.read("/usr/far") == b"kernel"
    # A mount point must be a folder: that of the third is not there, so it is reached by its own name.
    assert [entry.path for entry in centos.files("p1:/", recursive=True)] == ["p1:/EFI", "p1:/EFI/shim.efi"]
    assert centos.read("p1:EFI/SHIM.EFI") == b"MZ"


def test_where_a_file_on_lvm_lies(centos: LiveChain) -> None:
    parts = centos.where("/usr/large")
    assert sum(part.length for part in parts) == parts[-1].start + parts[-1].length == 40_000 * 256
    content = b""
    disk = Path(centos[0].path).with_suffix(".img").read_bytes()
    for part in parts:
        assert part.place is not None
        content += disk[part.place : part.place + part.length]
    assert content == bytes(range(256)) * 40_000
    assert {part.image for part in parts} == {"disk"}


def test_names_on_xfs_that_are_no_utf8(tmp_path: Path) -> None:
    names = [f"file{number:03}" for number in range(300)]
    (tmp_path / "content").write_text("x")
    tree = "".join(f"{name} ---644 0 0 {tmp_path}/content\n" for name in names)
    tree += f"few d--755 0 0\nfileXYZ ---644 0 0 {tmp_path}/content\nother ---644 0 0 {tmp_path}/content\n$\n"
    disk = xfs(tmp_path / "disk.img", tree, "-n", "ftype=1")
    data = disk.read_bytes()
    # In the folder of many its entry is in a block, in that of few in the inode; the checksum of each is not looked at.
    for name, other in ((b"file123", b"fil\xff123"), (b"fileXYZ", b"fil\xffXYZ")):
        assert name in data
        data = data.replace(name, other)
    disk.write_bytes(data)
    files = raw(disk).files(recursive=True)
    assert {"/fil\udcff123", "/few/fil\udcffXYZ", "/few/other", "/file122"} <= {entry.path for entry in files}
    assert len(files) == 303
    assert raw(disk).read("/fil\udcff123") == b"x"
    assert b"\\xff" in files.to_text().encode()


def test_ntfs_and_fat(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(100_000)
    windows = raw(ntfs(tmp_path / "ntfs.img", {"快照.txt": b"small", "large.bin": content}))
    files = windows.files(recursive=True)
    assert [entry.path for entry in files] == ["/large.bin", "/快照.txt"]
    assert (files["/large.bin"].mode, files["/large.bin"].owner) == (None, None)
    assert windows.read("/LARGE.BIN") == content
    assert [(part.kind, part.length) for part in windows.where("/快照.txt")] == [("inode", 5)]
    for bits in ("12", "16", "32"):
        size = 64 * MIB if bits == "32" else 16 * MIB
        made = {"dir/": b"", "dir/A long name.bin": content, "small.txt": b"small"}
        chain = raw(fat(tmp_path / f"fat{bits}.img", made, "-F", bits, "-n", "LABEL", size=size))
        assert [entry.path for entry in chain.files(recursive=True)] == ["/dir", "/dir/A long name.bin", "/small.txt"]
        assert chain.read("/dir/a LONG name.bin") == content
        assert chain.files().notes == ()


def test_partitions_of_an_mbr_with_an_extended_one(tmp_path: Path) -> None:
    parts = [ext4(tmp_path / f"{n}.img", made_alone(tmp_path / f"t{n}", n), size=4 * MIB) for n in range(5)]
    chain = raw(partitioned(tmp_path / "disk.img", "dos", parts))
    assert [text.partition(":")[0] for text in chain.files("p1:/").volumes] == ["p1", "p2", "p3", "p5", "p6"]
    assert [chain.read(f"{name}:/file") for name in ("p1", "p2", "p3", "p5", "p6")] == [b"%d" % n for n in range(5)]
    with pytest.raises(NotFoundError, match=r"mounted on / is unknown[\s\S]*p1:/"):
        chain.files()
    with pytest.raises(NotFoundError, match="available: p1, p2, p3, p5, p6"):
        chain.files("p4:/")


def made_alone(folder: Path, number: int) -> Path:
    folder.mkdir()
    (folder / "file").write_bytes(b"%d" % number)
    return folder


@pytest.mark.parametrize(
    ("offset", "magic", "said"),
    [
        (0, b"", "the disk is empty"),
        (0, b"\x01something", "the content of the disk is not recognized"),
        (0, b"LUKS\xba\xbe\0\2", "the disk contains LUKS, encrypted"),
        (0x10040, b"_BHRfS_M", "the disk contains Btrfs"),
        (0x20000, b"\x0c\xb1\xba\0\0\0\0\0", "the disk contains ZFS"),
        (4086, b"SWAPSPACE2", "the disk contains swap"),
        (3, b"-FVE-FS-", "the disk contains BitLocker, encrypted"),
        (512, b"LABELONE", "the version of its label is unknown"),
    ],
)
def test_what_cannot_be_read_is_named(offset: int, magic: bytes, said: str, tmp_path: Path) -> None:
    disk = empty(tmp_path / "disk.img", 2 * MIB)
    with open(disk, "r+b") as file:
        file.seek(offset)
        file.write(magic)
    with pytest.raises(ImageError, match=said):
        vs.chain(as_base(disk, tmp_path / "disk.qcow2")).files()


def test_a_logical_volume_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = ext4(tmp_path / "root.img", size=8 * MIB)
    thin = lvm(tmp_path / "pv.img", {"root": (root, [(0, 2)])}, kind="thin")
    with pytest.raises(ImageError, match="cs/root: it is a thin volume of the pool"):
        raw(thin).files()
    spread = lvm(tmp_path / "spread.img", {"root": (root, [(0, 1), (1, 1)])})
    text = spread.read_bytes()[4 * KIB + 512 :].partition(b"\0")[0].decode()
    other = (
        'pv1 {\nid = "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa"\ndevice = "/dev/vdb1"\npe_start = 2048\npe_count = 9\n}\n'
    )
    text = text.replace('stripes = [\n"pv0", 1', 'stripes = [\n"pv1", 1').replace(
        "logical_volumes {", "logical_volumes {"
    )
    write_group(spread, text.replace("physical_volumes {\n", f"physical_volumes {{\n{other}"))
    found = "on the physical volume pv1, which was /dev/vdb1 in the guest"
    way = r"linear or striped LVM volumes on one disk\. For others, ask the guest itself: guest\.execute"
    with pytest.raises(ImageError, match=rf"{found}[\s\S]*{way}"):
        raw(spread).files()
    good = lvm(tmp_path / "good.img", {"root": (root, [(0, 2)])})
    data = bytearray(good.read_bytes())
    data[4 * KIB + 512 + 20] ^= 1
    good.write_bytes(data)
    with pytest.raises(ImageError, match="describes no readable logical volume"):
        raw(good).files()


def test_a_journal_that_was_not_emptied_is_noted(tmp_path: Path) -> None:
    disk = ext4(tmp_path / "disk.img")
    debugfs(disk, "feature needs_recovery")
    (note, *_) = raw(disk).files().notes
    assert note.startswith("the ext file system on the disk was in use. The latest changes may be only in its journal")
    (tmp_path / "c").write_text("x")
    log = xfs(tmp_path / "xfs.img", f"a ---644 0 0 {tmp_path}/c\n")
    assert raw(log).files().notes == ()
    clean = Path(log).read_bytes()
    dirty = bytearray(clean)
    at = clean.index(b"\xfe\xed\xba\xbe") + 512
    assert dirty[at + 9] & 0x20
    dirty[at + 9] &= ~0x20
    log.write_bytes(dirty)
    assert "its log is not empty" in raw(log).files().notes[0]
    assert "fsfreeze -f /; fsfreeze -u /" in raw(log).files().notes[0]
    disk = fat(tmp_path / "fat.img", {}, "-F", "16")
    with open(disk, "r+b") as file:
        file.seek(0x25)
        file.write(b"\1")
    assert raw(disk).files().notes


def test_what_is_all_zeros_is_copied_out_as_a_hole(tmp_path: Path) -> None:
    """A hostile file system can name any size; the copy must not fill the disk."""
    tree, size = tmp_path / "tree", 200 * MIB + 5
    tree.mkdir()
    with open(tree / "file", "wb") as file:
        file.seek(100 * MIB + 3)
        file.write(b"inside")
        file.truncate(size)
    path = vs.chain(as_base(ext4(tmp_path / "e.img", tree), tmp_path / "a.qcow2")).copy_out("/file", tmp_path)
    found = os.stat(path)
    assert found.st_size == size
    assert found.st_blocks * 512 <= 2 * MIB
    with open(path, "rb") as file, open(tree / "file", "rb") as original:
        while piece := original.read(16 * MIB):
            assert file.read(16 * MIB) == piece


def test_a_file_is_copied_out_and_nothing_overwritten(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    content = random.Random(2).randbytes(3 * MIB + 5)
    (tree / "file").write_bytes(content)
    (tree / "folder").mkdir()
    images = tmp_path / "images"
    images.mkdir()
    chain = vs.chain(overlay(as_base(ext4(tmp_path / "e.img", tree), images / "a.qcow2"), images / "b.qcow2"))
    path = chain["b"].copy_out("/file", tmp_path)
    assert path == str(tmp_path / "file")
    assert hashlib.sha256(Path(path).read_bytes()).digest() == hashlib.sha256(content).digest()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(InvalidRequestError, match="existing files are not overwritten"):
        chain.copy_out("/file", tmp_path)
    with pytest.raises(InvalidRequestError, match="its type is folder"):
        chain.copy_out("/folder", tmp_path / "x")
    with pytest.raises(InvalidRequestError, match="at most 1 KiB"):
        chain.read("/file", most=1 * KIB)
    with pytest.raises(NotFoundError, match=r"/ does not contain 'fil'[\s\S]*did you mean file"):
        chain.read("/fil")
    assert sorted(os.listdir(tmp_path)) == ["e.img", "file", "images", "tree"]


def test_no_file_is_copied_into_a_folder_that_another_user_chooses(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "one").write_text("1")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "folder")
    chain = vs.chain(as_base(ext4(tmp_path / "raw", tmp_path / "tree"), tmp_path / "base.qcow2"))
    if os.geteuid() == 0:
        os.lchown(link, NOBODY, NOBODY)
        with pytest.raises(InvalidRequestError, match="a symbolic link that belongs to another user"):
            chain.copy_out("/one", link)
        assert not list((tmp_path / "folder").iterdir())
        os.lchown(link, 0, 0)
    assert Path(chain.copy_out("/one", link)).read_text() == "1"


def refused(chain: LiveChain, target: Path) -> str:
    """Why the content of a file is neither read nor copied; empty if both work."""
    said = []
    for call in (lambda: chain.read("/one"), lambda: chain.copy_out("/one", target)):
        try:
            call()
        except ImageError as error:
            said.append(f"{error.why}: {error.next_step}")
    assert len(set(said)) == len(said) // 2
    assert bool(said) != target.exists()
    target.unlink(missing_ok=True)
    return said[0] if said else ""


def test_what_an_interrupted_merge_has_left_half_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "one").write_text("1")
    base = as_base(ext4(tmp_path / "raw", tmp_path / "tree"), tmp_path / "base.qcow2")
    top, other = overlay(base, tmp_path / "top.qcow2"), overlay(base, tmp_path / "other.qcow2")
    entry = begun(MergeEntry(base=str(base), top=str(top), merged=(str(top),)))
    write_entry(entry)
    # What is in the base already is hidden by what is merged, and by nothing else.
    assert (vs.chain(top).files().notes, refused(vs.chain(top), tmp_path / "copy")) == ((), "")
    for chain in (vs.chain(base), vs.chain(other)):
        (note,) = chain.files().notes
        assert f"a merge of {top} into {base} is running or was interrupted" in note
        assert note in refused(chain, tmp_path / "copy")
        assert "finish it with forest.unfinished()[0].run()" in refused(chain, tmp_path / "copy")
    assert vs.chain(other).where("/one").notes == vs.chain(other).files().notes
    assert vs.chain(other).diff("base", "other").notes[1:] == vs.chain(other).files().notes
    write_entry(replace(entry, phase="copied"))
    assert (vs.chain(base).files().notes, refused(vs.chain(base), tmp_path / "copy")) == ((), "")


def test_what_an_interrupted_pull_may_have_lost_is_said(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "one").write_text("1")
    base = as_base(ext4(tmp_path / "raw", tmp_path / "tree"), tmp_path / "base.qcow2")
    middle = overlay(base, tmp_path / "middle.qcow2")
    top = overlay(middle, tmp_path / "top.qcow2")
    write_entry(begun(PullEntry(image=str(top), written=str(middle), format="qcow2", base=str(base))))
    # On what it was based on it reads the same, with or without the tables that QEMU had not written.
    assert (vs.chain(top).files().notes, refused(vs.chain(top), tmp_path / "copy")) == ((), "")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    (note,) = vs.chain(top).files().notes
    assert f"a pull into {top} was interrupted" in note
    assert note in refused(vs.chain(top), tmp_path / "copy")


def test_files_are_found_by_name_and_time(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "var" / "log").mkdir(parents=True)
    for number, name in enumerate(("old.log", "new.log", "other.txt")):
        (tree / "var" / "log" / name).write_text("x")
        os.utime(tree / "var" / "log" / name, (0, 1_700_000_000 + number * 86_400))
    image = raw(ext4(tmp_path / "e.img", tree))[0]
    assert [entry.path for entry in image.find("*.log")] == ["/var/log/new.log", "/var/log/old.log"]
    assert [entry.name for entry in image.find("/var/log/o*")] == ["old.log", "other.txt"]
    assert [entry.name for entry in image.find("*", path="/var/log", newer="2023-11-15 12:00")] == [
        "new.log",
        "other.txt",
    ]
    with pytest.raises(InvalidRequestError, match="use a time such as"):
        image.find("*", newer="yesterday")


def test_links_that_lead_nowhere_or_in_a_circle(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").symlink_to("two")
    (tree / "two").symlink_to("one")
    (tree / "up").symlink_to("../../../../file")
    (tree / "file").write_text("inside")
    chain = raw(ext4(tmp_path / "e.img", tree))
    with pytest.raises(NotFoundError, match="too many symbolic links"):
        chain.read("/one")
    assert chain.read("/up") == b"inside"  # of the guest's disk, never of this machine


def test_a_large_folder_from_which_files_were_removed(tmp_path: Path) -> None:
    """What is left of the names of removed files hides none behind it, and is not listed."""
    chance, tree = random.Random(7), tmp_path / "tree"
    (tree / "many").mkdir(parents=True)
    names = {f"{number}-{'x' * chance.randrange(60)}" for number in range(400)}
    for name in names:
        (tree / "many" / name).touch()
    disk = ext4(tmp_path / "disk.img", tree, "-b", "1024", "-O", "^metadata_csum")
    gone = chance.sample(sorted(names), 150)
    debugfs(disk, *(f"rm /many/{name}" for name in gone))
    data = bytearray(disk.read_bytes())
    for name in map(str.encode, gone):  # what is left of several can overlap, as after a folder's blocks were split
        at = data.index(bytes([len(name), 1]) + name)
        if any(data[at - 6 : at - 2]):  # else it is the first of its block, whose length is needed
            data[at - 2 : at + 1] = (212).to_bytes(2, "little") + bytes([200])
    disk.write_bytes(data)
    assert {entry.name for entry in raw(disk).files("/many")} == names - set(gone)


def test_holes_lie_nowhere(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as file:
        for at in (200_000, 500_000):
            file.seek(at)
            file.write(b"x" * 5000)
        file.truncate(900_000)
    for number, options in enumerate(((), ("-O", "^extents,^64bit"))):
        chain = raw(ext4(tmp_path / f"{number}.img", tree, *options))
        parts, content = chain.where("/sparse"), bytearray(900_000)
        data = Path(chain.top).read_bytes()
        for part in parts:
            assert (part.kind == "zero") == (part.place is None)
            if part.place is not None:
                content[part.start : part.start + part.length] = data[part.place : part.place + part.length]
        assert sum(part.length for part in parts) == 900_000
        assert bytes(content) == (tree / "sparse").read_bytes()


@pytest.mark.parametrize("cluster", [4 * KIB, 64 * KIB])
def test_many_tables_and_a_few_say_the_same(tmp_path: Path, cluster: int) -> None:
    """Many are parsed by numpy, which the process has to load before it may load nothing more."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(content := random.Random(1).randbytes(20 * MIB))
    disk, image = ext4(tmp_path / "disk.img", tree, size=32 * MIB), tmp_path / "disk.qcow2"
    qemu_img("convert", "-q", "-O", "qcow2", "-o", f"cluster_size={cluster}", disk, image)
    assert vs.chain(image).read("/large", most=20 * MIB) == content
