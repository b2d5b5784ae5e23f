"""What libvirt reports becomes an error of ours, also where it is no text."""

from __future__ import annotations

import pytest

from vmsnap_nb.errors import LibvirtError
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.words.message import t

pytestmark = pytest.mark.system


def garbled() -> None:
    """Fail as libvirt's library for Python does where QEMU repeats a name in a garbled file of saved memory."""
    try:
        b"section \xff".decode()
    except UnicodeDecodeError as error:
        raise SystemError("returned a result with an exception set") from error


def test_a_message_that_is_no_text_is_a_named_error() -> None:
    with pytest.raises(LibvirtError, match="not text") as failed, libvirt_errors(t("restore g")):
        garbled()
    assert "utf-8" in str(failed.value)
