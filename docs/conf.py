"""How the documentation is built: `make docs`. Nothing is executed and nothing is fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

from vmsnap_nb import __version__

HERE = Path(__file__).parent

# Sphinx reads only what is below this folder; the notebooks are shown as they were saved.
shutil.rmtree(HERE / "course", ignore_errors=True)
for saved in (HERE.parent / "notebooks").glob("**/[0-9]*.ipynb"):
    target = HERE / "course" / saved.relative_to(HERE.parent / "notebooks")
    target.parent.mkdir(parents=True, exist_ok=True)
    # It knows no attachments; those are pictures of this folder.
    up = "../" * len(saved.relative_to(HERE.parent / "notebooks").parts)
    target.write_text(saved.read_text(encoding="utf-8").replace("(attachment:", f"({up}images/"), encoding="utf-8")

project = "vmsnap_nb"
author = "the authors of vmsnap_nb"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
highlight_language = "none"  # figures are no code
html_theme = "alabaster"
html_theme_options = {
    "description": "Virtual machine snapshots, seen, planned and done",
    "page_width": "min(1500px, 96vw)",
    "fixed_sidebar": True,
    "body_max_width": "none",  # figures are wide; _static/custom.css keeps the text narrow
}
html_static_path = ["_static"]
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
add_module_names = False  # users type vs.scan, not where it is defined
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
