"""How Sphinx makes the documentation; scripts/docs.py puts its sources together and runs it once for each language."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from chinese_search import ChineseSearch
from sphinx.application import Sphinx

from vmsnap_nb import __version__

project = "vmsnap_nb"
author = "The vmsnap_nb authors"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
locale_dirs = ["locale"]  # the few words of the theme that Sphinx does not translate
highlight_language = "none"  # figures are no code
html_theme = "furo"
html_title = f"vmsnap_nb {release}"
html_theme_options = {"top_of_page_buttons": ["view"]}  # _templates has the other language in its place
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_copyright = False
templates_path = ["_templates"]
_CODE = ("highlight-python", "highlight-ipython3", "highlight-sh", "doctest")
copybutton_selector = ", ".join(f"div.{kind} pre" for kind in _CODE)
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
add_module_names = False  # users type vs.scan, not where it is defined
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def setup(app: Sphinx) -> None:
    """Let readers of Chinese search for any word, also one without spaces around it."""
    app.add_search_language(ChineseSearch)
