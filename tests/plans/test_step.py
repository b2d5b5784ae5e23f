"""Steps: what each kind says of itself holds for its fields."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Iterator

import pytest

import vmsnap_nb.plans
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.plans.snapshot.steps import RestoreState, SaveState
from vmsnap_nb.plans.step import CreateOverlay, GuestRef, PathOf, PathsOf, Step

GUEST = GuestRef("demo", "8c2b7e2a-1c7e-4a4e-9a57-0c3b5a3d6d11", "qemu:///system")


def below(kind: type[Step]) -> Iterator[type[Step]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def kinds() -> list[type[Step]]:
    for module in pkgutil.walk_packages(vmsnap_nb.plans.__path__, "vmsnap_nb.plans."):
        if module.name.endswith("steps"):
            importlib.import_module(module.name)
    # A dataclass with slots is made anew; the class without them may still be among the subclasses.
    return sorted({each for each in below(Step) if "__slots__" in vars(each)}, key=lambda each: each.__name__)


def type_of(kind: type, field: str) -> object:
    first, _, rest = field.partition(".")
    hints = typing.get_type_hints(kind)
    hint = hints[first] if first in hints else typing.get_type_hints(getattr(kind, first).fget)["return"]
    return type_of(hint, rest) if rest else hint


def declared(wanted: type) -> list[tuple[type[Step], str]]:
    return [(kind, value.field) for kind in kinds() for value in vars(kind).values() if isinstance(value, wanted)]


@pytest.mark.parametrize(("kind", "field"), declared(PathOf))
def test_path_of_names_a_field_with_one_path(kind: type[Step], field: str) -> None:
    assert type_of(kind, field) in (str, str | None)


@pytest.mark.parametrize(("kind", "field"), declared(PathsOf))
def test_paths_of_names_a_field_with_paths(kind: type[Step], field: str) -> None:
    assert type_of(kind, field) in (str, str | None, tuple[str, ...])


@pytest.mark.parametrize("kind", kinds())
def test_kinds_are_frozen_and_take_keywords_alone(kind: type[Step]) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(kind))


@pytest.mark.parametrize("kind", [each for each in kinds() if not each.__subclasses__()])
def test_kinds_say_what_they_do(kind: type[Step]) -> None:
    for name in ("action", "what"):
        said = getattr(kind, name)
        assert said is not getattr(Step, name)
        assert isinstance(said, str | property)


def test_paths_are_those_of_the_fields() -> None:
    overlay = CreateOverlay(path="/i/new", backing=parse_reference("base", folder="/i", format="raw"))
    assert (overlay.creates, overlay.image, overlay.writes) == (("/i/new",), "/i/new", ())
    assert (SaveState(guest=GUEST, path="/m").creates, SaveState(guest=GUEST).creates) == (("/m",), ())
    assert (RestoreState(guest=GUEST, path="/m").image, RestoreState(guest=GUEST).image) == ("/m", "")


def test_a_guest_reads_as_its_name() -> None:
    assert f"{GUEST}" == "demo"
    assert SaveState(guest=GUEST).what == "save the memory and device state of demo, which is then off"
