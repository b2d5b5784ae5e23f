"""An error tells its own diagnosis from the words of another program."""

from __future__ import annotations

import pytest

import vmsnap_nb as vs
from vmsnap_nb.words.message import t


@pytest.mark.parametrize(
    "kind", [vs.VmsnapError, vs.InvalidRequestError, vs.InUseError, vs.CommandError, vs.LibvirtError]
)
def test_an_error_says_what_why_and_what_next(kind: type[vs.VmsnapError]) -> None:
    own = kind("commit a", why="b is\nbased on it", next_step="choose b")
    assert str(own) == "cannot commit a\n  why:  b is\n        based on it\n  next: choose b"
    quoted = kind("commit a", said="Image is locked")
    assert str(quoted) == "cannot commit a\n  said: Image is locked"
    assert [own.reason, quoted.reason, kind("x").reason] == ["b is\nbased on it", "Image is locked", ""]
    assert [own.said, own.quoted] == ["b is\nbased on it", None]
    assert [quoted.said, quoted.quoted] == ["Image is locked", "Image is locked"]


def test_in_chinese_a_space_is_only_before_what_is_not_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMSNAP_LANG", "zh")
    tried = t("read {file}", file="a")
    headlines = {vs.VmsnapError(one).headline for one in (tried, str(tried), t("{text}", text=tried))}
    assert headlines == {"无法读取 a"}
    assert vs.VmsnapError("map a").headline == "无法 map a"
