"""Checks of the images that a plan opens: what each is, and what the one above says of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from vmsnap_nb.model.base_mismatch import is_older, is_other, is_smaller
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ, Image, Status, found_beyond, reason
from vmsnap_nb.plans.by_hand import repair_commands
from vmsnap_nb.plans.checks.known import how_to_read
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.words.message import Message, counted, joined, listed, t
from vmsnap_nb.words.states import state_words

__all__ = [
    "REBASED",
    "backing_format",
    "broken",
    "doubt",
    "doubts",
    "exposure",
    "foreign_data",
    "locked",
    "lower_keys",
    "missing",
    "named_in",
    "new_overlay_exposes",
    "plain_references",
    "unreadable",
    "usable",
]

_BROKEN = {"missing", "unreadable", "not-a-file", "corrupt", "invalid", "loop"}
_ELSEWHERE = {"outside", "remote", "unknown"}
_FORMATS = {"qcow2", "raw", "luks"}
"""That data can be merged into; into LUKS only by the QEMU of a guest, which has the key."""
_READ = {*_FORMATS, "vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels"}
"""Formats of images from which data was pulled up in tests; into the others of them nothing was merged."""
REBASED = frozenset({"qcow2", "qed"})
"""Formats in whose headers `qemu-img rebase -u` can write another backing file, or its format."""


def named_in(forest: Forest, lineage: Sequence[str], image: str) -> str:
    """Return the name under which a chain has an image, which may be known by another one."""
    names = forest.same_file(image)
    return next((layer for layer in lineage if layer in names), image)


def usable(
    forest: Forest,
    path: str,
    parts: Sequence[str] = (),
    *,
    layers: Sequence[str],
    into: str = "",
    keys: bool = False,
    opened: bool = False,
) -> Iterator[Concern]:
    """Check every image of a chain that would be opened.

    `parts` are those that are read or written, not only opened; `layers` those of them that must be qcow2; `into` is
    the one that is written. `keys` says whether who merges them has the keys of encrypted images: a QEMU that runs on
    this chain; `opened`, whether such a QEMU has all of it open.
    """
    read, merged = frozenset(parts), frozenset(layers)
    for one in forest.known_lineage(path):
        image = forest[one]
        inside = one in read
        if image.status == "remote":
            yield from _remote(forest, one, path, inside=inside, opened=keys)
        elif opened and not inside and forest.status(one) in NOT_READ:
            yield _not_needed(image)
        else:
            yield from unreadable(image, forest.status(one), waivable=not inside)
        yield from foreign_data(image)
        if image.encryption is not None and not keys:
            yield from locked(forest, (one,))
        elif inside and image.status == "ok":
            yield from _mergeable(image, layer=one in merged, written=one == into)
        if image.backing is not None and image.backing.key in forest.images:
            yield from backing_format(image, forest[image.backing.key])
    yield from doubts(forest, path)


def _not_needed(image: Image) -> Concern:
    """Return that an image was not read on which a guest runs, and of which the plan needs nothing."""
    return remark(
        "unknown-image",
        t(
            "{path} was not read: {why}. QEMU has it open, but this plan reads and writes only other layers",
            path=image.path,
            why=reason(image),
        ),
        images=(image.path,),
    )


def _remote(forest: Forest, address: str, top: str, *, inside: bool, opened: bool) -> Iterator[Concern]:
    """Check that nothing is written to an image on the network, or copied from it; it may be below what is merged."""
    if inside:
        lineage = forest.known_lineage(top)
        above = [forest[path].name for path in lineage[: lineage.index(address)]]
        copy = f"qemu-img convert -f {forest[top].format or 'qcow2'} -O qcow2 {shlex.quote(top)} NEW.qcow2"
        if opened:
            remedy = t("shut the guest down and copy the whole chain into one image: {command}", command=copy)
        else:
            remedy = t("copy the whole chain into one image: {command}", command=copy)
        if len(above) > 1:
            names = joined(above, most=3)
            remedy = either(t("merge only the layers above it ({images})", images=names), remedy)
        yield refuse(
            "untrusted-backing",
            t(
                "{address} is on the network, and plans neither write to such an image nor copy from it",
                address=address,
            ),
            remedy,
            images=(address,),
        )
    elif not opened:
        yield warn(
            "untrusted-backing",
            t(
                "{address} is on the network: qemu-img opens it as the end of the chain but copies nothing from it",
                address=address,
            ),
            t("run this only if you trust the author of the overlay that names this address"),
            images=(address,),
        )


def plain_references(forest: Forest, paths: Iterable[str]) -> Iterator[Concern]:
    """Check that these images refer to their backing files by no more than a file and a format.

    They would refer to another file, or to the same one by its path alone: what else their reference says would be
    lost, and what they read would change.
    """
    for path in paths:
        backing = forest[path].backing if path in forest.images else None
        if backing is not None and not backing.is_plain:
            yield refuse(
                "not-supported",
                t(
                    "{path} specifies its backing file with options that would be lost: {reference}",
                    path=path,
                    reference=backing.written,
                ),
                t(
                    "copy it into one image first: {command}",
                    command=f"qemu-img convert -O qcow2 {shlex.quote(path)} NEW.qcow2",
                ),
                images=(path,),
            )


def broken(
    forest: Forest, path: str, remedy: Message | None = None, *, by_libvirt: bool = False, opened: bool = False
) -> Iterator[Concern]:
    """Check that every image of a chain is there, is whole, and is not based on itself: the chain of a guest.

    With `by_libvirt` only libvirt opens it: then it may be one that this process cannot read. With `opened` a QEMU has
    it open, and only the image itself must be known.
    """
    if path not in forest.images:
        yield missing(path, remedy)
    for layer in forest.known_lineage(path):
        image = forest[layer]
        if opened and layer != path and forest.status(layer) in NOT_READ:
            yield _not_needed(image)
        elif by_libvirt and image.status == "unreadable" and image.known_from != "file":
            yield remark(
                "unknown-image",
                t("the backing file of {path} is not known: {why}", path=layer, why=reason(image)),
                t("create and start a storage pool for its folder, so that libvirt reads the image"),
                images=(layer,),
            )
        elif (status := forest.status(layer)) in {*_BROKEN, "unsupported"}:
            yield from unreadable(image, status, remedy=remedy)
        yield from foreign_data(forest[layer], concern=warn)
    yield from doubts(forest, path)


def doubts(forest: Forest, path: str) -> Iterator[Concern]:
    """Warn of overlays in a chain that may not belong to the images that they name, by their sizes and times."""
    for one in forest.known_lineage(path):
        yield from doubt(forest, one)


def doubt(forest: Forest, path: str) -> Iterator[Concern]:
    """Warn of an overlay that may not belong to the image that it names, by sizes and times."""
    image, below = forest[path], forest.images.get(forest.parent(path) or "")
    if below is None or image.status == "invalid":
        return
    both = (path, below.path)
    if said := is_smaller(image, below):
        yield warn(
            "smaller-size",
            t("{path}: {why}", path=path, why=said),
            t(
                "if this is not intended, the backing file may have been replaced by one of a different "
                "disk. To see both sizes, run: {command}",
                command=f"qemu-img info -U --backing-chain {shlex.quote(path)}",
            ),
            images=both,
        )
    if said := is_other(image, below) or is_older(image, below):
        yield warn(
            "disk-changed",
            t(
                "{fact}. Unless a merge or an internal snapshot wrote to {base}, {image} now reads a mixture of data "
                "from two points in time",
                fact=said,
                base=below.name,
                image=image.name,
            ),
            t(
                "if anything else wrote to {path}, or if the file was replaced, restore its old content from a backup",
                path=below.path,
            ),
            images=both,
        )


def foreign_data(image: Image, *, concern: Callable[..., Concern] = refuse) -> Iterator[Concern]:
    """Check that an image keeps its data where it was looked at: a header can name any file, also one of the host."""
    if image.data_file is not None and image.data_status in _ELSEWHERE:
        yield concern(
            "untrusted-backing",
            t(
                "{path} keeps its data in {file}, which was not read. A guest would use that file as its disk, "
                "whatever the file contains",
                path=image.path,
                file=image.data_file.written,
            ),
            t(
                "if you trust the author of the image, also read the folder of that file, or waive this. Otherwise, "
                "have the image copied into one file on the machine where it was created: qemu-img convert"
            ),
            images=(image.path,),
            waivable=True,
        )


def missing(path: str, remedy: Message | None = None, *, concern: Callable[..., Concern] = refuse) -> Concern:
    """Return that a file is not there."""
    return concern("missing-base", t("{path} does not exist", path=path), remedy or _restore(path), images=(path,))


def _restore(path: str, status: Status = "missing") -> Message:
    if status == "corrupt":
        commands = repair_commands(path)
        return t("restore it, or repair a copy and use the copy: {commands}", commands=commands)
    return t("restore it, or correct the reference to it with qemu-img rebase -u")


def unreadable(
    image: Image,
    status: Status,
    *,
    remedy: Message | None = None,
    format_remedy: Message | None = None,
    waivable: bool = False,
) -> Iterator[Concern]:
    """Check that QEMU can open an image of that status; `waivable` says whether it may be one that was not read."""
    if status == "loop":
        yield refuse(
            "loop",
            t("{path} is part of its own backing chain (a loop), so QEMU cannot open it", path=image.path),
            t("break the loop first with qemu-img rebase -u"),
            images=(image.path,),
        )
    elif status == "unreadable":
        yield refuse(
            "unknown-image",
            t("cannot read {path}, so its content is unknown: {why}", path=image.path, why=reason(image, status)),
            t(
                "use an account that can read it. Or create and start a storage pool for its folder, so that libvirt "
                "reads it"
            ),
            images=(image.path,),
        )
    elif status == "missing" and not found_beyond(image):
        yield missing(image.path, remedy)
    elif status in _BROKEN:
        what = t("{path} is {status}: {why}", path=image.path, status=state_words(status), why=reason(image, status))
        yield refuse("missing-base", what, remedy or _restore(image.path, status), images=(image.path,))
    elif status == "unsupported":
        yield refuse(
            "not-supported",
            t("cannot open {path}: {why}", path=image.path, why=reason(image, status)),
            t("use the program that created it to copy it into an image without these features"),
            images=(image.path,),
        )
    elif status in {"outside", "remote"}:
        copy = f"qemu-img convert -O qcow2 {shlex.quote(image.path)} NEW.qcow2"
        yield refuse(
            "untrusted-backing",
            t("{path} was not read: {why}", path=image.path, why=reason(image, status)),
            how_to_read(image)
            if status == "outside"
            else t("copy it into a file on this machine first: {command}", command=copy),
            images=(image.path,),
            waivable=waivable,
        )
    elif status == "unknown":
        yield refuse(
            "backing-format-missing",
            t("the format of {path} is not recorded, and guessing the format is unsafe", path=image.path),
            format_remedy or t("record it in the overlay with qemu-img rebase -u -F FORMAT"),
            images=(image.path,),
        )


def locked(forest: Forest, paths: Iterable[str]) -> Iterator[Concern]:
    """Check that no image is encrypted that qemu-img would open: it opens whole chains, and has no key."""
    for path in paths:
        image = forest[path]
        if image.encryption is not None:
            yield refuse(
                "not-supported",
                t(
                    "{image} is encrypted ({encryption}), and qemu-img does not have its key",
                    image=image.name,
                    encryption=image.encryption,
                ),
                t("do this while the guest is running: its QEMU process has the key"),
                images=(path,),
                waivable=image.format == "raw",  # the guest may have encrypted it by itself
            )


def _mergeable(image: Image, *, layer: bool, written: bool) -> Iterator[Concern]:
    """Check that data can be merged into an image, or as a layer into another."""
    format = image.format or t("an image of unknown format")
    if image.data_file is not None:
        yield refuse(
            "not-supported",
            t(
                "{image} keeps its data in an external data file, {file}",
                image=image.name,
                file=image.data_file.written,
            ),
            t("copy it into one file first with qemu-img convert"),
            images=(image.path,),
        )
    elif image.format != "qcow2" and layer:
        yield refuse(
            "not-supported",
            t("{image} is {format}, and only qcow2 layers can be merged", image=image.name, format=format),
            t(
                "copy it into one image first: {command}",
                command=f"qemu-img convert -O qcow2 {shlex.quote(image.path)} NEW.qcow2",
            ),
            images=(image.path,),
        )
    elif image.format not in (_FORMATS if written else _READ):
        fields = {
            "image": image.name,
            "format": format,
            "formats": joined(sorted(_FORMATS if written else _READ)),
        }
        if written:
            what = t(
                "{image} is {format}, and merging into this format has not been tested. Tested formats: {formats}",
                **fields,
            )
        else:
            what = t(
                "{image} is {format}, and merging from this format has not been tested. Tested formats: {formats}",
                **fields,
            )
        yield refuse(
            "not-supported",
            what,
            t("convert it first with qemu-img convert"),
            images=(image.path,),
            waivable=True,
        )
    elif written and image.format == "raw" and image.problem:
        yield refuse(
            "backing-format-wrong",
            t("{image} would be overwritten as raw data: {why}", image=image.path, why=image.problem),
            either(
                t("correct the format that the overlay records"),
                t("waive this if {image} is a raw disk and its guest wrote that data", image=image.name),
            ),
            images=(image.path,),
            waivable=True,
        )


def backing_format(image: Image, below: Image) -> Iterator[Concern]:
    """Check that an overlay records the format of its backing file, and the right one."""
    assert image.backing is not None
    if image.backing.format is None and below.format is not None:
        yield refuse(
            "backing-format-missing",
            t(
                "{image} does not record the format of {base}, so QEMU would guess the format from data that a guest "
                "wrote",
                image=image.name,
                base=below.name,
            ),
            _record_format(image, below),
            images=(image.path, below.path),
            waivable=True,
        )
    elif image.backing.format and below.format and image.backing.format != below.format:
        yield refuse(
            "backing-format-wrong",
            t(
                "{image} records its backing format as {recorded}, but {base} is {format}",
                image=image.name,
                recorded=image.backing.format,
                base=below.name,
                format=below.format,
            ),
            _record_format(image, below),
            images=(image.path, below.path),
            waivable=True,
        )


def _record_format(image: Image, below: Image) -> Message:
    assert image.backing is not None
    format = image.format or "qcow2"
    # The header of qed has no room for a format, but for a bit that says raw.
    if format not in REBASED or (format == "qed" and below.format != "raw"):
        convert = ("qemu-img", "convert", "-f", image.format or "raw", "-O", "qcow2", image.path, "NEW.qcow2")
        return t(
            "convert the image, because the {format} format cannot record a backing format: {command}",
            format=format,
            command=shlex.join(convert),
        )
    argv = ("qemu-img", "rebase", "-u", "-f", format, "-F", below.format or "raw", "-b", image.backing.written)
    return t("record the format: {command}", command=shlex.join((*argv, image.path)))


def exposure(forest: Forest, layers: Iterable[str], into: str) -> Iterator[Concern]:
    """Check whether what is encrypted would be written in the clear."""
    secret = [path for path in layers if forest[path].encryption]
    if secret and not forest[into].encryption:
        yield refuse(
            "not-supported",
            counted(
                "{images} is encrypted, but {target} is not: its data would be stored in plain text",
                "{images} are encrypted but {target} is not: their data would be stored in plain text",
                len(secret),
                images=listed(forest[path].name for path in secret),
                target=forest[into].name,
            ),
            t("merge into an encrypted image"),
            images=(into, *secret),
            waivable=True,
        )


def lower_keys(forest: Forest, path: str, guest: str, remedy: Message) -> Iterator[Concern]:
    """Check that no image of a chain is encrypted on which a new overlay is put while its guest is off.

    libvirt then writes only the overlay into the definition, and has no key for what is below.
    """
    for layer in forest.known_lineage(path):
        if forest[layer].encryption:
            yield refuse(
                "not-supported",
                t(
                    "{path} is encrypted ({encryption}). If a new overlay is created while {guest} is off, libvirt "
                    "has no key for {image} and cannot start {guest}",
                    path=layer,
                    encryption=forest[layer].encryption,
                    guest=guest,
                    image=forest[layer].name,
                ),
                remedy,
                images=(layer,),
                holders=(guest,),
                waivable=forest[layer].format == "raw",
            )


def new_overlay_exposes(image: Image) -> Iterator[Concern]:
    """Check whether a new overlay keeps in the clear what is written, where the image below is encrypted."""
    if image.encryption:
        yield warn(
            "not-encrypted",
            t(
                "{image} is encrypted ({encryption}), but its new overlay is not: new data would be stored in plain "
                "text",
                image=image.name,
                encryption=image.encryption,
            ),
            t(
                "keep the overlay where no other user can read it. Or create an encrypted overlay by hand: {command}",
                command="qemu-img create -o encrypt.format=luks,…",
            ),
            images=(image.path,),
        )
