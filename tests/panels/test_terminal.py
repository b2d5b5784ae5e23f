"""The terminal's part in Python: xterm.js is the version that was chosen, and is read when a terminal is opened."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from importlib import resources

XTERM = {
    "xterm.mjs": "3fd3d0046d2604ea5860235e2f96625a2fab158dcf3d4cfb0f7c1655559a5d9a",
    "xterm.css": "854a7c0fb70e8b1a083c16797ab827299fb18744f5ad34f227b48337e33293c6",
}


def test_xterm_is_the_version_that_was_chosen_with_its_licence() -> None:
    folder = resources.files("vmsnap_nb.panels") / "xterm"
    for name, digest in XTERM.items():
        assert sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "The xterm.js authors" in (folder / "LICENSE").read_text()


def test_it_is_read_when_a_terminal_is_opened() -> None:
    code = """
import vmsnap_nb.panels.lab
from vmsnap_nb.panels import terminal
assert terminal._module.cache_info().currsize == 0
text = terminal._module()
assert "XtermTerminal=" in text and "export{" not in text
"""
    subprocess.run([sys.executable, "-c", code], check=True)
