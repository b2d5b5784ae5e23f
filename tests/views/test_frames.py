"""Frames: their columns and dtypes, as documented, and what is in them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest
from support.forests import figure_2, forest, image
from support.shown import overlay_plan, things

from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disks, Domain, Domains, Use
from vmsnap_nb.model.image import Bitmap, InternalSnapshot
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.space import ImageSpace, Space
from vmsnap_nb.panels.panel import names_of
from vmsnap_nb.plans.report import Report

TEXT, INT = "string", "Int64"
COLUMNS = {
    "forest": (
        ("path", TEXT),
        {
            "image": TEXT,
            "format": TEXT,
            "backing": TEXT,
            "backing_path": TEXT,
            "backing_format": TEXT,
            "virtual_size": INT,
            "allocated": INT,
            "depth": INT,
            "children": INT,
            "snapshots": INT,
            "bitmaps": INT,
            "used_by": TEXT,
            "needed_by": TEXT,
            "status": TEXT,
        },
    ),
    "chain": (
        ("layer", INT),
        {
            "image": TEXT,
            "path": TEXT,
            "format": TEXT,
            "backing": TEXT,
            "backing_format": TEXT,
            "virtual_size": INT,
            "allocated": INT,
            "active": "boolean",
            "used_by": TEXT,
            "needed_by": TEXT,
            "snapshots": INT,
            "bitmaps": INT,
            "status": TEXT,
        },
    ),
    "disks": (
        ("target", TEXT),
        {
            "source": TEXT,
            "format": TEXT,
            "bus": TEXT,
            "device": TEXT,
            "depth": INT,
            "capacity": INT,
            "allocated": INT,
        },
    ),
    "plan": (
        ("step", INT),
        {"action": TEXT, "image": TEXT, "what": TEXT, "bytes": INT, "command": TEXT},
    ),
    "report": (
        ("step", INT),
        {"action": TEXT, "image": TEXT, "state": TEXT, "bytes": INT, "seconds": "Float64", "command": TEXT},
    ),
}


def empty(kind: str) -> Shown:
    plan = overlay_plan(figure_2(), steps=())
    return {
        "forest": Forest(),
        "chain": Chain(Forest(), "/i/x"),
        "disks": Disks("demo"),
        "plan": plan,
        "report": Report(plan, (), plan.after),
    }[kind]


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("filled", [True, False])
def test_a_frame_has_its_documented_columns_and_dtypes_also_when_it_is_empty(kind: str, filled: bool) -> None:
    frame = (things()[kind] if filled else empty(kind)).to_frame()
    (index, index_type), columns = COLUMNS[kind]
    assert bool(len(frame)) is filled
    assert frame.index.name == index
    assert frame.index.dtype == index_type
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == columns


@pytest.mark.parametrize("kind", ["forest", "chain", "disks", "plan", "report"])
def test_the_class_documents_the_columns_of_its_frame(kind: str) -> None:
    (index, _), columns = COLUMNS[kind]
    said = re.sub(r"\s+", " ", type(things()[kind]).__doc__ or "")
    assert f"index ``{index}``" in said
    assert f"columns ``{' '.join(columns)}``" in said


def test_a_forests_frame_holds_what_the_images_are() -> None:
    tree = forest(
        image("Base", snapshots=(InternalSnapshot("1", "s"),), bitmaps=(Bitmap("a", 65536), Bitmap("b", 512))),
        dataclasses.replace(image("Over.qcow2", "Base"), backing=Reference("../i/Base", "relative", "/i/Base", "raw")),
        image("/n/Remote", status="remote", format=None, virtual_size=None, allocated=None),
        uses=(Use("web", "vda", "/i/Over.qcow2"), Use("demo", "vda", "/i/Over.qcow2"), Use("demo", "vdb", "/i/Base")),
    )
    frame = tree.to_frame()
    assert list(frame.index) == ["/i/Base", "/i/Over.qcow2", "/n/Remote"]
    base, over, remote = (frame.loc[path] for path in frame.index)
    assert over["image"] == "Over"
    assert over["backing"] == "../i/Base"
    assert over["backing_path"] == "/i/Base"
    assert over["backing_format"] == "raw"
    assert over["used_by"] == base["used_by"] == "demo, web"
    assert (base["depth"], over["depth"], base["children"], over["children"]) == (1, 2, 1, 0)
    assert (base["snapshots"], over["snapshots"]) == (1, 0)
    assert (base["bitmaps"], over["bitmaps"]) == (2, 0)
    assert base["virtual_size"] == 64 << 20
    missing = [
        "format",
        "backing",
        "backing_path",
        "backing_format",
        "virtual_size",
        "allocated",
        "snapshots",
        "bitmaps",
        "used_by",
    ]
    assert remote[missing].isna().all()
    assert remote["status"] == "remote"


def test_a_chains_frame_begins_with_the_base() -> None:
    frame = figure_2().chain("/i/Overlay-2A").to_frame()
    assert list(frame.index) == [0, 1, 2]
    assert list(frame["image"]) == ["RootBase", "Overlay-2", "Overlay-2A"]
    assert list(frame["active"]) == [False, False, True]


def test_steps_are_counted_from_one_and_have_their_commands() -> None:
    frame = things()["plan"].to_frame()
    assert list(frame.index) == [1, 2]
    assert frame.loc[2, "command"] == "chmod a-w -- /i/RootBase"


def test_a_name_that_is_no_utf8_gets_its_row() -> None:
    assert list(forest(image("/i/\udcff")).to_frame().index) == ["/i/\udcff"]


def test_a_frame_can_be_summed_and_saved(tmp_path: Path) -> None:
    frame = figure_2().to_frame()
    assert frame["allocated"].sum() == 9 << 20
    frame.to_csv(tmp_path / "x.csv")
    assert len(pd.read_csv(tmp_path / "x.csv")) == 9


def test_rows_that_have_a_name_and_no_other_order_are_in_natural_order() -> None:
    names = ["night-2", "night-10"]
    space = Space(tuple(ImageSpace(f"/i/{name}", name) for name in reversed(names)))
    assert list(space.to_frame()["image"]) == names
    assert list(Domains(tuple(Domain(name, name) for name in reversed(names))).to_frame().index) == names
    assert [name for name, _ in names_of(image(name) for name in reversed(names))] == names
