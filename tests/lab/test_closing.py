"""What libvirt is told when a guest of a lab that somebody else may have made is forgotten."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vmsnap_nb.lab.closing import forget
from vmsnap_nb.system.libvirt.library import library


@pytest.mark.parametrize(("nvram", "kept"), [("elsewhere/vars", True), ("lab/vars", False), ("lab/link", True)])
def test_firmware_variables_elsewhere_stay(tmp_path: Path, nvram: str, *, kept: bool) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "link").symlink_to(tmp_path / "elsewhere")
    told: list[int] = []
    guest = SimpleNamespace(
        name="g",
        destroy=lambda: None,
        handle=SimpleNamespace(
            domain=SimpleNamespace(undefineFlags=told.append),
            definition=lambda: f"<domain><os><nvram>{tmp_path / nvram}</nvram></os></domain>",
        ),
    )
    forget(guest, tmp_path / "lab")  # type: ignore[arg-type]
    libvirt = library()
    flags = (libvirt.VIR_DOMAIN_UNDEFINE_NVRAM, libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    assert [bool(told[0] & flag) for flag in flags] == [not kept, kept]
