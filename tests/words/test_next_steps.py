"""Every error that is raised on purpose says what to do next, and that of libvirt for each of its numbers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vmsnap_nb
from vmsnap_nb import errors
from vmsnap_nb.errors import LibvirtError, NotFoundError, PermissionDeniedError
from vmsnap_nb.system.libvirt.errors import from_libvirt, has_own_step
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.words.language import set_language
from vmsnap_nb.words.message import t

PACKAGE = Path(vmsnap_nb.__file__).parent
KINDS = set(errors.__all__) - {"ConcernWarning", "PlanRefusedError"}
BY_THE_CALLER = {
    "lab/cpio.py",  # make_boot_files
    "lab/initrd.py",
    "lab/kernel.py",
    "lab/elf.py",  # find_agent
    "playground/questions.py",  # a defect of the page
}
"""Where an error is raised that gets its next step from the only caller."""


def without_step(path: Path) -> list[int]:
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    raised = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in KINDS]
    return [call.lineno for call in raised if not {word.arg for word in call.keywords} & {"next_step", None}]


def waivers_in_vain(path: Path) -> list[int]:
    """Return the lines of refusals that tell a user to waive them, and cannot be waived."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    told = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "refuse" and _waives(call)]
    return [call.lineno for call in told if "waivable" not in {word.arg for word in call.keywords}]


def _waives(call: ast.Call) -> bool:
    words = (node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return any("waive" in text for text in words)


def test_what_a_user_is_told_to_waive_can_be_waived() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): waivers_in_vain(path) for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_error_says_what_to_do_next() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): without_step(path) for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines and name not in BY_THE_CALLER} == {}
    assert {name for name, lines in found.items() if lines} >= BY_THE_CALLER


@pytest.mark.system
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_number_of_libvirt_has_a_next_step(language: str) -> None:
    libvirt = library()
    names = [name for name in vars(libvirt) if name.startswith("VIR_ERR_") and name != "VIR_ERR_OK"]
    set_language(language)
    try:
        for name in names:
            error = from_libvirt(t("start g"), "no more is said", getattr(libvirt, name))
            assert error.next_step, name
            assert error.next_step.isascii() == (language == "en"), name
    finally:
        set_language(None)


@pytest.mark.system
@pytest.mark.parametrize(
    ("name", "said", "kind", "step", "own"),
    [
        ("NO_DOMAIN", "Domain not found", NotFoundError, "virsh list --all", False),
        ("NO_CONNECT", "no connection driver", LibvirtError, "check the URI", False),
        ("AUTH_FAILED", "authentication failed", PermissionDeniedError, "another account", True),
        ("ACCESS_DENIED", "access denied", PermissionDeniedError, "another account", True),
        ("OPERATION_UNSUPPORTED", "Operation not supported", LibvirtError, "virsh version", False),
        ("OPERATION_TIMEOUT", "Timed out during operation", LibvirtError, "try again", False),
        ("OPERATION_INVALID", "domain is not running", LibvirtError, "virsh domstate", False),
        ("INTERNAL_ERROR", "internal error: it is so", LibvirtError, "journalctl", False),
        ("INTERNAL_ERROR", "internal error: No space left on device", errors.NoSpaceError, "free space", True),
    ],
)
def test_the_next_step_is_of_that_error(
    name: str, said: str, kind: type[errors.VmsnapError], step: str, own: bool
) -> None:
    error = from_libvirt(t("start g"), said, getattr(library(), f"VIR_ERR_{name}"))
    assert type(error) is kind
    assert step in (error.next_step or "")
    assert has_own_step(error) is own
