"""What messages tell a user to call exists, with the arguments that they name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.scripts import script

import vmsnap_nb as vs
from vmsnap_nb.course.ask import Prediction, Quiz

CALL = re.compile(r"(?:\b(\w+))?\.?\b([A-Za-z_]+)\(([^()]*)\)")
OWNERS: dict[str, tuple[Any, ...]] = {
    "chain": (vs.LiveChain,),
    "forest": (vs.LiveForest,),
    "guest": (vs.Guest,),
    "lab": (vs.Lab,),
    "report": (vs.LiveReport,),
    "vmsnap_nb": (vs,),
    "vs": (vs,),
}
ANY = (vs.Guest, vs.LivePlan, vs.LiveReport, vs.LiveForest, vs.LiveChain, vs.Lab, vs.Host, vs, Prediction, Quiz)
"""Where a call may belong whose object is not named: there the message says of what it is."""


def calls() -> Iterator[tuple[str, str, str, str]]:
    """Yield each call that a template names: the template, the name of the object, that of the call, its arguments."""
    for _, _, template in script("catalogues").messages():
        for text in (template,) if isinstance(template, str) else template:
            for owner, name, arguments in CALL.findall(text):
                yield text, owner, name, arguments


CALLS = sorted(set(calls()))


def test_there_are_calls() -> None:
    assert len(CALLS) > 50


@pytest.mark.parametrize(("text", "owner", "name", "arguments"), CALLS)
def test_a_call_of_a_message_exists(text: str, owner: str, name: str, arguments: str) -> None:
    found = [getattr(place, name) for place in OWNERS.get(owner, ANY) if hasattr(place, name)]
    assert found, text
    wanted = re.findall(r"(\w+)=", arguments)
    parameters = [set(inspect.signature(one).parameters) for one in found]
    assert any(parameters_of.issuperset(wanted) for parameters_of in parameters), text
