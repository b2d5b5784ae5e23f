"""The scripts that guests run at their start."""

from __future__ import annotations

import subprocess


def test_the_scripts_of_the_guest_are_in_order() -> None:
    from importlib import resources

    for script in resources.files("vmsnap_nb.lab").joinpath("boot").iterdir():
        subprocess.run(["sh", "-n"], input=script.read_bytes(), check=True)
