"""A message is a template with fields, shown in the language of the user."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Literal

import pytest

import vmsnap_nb as vs
from vmsnap_nb.lab.exercises.hint import hint_of
from vmsnap_nb.model.arguments import checked
from vmsnap_nb.system.packages import install_sentence
from vmsnap_nb.words.language import VARIABLE, language, one_language, set_language
from vmsnap_nb.words.message import NOTHING, Message, clauses, counted, joined, lines, listed, t


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "en")


def test_a_message_is_text_that_keeps_its_template_and_fields() -> None:
    message = t("{image} has {count} overlays", image="a{b}", count=2)
    assert message == "a{b} has 2 overlays"
    assert (message.template, message.fields) == ("{image} has {count} overlays", {"image": "a{b}", "count": 2})
    for again in (pickle.loads(pickle.dumps(message)), copy.deepcopy(message)):
        assert isinstance(again, Message)
        assert (again, again.template, again.fields) == (message, message.template, message.fields)


def test_lists_are_those_of_the_language() -> None:
    for names, english, chinese in (
        ([], "", ""),
        (["a"], "a", "a"),
        (["a", "b"], "a and b", "a 和 b"),
        (["a", "b", "c"], "a, b and c", "a、b 和 c"),
    ):
        message = listed(names)
        assert (message, message.in_language("zh")) == (english, chinese)
    assert listed(["a", "b"], last="or").in_language("zh") == "a 或 b"
    assert joined(iter("abc")).in_language("zh") == "a、b、c"
    assert [str(clauses(parts)) for parts in ([], ["a"], ["a", "b"])] == ["", "a", "a; b"]
    assert clauses([joined("ab"), "c"]).in_language("zh") == "a、b；c"
    assert lines(["a", joined("bc")]).in_language("zh") == "a\nb、c"
    assert len(joined(["name"] * 3000).in_language("zh")) == 5 * 3000 - 1
    assert (NOTHING, NOTHING.in_language("zh")) == ("", "")


def test_commands_and_values_are_such_lists(tmp_path: Path) -> None:
    for exercise, chinese in (
        ("hand-missing-format", "使用 qemu-img info --backing-chain、qemu-img rebase -u -F。"),
        ("thin-guests", "使用 forest.overlay([…], backing=…, protect=True)。"),
    ):
        said = hint_of(exercise, 2, tmp_path).text
        assert isinstance(said, Message)
        assert said.in_language("zh") == chinese
    assert install_sentence("qemu-img").in_language("zh").count("、") == 3

    @checked
    def delete(children: Literal[False, "also"] = False) -> None:
        """Take a value of a list."""

    with pytest.raises(vs.errors.InvalidRequestError) as raised:
        delete("all")  # type: ignore[arg-type]
    assert isinstance(raised.value.why, Message)
    assert raised.value.why.in_language("zh") == "children 的值应为：False 或 'also'"


def test_fields_that_are_messages_change_their_language_too() -> None:
    inner = listed(["a", "b"])
    outer = listed([inner, "c"])
    assert (outer, outer.in_language("zh")) == ("a and b and c", "a 和 b 和 c")
    assert listed([inner.in_language("zh"), "c"]) == outer  # what was kept since another language was current


def test_chinese_has_no_space_beside_full_width_punctuation() -> None:
    several = t("{first} … {last} ({count} layers)", first="a", last="c", count=3)
    merge = t("commit {images} into {base}", images=several, base="d")
    assert (merge, merge.in_language("zh")) == ("commit a … c (3 layers) into d", "把 a … c（3 层）向下合并到 d")
    named = t("{path} is based on itself", path="（ 甲） x")
    assert named.in_language("zh") == "（ 甲） x 以自身为后备镜像"  # a name keeps its own spaces


def test_chinese_has_no_space_beside_chinese_text_but_beside_names() -> None:
    for device, shown in (
        ("a SCSI device of the host (device='lun')", "磁盘 甲 是宿主机的 SCSI 设备（device='lun'），不能有叠加层"),
        ("a vhost-user device", "磁盘 甲 是 vhost-user 设备，不能有叠加层"),
    ):
        message = t("disk {disk} is {device}, which cannot have an overlay", disk="甲", device=t(device))
        assert message.in_language("zh") == shown
    used = t(
        "QEMU cannot save the memory of {guest} because the guest uses {devices}",
        guest="b",
        devices=listed([t("a vhost-user device"), t("the host's TPM")]),
    )
    assert used.in_language("zh") == "b 使用了 vhost-user 设备和宿主机的 TPM，QEMU 无法保存其内存"


def test_a_number_chooses_its_form() -> None:
    forms = [counted("{count} layer", "{count} layers", number) for number in (0, 1, 2)]
    assert forms == ["0 layers", "1 layer", "2 layers"]


def test_what_has_no_translation_is_shown_in_english() -> None:
    assert counted("{count} xyz", "{count} xyzs", 2).in_language("zh") == "2 xyzs"


def test_the_language_is_chosen_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        vs.set_language("zh_CN.UTF-8")
        assert (vs.language(), listed("ab")) == ("zh", "a 和 b")
        vs.set_language(None)
        assert vs.language() == "en"
    finally:
        set_language(None)
    for variables, code in (
        ({VARIABLE: "zh"}, "zh"),
        ({VARIABLE: "", "LC_ALL": "zh_TW.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({}, "en"),
    ):
        for name in (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert language() == code, variables


def test_another_language_is_refused() -> None:
    with pytest.raises(vs.InvalidRequestError, match="set the language to 'fr'"):
        vs.set_language("fr")
    assert language() == "en"


def test_the_language_is_asked_for_once_where_many_messages_are_made() -> None:
    set_language("zh")
    try:
        with one_language():
            set_language("en")
            assert language() == "zh"
        assert language() == "en"
    finally:
        set_language(None)


def test_one_clause_is_the_message_itself() -> None:
    only = t("{image} is missing", image="a")
    assert clauses([only]) is only
    assert clauses(["a"]) == "a"
