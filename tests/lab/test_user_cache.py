"""What labs keep for those that come is in a folder that only this user can change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmsnap_nb.lab.capabilities import keep_capabilities, lend_capabilities
from vmsnap_nb.lab.user_cache import user_cache

pytestmark = [pytest.mark.quick, pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of a lab's earlier knowledge about QEMU."""
    folder = tmp_path / "user" / "cache"
    (folder / "capabilities").mkdir(parents=True, mode=0o700)
    (folder / "capabilities" / "qemu.xml").write_text("<qemuCaps/>")
    monkeypatch.setenv("VMSNAP_CACHE", str(folder))
    return folder


def lent(root: Path) -> bool:
    lend_capabilities(root)
    return (root / "cache" / "qemu" / "capabilities" / "qemu.xml").exists()


def test_it_is_used_if_it_is_ones_own_or_not_there(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_cache() == cache
    assert lent(tmp_path / "lab")
    cache.chmod(0o770)
    os.chown(cache, 0, os.getegid())
    assert user_cache() == cache  # as in the home of a user with a group of his own
    monkeypatch.setenv("VMSNAP_CACHE", str(tmp_path / "new" / "cache"))
    assert user_cache() is not None


@pytest.mark.parametrize("where", ["user", "user/cache", "user/cache/capabilities"])
@pytest.mark.parametrize(("owner", "group", "mode"), [(65534, 0, 0o755), (0, 0, 0o777), (0, 65534, 0o775)])
def test_a_folder_that_somebody_else_can_change_is_not_used(
    cache: Path, tmp_path: Path, where: str, owner: int, group: int, mode: int
) -> None:
    os.chown(tmp_path / where, owner, group)
    (tmp_path / where).chmod(mode)
    assert user_cache() is None
    assert not lent(tmp_path / "lab")
    found = tmp_path / "lab" / "cache" / "qemu" / "capabilities" / "found.xml"
    found.parent.mkdir(parents=True)
    found.write_text("<qemuCaps/>")
    keep_capabilities(tmp_path / "lab")
    assert not (cache / "capabilities" / "found.xml").exists()


def test_a_link_of_somebody_else_is_not_followed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(cache)
    monkeypatch.setenv("VMSNAP_CACHE", str(link))
    assert user_cache() == link
    (tmp_path / "round").symlink_to("round")
    monkeypatch.setenv("VMSNAP_CACHE", str(tmp_path / "round"))
    assert user_cache() is None
    monkeypatch.setenv("VMSNAP_CACHE", str(link))
    os.lchown(link, 65534, 65534)
    assert user_cache() is None
