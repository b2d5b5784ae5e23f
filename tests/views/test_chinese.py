"""Figures, tables and cards in Chinese: nothing of them is English but names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.forests import MIB, figure_2, forest, handout, image
from support.maps import blockmap
from support.snapshots import drifted

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.files import FileChanges
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Disks, Use
from vmsnap_nb.model.image import Bitmap, InternalSnapshot
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.concern import refuse
from vmsnap_nb.plans.plan import Alternative, Move, Plan
from vmsnap_nb.plans.report import Report, StepDone
from vmsnap_nb.plans.save.request import saved_record
from vmsnap_nb.plans.step import Protect
from vmsnap_nb.views import tables
from vmsnap_nb.views.cards import card_of
from vmsnap_nb.views.content import arrange, text_width
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Box, Line, Options
from vmsnap_nb.views.html import table_html
from vmsnap_nb.views.labels import head_text
from vmsnap_nb.views.positions import place_figure
from vmsnap_nb.views.shown_text import width, wrap
from vmsnap_nb.words.language import set_language
from vmsnap_nb.words.message import t

NAMES = re.compile(
    r"[.\w/]*(?:RootBase|Snap|Overlay)[-\w./]*|/\S+|\b(?:qcow2|vda|sda|virtio|disk|sata|[KMG]iB|UTC|protect|chmod|ok|invalid)\b"
    r"|waive=\S+|shared-base|report\.cleanup|\.?to_frame"
)
"""What is the same in any language: names of files and functions, formats, units, commands, statuses as in frames."""


@pytest.fixture(autouse=True)
def chinese() -> Iterator[None]:
    set_language("zh")
    yield
    set_language(None)


def english(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]{2,}", NAMES.sub("", text))


def merge() -> Plan:
    before = handout(uses=(Use("甲", "vda", "/i/Snap-4", "running"),))
    after = before.edited(put=[image("Snap-4", "Snap-1"), image("Snap-3", "Snap-2", status="invalid")])
    return Plan(
        "合并",
        before,
        (Protect(path="/i/RootBase"),),
        after,
        (Move("/i/Snap-2", "/i/Snap-1", MIB, "commit data"), Move("/i/Snap-3", "/i/Snap-1", None, "commit data")),
        (refuse("shared-base", "共享", "改用其他方式", images=("/i/Snap-1",), waivable=True),),
        way="方式",
        space_needed=MIB,
        alternatives=(Alternative("甲", MIB, chosen=True), Alternative("乙", None, refused="不行")),
    )


def report() -> Report:
    plan = merge()
    steps = tuple(StepDone(step, "done", 0.5, MIB, said="声音") for step in plan.steps)
    return Report(plan, steps, plan.after, error=InvalidRequestError("错误"))


def everything() -> Forest:
    inside = tuple(InternalSnapshot(str(n), f"Snap-{n}") for n in range(2))
    return forest(
        image("RootBase", virtual_size=1 << 30, writable=False, identity=(1, 7)),
        image("Snap-link", identity=(1, 7)),
        image("Overlay-1", "RootBase", snapshots=inside, bitmaps=(Bitmap("Snap-b", 65536),)),
        image("Overlay-2", "Overlay-gone", status="corrupt", problem="有问题"),
        image("Overlay-3", "Overlay-3"),
        *(image(f"Overlay-4{n:02}", "RootBase", status="missing" if n % 2 else "ok") for n in range(40)),
        uses=(Use("甲", "vda", "/i/Overlay-1", "running"), *(Use(f"乙{n}", "vda", "/i/Overlay-1") for n in range(4))),
    )


def shown() -> dict[str, Shown]:
    guest, tree = drifted()
    return {
        "forest": everything(),
        "folded": forest(image("RootBase"), *(image(f"Snap-{n}", "RootBase") for n in range(99))),
        "chain": figure_2().chain("/i/Overlay-1C"),
        "disks": Disks(
            "甲",
            (Disk("vda", "/i/Snap-a", "qcow2", "virtio", capacity=MIB, readonly=True), Disk("sda", None, bus="sata")),
            (3, 0),
        ),
        "snapshots": list_snapshots(guest, tree, gone={"/i/d.mem"}),
        "plan": merge(),
        "report": report(),
    }


@pytest.mark.parametrize("kind", ["forest", "folded", "chain", "disks", "plan", "report"])
def test_no_label_of_a_figure_is_english(kind: str) -> None:
    figure = figure_of(shown()[kind], Options())
    lines = [line.text for block in figure.blocks for box in block.boxes for line in box.lines]
    titles = [box.title for block in figure.blocks for box in block.boxes]
    captions = [block.caption for block in figure.blocks]
    sections = [
        text for one in figure.sections for text in (one.heading, *(line for item in one.items for line in item))
    ]
    labels = [move.label for move in figure.moves]
    for text in (figure.summary, figure.heading, *captions, *lines, *titles, *labels, *figure.notes, *sections):
        assert english(text) == [], text


def test_words_of_snapshots_are_chinese() -> None:
    text = shown()["snapshots"].to_text()
    for word in ("（当前）", "当前位置", "demo：已关机", "已过期", "文件缺失", "无记录", "（外部系统检查点）"):
        assert word in text


def test_saved_memory_of_which_libvirt_keeps_the_file_is_called_by_its_chinese_name() -> None:
    after = handout(uses=(Use("甲", "vda", "/i/Snap-4", "saved"),)).edited(records=(saved_record("甲", None),))
    assert "甲 保存的虚拟机状态（managed save）" in after.to_text()


def test_the_current_state_of_a_disk_has_a_word() -> None:
    assert FileChanges("Top", "monday", "now", ()).to_text().startswith("monday → 现在：")


def test_a_label_on_an_arrow_takes_the_place_of_its_width() -> None:
    lines = merge().to_text(details="none").splitlines()
    (lane,) = [line for line in lines if "向下合并 1 MiB" in line]
    assert re.search(r"\.-* 向下合并 1 MiB -+['|]", lane)
    (edge,) = [number for number, line in enumerate(lines) if "<==" in line]
    assert "后备镜像" in lines[edge + 1]
    assert width(lines[edge + 1]) == width(lines[edge])
    before, after = (
        next(number for number, line in enumerate(lines) if line.startswith(word)) for word in ("执行前", "执行后")
    )
    assert before < after


def test_a_plan_made_in_english_is_drawn_in_chinese() -> None:
    set_language("en")
    concern = refuse("in-use", t("the name is already in use"), t("remove that link"))
    plan = replace(merge(), concerns=(concern,))
    assert "already in use" in plan.to_text()
    set_language("zh")
    assert "! in-use：名称已被使用" in plan.to_text()
    assert "处理方法：删除该链接" in plan.to_text()


@pytest.mark.parametrize("columns", [10, 40, 90])
def test_a_long_sentence_is_broken_between_characters_but_not_before_a_comma(columns: int) -> None:
    text = "镜像 Overlay-1 基于 RootBase，向下合并会损坏依赖它的叠加层；请改用向上合并（blockpull）。" * 3
    lines = wrap(text, columns, "* ", "  ")
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", f"* {text}")
    assert all(line.strip()[0] not in "，；）。" and line[-1] != "（" for line in lines)
    assert all(width(line) <= max(columns, 20) for line in lines)


@pytest.mark.parametrize("kind", shown())
def test_tables_are_headed_in_chinese_and_frames_keep_their_names(kind: str) -> None:
    thing = shown()[kind]
    html = thing._repr_mimebundle_(include={"text/html"})["text/html"]
    for head in re.findall(r'<th scope="col"[^>]*>([^<]*)</th>|<caption[^>]*>([^<]*)<', html):
        assert english("".join(head)) == []
    assert all(name.isascii() for name in thing.to_frame().columns)


def test_block_maps_and_cards_are_chinese() -> None:
    blocks = blockmap("ddd.0...", ".d0....0")
    lines = blocks.to_text().splitlines()
    assert lines[1].startswith("客户机读到")
    bars = {width(line[: line.index("|")]) for line in lines if "|" in line}
    assert len(bars) == 1
    for text in (
        lines[0],
        *lines[1].split("|")[::2],
        *lines[-2:],
        *re.findall(r">([^<]+)</t(?:ext|itle)>", blocks.to_svg()),
    ):
        assert english(text) == [], text
    card = card_of(vs.Image("/i/Snap-1", "qcow2", virtual_size=MIB, writable=False, held="write"))
    assert english(" ".join((card.title, *(name for name, _ in card.facts)))) == []


def test_a_caption_lies_beside_the_arrows_that_come_down_through_it() -> None:
    moves = tuple(Move(f"/i/Snap-{number}", "/i/RootBase", MIB, "commit data") for number in (1, 2, 3))
    plan = replace(merge(), moves=moves)
    picture = place_figure(figure_of(plan, Options(details="none", style="handout")))
    (caption,) = [words for words in picture.words if words.lines[0] == "执行后"]
    down = [route.corners[-1] for route in picture.routes if route.kind == "move"]
    assert len(down) == 3
    assert all(bottom > caption.top for _, bottom in down)
    assert not any(caption.left <= x <= caption.left + text_width("执行后") for x, _ in down)


@pytest.mark.parametrize("table", [value for name, value in vars(tables).items() if re.fullmatch("_[A-Z]+", name)])
def test_every_column_has_a_chinese_head(table: object) -> None:
    names = [one.name for one in table if isinstance(one, tables.Column)] if isinstance(table, tuple) else []
    assert [name for name in [*names, "host"] if english(head_text(name)) not in ([], ["inode"])] == []


@pytest.mark.parametrize("text", ["独立镜像（无后备镜像）", "demo：vda（运行中）", "后备镜像，共 1 GiB；已失效。"])
@pytest.mark.parametrize("wide", [50, 72, 84])
def test_in_a_box_no_line_begins_with_a_closing_sign_or_ends_with_an_opening_one(text: str, wide: int) -> None:
    items, _ = arrange(Box("x", (Line("x", "name"), Line(text)), "x"), wide)
    (chip,) = [item for item in items if item.kind == "chip"]
    assert "".join(chip.texts) == text
    assert all(line[0] not in "，；）。" and line[-1] != "（" for line in chip.texts)


def test_a_column_of_chinese_is_not_one_character_wide() -> None:
    columns = (tables.Column("name"), tables.Column("description"))
    html = table_html(tables.Table(columns, (("a", "恢复到 one 之前的状态"),)), "x")
    assert '<td class="vmsnap-words"' in html
    html = table_html(tables.Table(columns, (("a", "课前 one"),)), "x")
    assert re.search(r"<td[^>]* white-space: nowrap", html)
