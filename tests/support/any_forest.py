"""Any forest at all, for tests of properties."""

from __future__ import annotations

from hypothesis import strategies as st

from support.shown import HOSTILE
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference

STATUSES = ["ok"] * 6 + ["missing", "unreadable", "not-a-file", "corrupt", "unknown", "outside", "remote", "in-use"]
NAMES = st.one_of(
    st.sampled_from(sorted(HOSTILE.values())),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255),
    st.binary(min_size=1, max_size=9)
    .map(lambda raw: raw.replace(b"/", b".").replace(b"\0", b"."))
    .map(lambda raw: raw.decode(errors="surrogateescape")),
)


@st.composite
def forests(draw: st.DrawFn, most: int = 14) -> Forest:
    """Any forest at all: loops, links, missing and remote images, names that nobody should give."""
    files = draw(st.lists(NAMES, min_size=1, max_size=most, unique=True))
    paths = [f"{draw(st.sampled_from(['/i', '/i/x', '/虚']))}/{name}" for name in files]
    images = []
    for path in paths:
        backing = None
        if draw(st.booleans()):
            target = draw(st.sampled_from([*paths, "/elsewhere/x", "nbd://host/x"]))
            backing = Reference(target, "absolute", None if target.startswith("nbd") else target, "qcow2")
        images.append(
            Image(
                path,
                draw(st.sampled_from(["qcow2", "raw", None])),
                draw(st.sampled_from(STATUSES)),  # type: ignore[arg-type]
                draw(st.sampled_from(["", "it is\nbroken <b>"])),
                draw(st.sampled_from([None, 0, 1 << 40])),
                draw(st.sampled_from([None, 0, 4096])),
                backing,
                identity=draw(st.sampled_from([None, None, None, (1, 1), (1, 2)])),
                held=draw(st.sampled_from(["", "", "write"])),  # type: ignore[arg-type]
                writable=draw(st.booleans()),
            )
        )
    uses = tuple(
        Use(f"guest {name}", "vda", path) for name, path in zip(files, paths, strict=True) if draw(st.booleans())
    )
    return Forest({one.path: one for one in images}, uses)
