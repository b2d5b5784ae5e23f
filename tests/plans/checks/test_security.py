"""Checks of what security drivers deny to QEMU, on made-up guests."""

from __future__ import annotations

from dataclasses import replace

from support.forests import forest, image

from vmsnap_nb.model.guest import Domain
from vmsnap_nb.plans.checks.security import denied_writes, not_relabelled
from vmsnap_nb.plans.facts import GuestFacts

TREE = forest(image("base", identity=(1, 1)), image("link", identity=(1, 1)), image("top", "base"))
OWNER = GuestFacts(domain=Domain("demo", "u", "running"), denied=frozenset({"/i/link"}))


def test_a_layer_that_apparmor_denies_is_refused_with_its_rule_under_any_name() -> None:
    (found,) = denied_writes(OWNER, TREE, ["/i/base", "/i/top", "/i/base"])
    assert (found.name, found.level, found.waivable) == ("no-permission", "refuse", True)
    assert (found.images, found.holders) == (("/i/base",), ("demo",))
    assert 'deny "/i/base" w' in found.what
    assert "libvirt 9.0.0" in found.what
    assert "shut demo down" in found.remedy
    assert list(denied_writes(OWNER, TREE, ["/i/top"])) == []
    assert list(denied_writes(OWNER, TREE, [])) == []


def test_rules_that_cannot_be_read_refuse_what_they_may_deny() -> None:
    unknown = replace(OWNER, denied=frozenset(), denied_unknown="no permission")
    (found,) = denied_writes(unknown, TREE, ["/i/top", "/i/top"])
    assert (found.name, found.level, found.waivable) == ("no-permission", "refuse", True)
    assert (found.images, found.holders) == (("/i/top",), ("demo",))
    assert "no permission" in found.what
    assert "waive this" in found.remedy
    assert list(denied_writes(unknown, TREE, [])) == []
    (known,) = denied_writes(replace(OWNER, denied_unknown="no permission"), TREE, ["/i/base"])
    assert "deny" in known.what


def test_libvirt_lifts_the_rules_since_12_1() -> None:
    assert list(denied_writes(replace(OWNER, libvirt_version=(12, 1, 0)), TREE, ["/i/base"])) == []
    assert len(list(denied_writes(replace(OWNER, libvirt_version=(12, 0, 9)), TREE, ["/i/base"]))) == 1


def test_new_files_that_libvirt_does_not_label_are_named() -> None:
    plain = replace(OWNER, not_relabelled=("selinux", ""))
    (found,) = not_relabelled(plain, ("/i/new",))
    assert (found.name, found.level, found.images, found.holders) == (
        "no-permission",
        "warn",
        ("/i/new",),
        ("demo",),
    )
    assert "selinux" in found.what
    assert "all security drivers" in found.what
    off = replace(plain, domain=replace(OWNER.domain, state="shut off"))
    assert list(not_relabelled(off, ("/i/new",))) == list(not_relabelled(plain, ())) == []
    assert list(not_relabelled(OWNER, ("/i/new",))) == []
