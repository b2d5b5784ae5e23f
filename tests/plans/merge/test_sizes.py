"""Images of different sizes: a base that grows, and data that a smaller layer hides."""

from __future__ import annotations

from dataclasses import replace

from support.forests import MIB, forest, image
from support.merges import commit
from support.readings import reading
from support.refusals import refused

from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.plans.request import Reading


def test_a_bigger_overlay_grows_the_base() -> None:
    big = forest(image("base"), image("top", "base", virtual_size=80 * MIB), image("leaf", "top"))
    plan = commit(big, "/i/top")
    assert plan.after["/i/base"].virtual_size == 80 * MIB
    assert [c.level for c in plan.concerns if c.name == "grows-base"] == ["warn"]
    old = replace(big["/i/base"], compat="0.10", snapshots=(InternalSnapshot("1", "s"),))
    assert refused(commit(big.edited(put=[old]), "/i/top")) == {"grows-base"}


def test_a_short_layer_would_bring_to_light_what_it_hid() -> None:
    short = forest(image("base"), image("top", "base", virtual_size=32 * MIB), image("leaf", "top"))
    assert refused(commit(short, "/i/top")) == {"smaller-size"}

    def facts(place: int, own: int) -> Reading:
        def one(path: str, size: int, start: int) -> LayerMap:
            return LayerMap(path, size * MIB, (Extent(start * MIB, MIB),))

        layers = (one("/i/base", 64, place), one("/i/top", 32, 0), one("/i/leaf", 64, own))
        return reading(short, maps={layer.path: layer for layer in layers})

    assert refused(commit(short, "/i/top", facts=facts(40, 50))) == {"smaller-size"}
    assert not commit(short, "/i/top", facts=facts(40, 40)).refused, "the leaf covers it"
    assert not commit(short, "/i/top", facts=facts(4, 40)).refused, "there is nothing"
    leaf = commit(short.only(["/i/base", "/i/top"]), "/i/top")
    assert {c.level for c in leaf.concerns if c.name == "smaller-size"} == {"warn"}
