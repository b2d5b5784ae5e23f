"""Every message has a translation that is current, complete and written by the glossary.

image 镜像 · backing file 后备镜像 · base 基础镜像 · overlay 叠加层 · is based on 基于 ·
dependent overlays 依赖它的叠加层 · backing chain 镜像链 · layer 层 · active layer 活动层 ·
commit 向下合并（blockcommit） · pull 向上合并（blockpull） · revert 恢复到 · create a snapshot 创建快照 ·
internal 内部 · external 外部 · system checkpoint 系统检查点 · saved VM state 保存的虚拟机状态 ·
shared base 共享的基础镜像 · write-protected 写保护 · corrupted 已损坏 · repair 修复 · allocated 实际占用 ·
virtual size 虚拟大小 · pending 待处理 · stale 已过期 · unknown 未知 · guest 客户机 · lab 实验环境
"""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po
from support import ROOT
from support.scripts import script

from vmsnap_nb.words.language import LANGUAGES

PACKAGE = ROOT / "vmsnap_nb"
catalogues = script("catalogues")


@pytest.fixture(scope="module", params=LANGUAGES[1:])
def files(request: pytest.FixtureRequest) -> dict[Path, bytes]:
    found: dict[Path, bytes] = catalogues.current(request.param)
    return found


def messages(files: dict[Path, bytes]) -> Iterator[Message]:
    for data in files.values():
        yield from filter(lambda message: message.id, read_po(io.BytesIO(data)))


def forms(text: object) -> tuple[str, ...]:
    return tuple(text) if isinstance(text, list | tuple) else (str(text),)


def fields(text: str) -> set[str | None]:
    return {field for _, field, *_ in Formatter().parse(text) if field is not None}


def test_catalogues_are_current(files: dict[Path, bytes]) -> None:
    there = {path: path.read_bytes() for path in next(iter(files)).parent.glob("*.po")}
    assert there == files, "make words"


def test_every_message_has_a_translation_with_the_same_fields(files: dict[Path, bytes]) -> None:
    for message in messages(files):
        named = set().union(*map(fields, forms(message.id)))
        for form in forms(message.string):
            assert form, f"no translation: {message.id}"
            assert fields(form) == named, message.id


FOREIGN = ("您", "拍快照", "拉取", "实验室")
"""Words that the glossary has others for."""


def test_chinese_has_its_own_punctuation_and_the_words_of_the_glossary(files: dict[Path, bytes]) -> None:
    for message in messages(files):
        for form in forms(message.string):
            assert not any(word in form for word in FOREIGN), form
            around = ("", *form, "")
            for before, sign, after in zip(around, around[1:], around[2:], strict=False):
                if sign in ",;:?!()":
                    assert not any("\u4e00" <= one <= "\u9fff" for one in (before, after)), form


def test_templates_are_constants() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("t", "counted"):
                for template in node.args[: 2 if node.func.id == "counted" else 1]:
                    assert not isinstance(template, ast.JoinedStr | ast.BinOp), f"{path}:{node.lineno}"
            if isinstance(node, ast.JoinedStr):  # the tool that takes templates into catalogues does not look there
                calls = (one for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name))
                made = {one.func.id for one in calls if one.args and isinstance(one.args[0], ast.Constant)}
                assert made.isdisjoint({"t", "counted", "N_"}), f"{path}:{node.lineno}"
