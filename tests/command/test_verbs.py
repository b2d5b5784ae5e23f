"""The table of verbs offers what the public functions take, and each verb becomes a call of one of them."""

from __future__ import annotations

import inspect

import pytest

from vmsnap_nb.command.given import passed
from vmsnap_nb.command.verbs import VERBS, Verb
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.guest import Guest

CASES = [
    (verb, kind, name) for verb in VERBS for kind, name in ((LiveForest, verb.images), (Guest, verb.guest)) if name
]


@pytest.mark.parametrize(("verb", "kind", "name"), CASES, ids=lambda case: getattr(case, "name", str(case)))
def test_a_verb_offers_all_parameters_of_its_function(verb: Verb, kind: type, name: str) -> None:
    parameters = [p for p in inspect.signature(getattr(kind, name)).parameters.values() if p.name != "self"]
    of_guest = kind is Guest
    offered = {
        given.guest_name if of_guest and given.guest_name else given.name: given
        for given in verb.givens
        if given.name not in ("folder", "guest") and given.only in ("", "guest" if of_guest else "images")
    }
    assert offered.keys() == {parameter.name for parameter in parameters}
    for parameter in parameters:
        given = offered[parameter.name]
        # What turns something off is on by default, and any other flag is off.
        assert (parameter.default is True) == given.off, parameter.name


def test_what_was_not_given_is_left_to_the_function() -> None:
    shorten = next(verb for verb in VERBS if verb.name == "shorten")
    values = {"image": "top", "keep": ("2",), "remove": False, "verify": True, "disk": None}
    assert passed(shorten.givens, values, guest=False) == {"image": "top", "keep": 2, "verify": True}
    assert passed(shorten.givens, {"keep": ("a", "b")}, guest=False) == {"keep": ("a", "b")}


def test_values_are_converted() -> None:
    def call(name: str, **values: object) -> dict[str, object]:
        verb = next(verb for verb in VERBS if verb.name == name)
        return passed(verb.givens, values, guest=bool(verb.guest))

    assert call("snapshot", disks=("vda", "vdb")) == {"disks": ("vda", "vdb")}
    assert call("snapshot", disks=("vda=no", "vdb=internal"))["disks"] == {"vda": "no", "vdb": "internal"}
    assert call("snapshot", metadata=True) == {"metadata": False}
    assert call("revert", keep_current=True) == {"keep_current": False}
    assert call("pull", image="top") == {"into": "top"}
    assert call("remove", method="2") == {"method": 2}
