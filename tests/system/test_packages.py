"""What is missing is named with what installs it."""

from __future__ import annotations

from vmsnap_nb.system.packages import how_to_install, missing_part


def test_parts_name_what_to_install() -> None:
    for part in ("qemu-system", "qemu-img", "libvirt-qemu-driver", "libvirt-python"):
        assert len(how_to_install(part).splitlines()) == 4
        assert "apt install" in str(missing_part(part, "try"))
