"""Numbers and sizes that cannot be are refused before anything happens, and the error states the rule."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.number import check_bandwidth, check_images, check_seconds, whole_number
from vmsnap_nb.model.size import in_bytes

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("wrong", [1.5, 2**63, "10", NAN, -1, True, None, INFINITE, [1], 1.0])
def test_a_bandwidth_is_a_whole_number_of_bytes(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="bandwidth must be a whole number of bytes per second, 0 or more"):
        check_bandwidth(wrong)


def test_numbers_that_are_meant_are_taken() -> None:
    assert check_bandwidth(0) == 0
    assert check_bandwidth(2**63 - 1) == 2**63 - 1
    assert check_bandwidth(np.int64(7)) == 7
    assert check_seconds(0) == 0
    assert check_seconds(np.float64(0.5)) == 0.5
    assert check_seconds(Decimal("1.5")) == 1.5
    assert check_images(1) == 1


@pytest.mark.parametrize("wrong", ["3", NAN, -1, -0.5, True, None, INFINITE, 1e300, 10**400, b"3", [], 2j])
def test_a_time_is_a_number_of_seconds(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="timeout must be a number of seconds, 0 or more"):
        check_seconds(wrong)


def test_a_limit_is_not_zero() -> None:
    with pytest.raises(InvalidRequestError, match="timeout must be a number of seconds, greater than 0"):
        check_seconds(0, above_zero=True)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_chain_keeps_one_image_or_more(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match="keep must be a whole number of images, 1 or more"):
        check_images(wrong)


def test_what_is_too_large_is_told_so() -> None:
    with pytest.raises(InvalidRequestError, match=r"less than 2\*\*63"):
        whole_number(2**63, "size", "bytes")
    with pytest.raises(InvalidRequestError, match="at most 1,000,000,000"):
        check_seconds(10**10)


@pytest.mark.parametrize("text", ["10 GiB", "10GiB", "10G", " 10 gib ", "10240M"])
def test_a_size_has_a_unit(text: str) -> None:
    assert in_bytes(text) == 10 << 30


@pytest.mark.parametrize("wrong", [-1, 1.5, NAN, True, None, "10 GX", "-5M", "", b"1M"])
def test_what_is_no_size_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="a size must be a whole number of bytes, 0 or more"):
        in_bytes(wrong)


@pytest.fixture(scope="module")
def guest() -> vs.Guest:
    return vs.connect("test:///default").guest("test")


VERBS: dict[str, Callable[[vs.Guest], object]] = {
    "bandwidth of commit": lambda guest: guest.commit(bandwidth=1.5),  # type: ignore[arg-type]
    "timeout of commit": lambda guest: guest.commit(timeout="3"),  # type: ignore[arg-type]
    "bandwidth of pull": lambda guest: guest.pull(bandwidth=2**63),
    "timeout of pull": lambda guest: guest.pull(timeout=NAN),
    "timeout of start": lambda guest: guest.start(timeout=-1),
    "timeout of wait_ready": lambda guest: guest.wait_ready(timeout=NAN),
    "timeout of shutdown": lambda guest: guest.shutdown(timeout="3"),  # type: ignore[arg-type]
    "timeout of execute": lambda guest: guest.execute("true", timeout=True),
}


@pytest.mark.system
@pytest.mark.parametrize("what", VERBS)
def test_verbs_check_their_numbers_first(guest: vs.Guest, what: str) -> None:
    name, _, _ = what.partition(" ")
    with pytest.raises(InvalidRequestError, match=f"{name} must be a"):
        VERBS[what](guest)
    assert guest.state == "running"
